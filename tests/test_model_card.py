"""The scores and times that the model card of the bundled model reports."""

import re

from conftest import ROOT

from lxmert.lab.default_model import _CARD as TEMPLATE

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


def test_accuracy_is_far_above_the_question_only_baseline() -> None:
    assert number(row("overall")[1]) >= 85
    for question_type in QUESTION_TYPES:
        _, accuracy, baselines, _ = row(question_type)
        assert number(accuracy) >= number(baselines) + 20, question_type
    assert number(row("overall")[3]) >= number(row("overall")[1]) - 5, "compositional scenes"
    assert re.search(r"Accuracy on 42,607 questions about 1,000 test scenes", CARD)


def test_the_detector_finds_the_objects() -> None:
    assert number(row("found at IoU 0.5")[1]) >= 95


def test_every_objective_of_pretraining_beats_chance() -> None:
    rows = [r for r in ROWS if r[0].startswith(("masked", "text and image", "question answering"))]
    assert len(rows) == OBJECTIVES
    for name, accuracy, chance in rows:
        assert number(accuracy) >= number(chance) + 4, name
    error, mean = map(float, re.findall(r"distance ([\d.]+), against ([\d.]+)", CARD)[0])
    assert error < 0.8 * mean


def test_answering_is_fast() -> None:
    assert number(row("`lxmert ask`")[1]) < 8
    assert number(row("answering after loading")[1]) < 0.5
    assert number(row("`lxmert --help`")[1]) <= 0.3


def test_the_card_matches_the_template_that_writes_it() -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    fields = re.split(r"\{\{.+?\}\}|\{%.+?%\}\n", template)
    assert len(fields) > 30
    assert re.fullmatch("(?:.|\n)*?".join(map(re.escape, fields)), CARD)
