"""What `lxmert check` tells about custom data without training."""

import json
from pathlib import Path

import pytest
from conftest import Command
from squares import read_lines, write_lines, write_squares

from lxmert.workflows.data_check import RARE, check_custom


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images for training, ten for the test; a word, an answer and an image are odd."""
    world = write_squares(tmp_path_factory.mktemp("check") / "world", 30)
    lines = [{"question_type": "other"} | line for line in read_lines(world / "train.jsonl")]
    write_lines(world / "train.jsonl", lines[:60])
    odd = {"image": "20.png", "question": "what hue is it?", "answer": "teal"}
    leak = {"image": "3.png", "question": "is it red?", "answer": "yes"}
    write_lines(world / "test.jsonl", [*lines[60:], odd, leak, leak | {"image": "99.png"}])
    return world


def test_types_answers_and_words_are_counted(world: Path) -> None:
    files = {"train": world / "train.jsonl", "test": world / "test.jsonl"}
    facts = check_custom(files, images=world / "images")
    types = {(each.split, each.name): each for each in facts.types}
    train, test = types["train", "color"], types["test", "overall"]
    assert (train.questions, train.answers, train.majority) == (20, 3, "red")
    assert train.majority_share == pytest.approx(7 / 20)
    assert train.question_only is None
    assert (test.questions, test.answers) == (32, 7)
    # Of the ten images all "how many?", the red ones' color, and "is it red?" of the others.
    colors = [line["answer"] for line in read_lines(world / "test.jsonl")[:30:3]]
    right = 10 + colors.count("red") + sum(color != "red" for color in colors)
    assert test.question_only == pytest.approx(right / 32)
    assert facts.answers == {"1": 20, "no": 13, "red": 7, "yes": 7, "blue": 7, "green": 6}
    assert facts.rare == []
    words = {each.split: each for each in facts.words}
    assert (words["train"].unknown, words["test"].unknown) == ([], ["hue"])
    assert words["test"].questions == 1


def test_the_command_shows_it_and_ends_as_training_would(
    world: Path, tmp_path: Path, lxmert: Command
) -> None:
    command = ("check", world / "train.jsonl", "--images", world / "images")
    shown = lxmert(*command, "--test", world / "test.jsonl")
    assert shown.code == 0
    assert "images shared by several splits: 1" in shown.out
    assert "images that do not exist: 1" in shown.out
    assert "test: 8 different words, 1 unknown in 1 question: hue" in shown.out
    assert lxmert(*command, "--test", world / "test.jsonl", "--strict").code == 1
    assert lxmert(*command, "--strict").code == 0
    report = json.loads(lxmert(*command, "--json").out)
    assert set(report) == {"findings", "splits", "types", "words", "answers", "rare"}
    one = write_lines(tmp_path / "one.jsonl", [{"image": "1.png", "question": "?", "answer": "a"}])
    stopped = lxmert("check", one)
    assert (stopped.code, "the only answer in training is 'a'" in stopped.out) == (2, True)
    assert lxmert("check", tmp_path / "nothing.jsonl").code == 2


def test_the_words_and_answers_of_a_model_count_where_one_is_named(world: Path) -> None:
    facts = check_custom({"train": world / "train.jsonl"}, model="src/lxmert/default")
    assert [finding.kind for finding in facts.report.findings] == []
    assert facts.words[0].unknown == []


def test_rare_answers_are_named(world: Path, tmp_path: Path) -> None:
    lines = read_lines(world / "train.jsonl")
    odd = [lines[0] | {"answer": "mauve", "image": f"{n}.png"} for n in range(RARE - 1)]
    facts = check_custom({"train": write_lines(tmp_path / "t.jsonl", [*lines, *odd])})
    assert facts.rare == ["mauve"]


def test_lines_count_in_their_own_split(world: Path, tmp_path: Path) -> None:
    """Bug: training lines of a file of validation questions counted there too."""
    lines = read_lines(world / "train.jsonl")
    marked = [line | {"split": "val" if n >= 48 else "train"} for n, line in enumerate(lines)]
    path = write_lines(tmp_path / "both.jsonl", marked)
    facts = check_custom({"train": world / "train.jsonl", "valid": path})
    numbers = {each.split: each.questions for each in facts.types if each.name == "overall"}
    assert numbers["valid"] == 12
