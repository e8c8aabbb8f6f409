"""The promises about the bundled model, read from its card; the card is written by its recipe."""

import re

from conftest import ROOT

CARD = (ROOT / "src/lxmert/default/README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in CARD.splitlines()
    if line.startswith("| ")
]
QUESTION_TYPES = (
    "color", "compare", "count", "exist", "material", "place", "relation", "same", "share", "size",
    "two-step", "what",
)  # fmt: skip
OBJECTIVES = 5


def number(cell: str) -> float:
    return float(cell.rstrip("%"))


def row(start: str) -> list[str]:
    (found,) = [cells for cells in ROWS if cells[0].startswith(start)]
    return found


def test_answers_are_right_and_far_from_blind() -> None:
    assert number(row("overall")[1]) >= 85
    for question_type in QUESTION_TYPES:
        _, accuracy, baselines, _ = row(question_type)
        assert number(accuracy) >= number(baselines) + 20, question_type
    assert number(row("overall")[3]) >= number(row("overall")[1]) - 5, "compositional scenes"
    assert re.search(r"Accuracy on 42,607 questions about 1,000 test scenes", CARD)


def test_the_extractor_find_the_objects() -> None:
    assert number(row("found at IoU 0.5")[1]) >= 95


def test_every_objective_of_pretraining_beats_chance() -> None:
    rows = [r for r in ROWS if r[0].startswith(("masked", "text and image", "question answering"))]
    assert len(rows) == OBJECTIVES
    for name, accuracy, chance in rows:
        assert number(accuracy) >= number(chance) + 4, name
    error, mean = map(float, re.findall(r"distance ([\d.]+), against ([\d.]+)", CARD)[0])
    assert error < 0.8 * mean


def test_answering_is_quick() -> None:
    assert number(row("`lxmert ask`")[1]) < 8
    assert number(row("answering after loading")[1]) < 0.5
    assert number(row("`lxmert --help`")[1]) <= 0.3
