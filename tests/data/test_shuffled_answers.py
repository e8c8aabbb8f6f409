"""Questions with shuffled answers."""

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import Command

LINES = [
    {
        "image": f"{number}.png",
        "question": f"What color is ball {number}?",
        **({"answers": {"red": 0.3, "pink": 0.6}} if number % 3 else {"answer": f"hue {number}"}),
        "boxes": [[0, 0, 5, 5]],
    }
    for number in range(60)
]


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answers_of(line: dict[str, object]) -> str:
    return json.dumps([line.get("answer"), line.get("answers")], sort_keys=True)


def test_answers_move_and_everything_else_stays(lxmert: Command, tmp_path: Path) -> None:
    unanswered = {"image": "60.png", "question": "What is it?"}
    path = write(tmp_path / "questions.jsonl", [unanswered, *LINES])
    output = tmp_path / "shuffled.jsonl"
    done = lxmert("data", "shuffle", path, "-o", output, "--seed", 3)
    assert done.code == 0, done.err
    found = [json.loads(line) for line in output.open()]
    kept = [{k: v for k, v in line.items() if not k.startswith("answer")} for line in LINES]
    assert [{k: v for k, v in line.items() if not k.startswith("answer")} for line in found] == kept
    assert Counter(map(answers_of, found)) == Counter(map(answers_of, LINES))
    pairs = list(zip(found, LINES, strict=True))
    moved = sum(answers_of(line) != answers_of(old) for line, old in pairs)
    assert moved > 20
    assert f"60 questions, {moved} of them with another answer" in done.out
    again = tmp_path / "again.jsonl"
    assert lxmert("data", "shuffle", path, "-o", again, "--seed", 4).code == 0
    assert again.read_text() != output.read_text()


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_answers_are_one_sentence(lxmert: Command, tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "questions.jsonl", [{"image": "1.png", "question": "What?"}])
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in LINES[:number])
    done = lxmert("data", "shuffle", path, "-o", tmp_path / "out.jsonl")
    assert done.code == 2
    assert "with an answer: expected at least two" in done.err
    assert not (tmp_path / "out.jsonl").exists()
