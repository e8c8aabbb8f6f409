"""What is told after training on custom data: scores by type beside guessing, and the page."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from squares import read_lines, settings, write_lines, write_squares

from lxmert.schema import Answer, Example
from lxmert.tasks.baselines import Baselines
from lxmert.templates import fill
from lxmert.workflows import run_report
from lxmert.workflows.run_report import (
    WrongAnswer,
    advise,
    find_worst,
    next_commands,
    score_by_type,
)


def ask(number: int, answer: str, kind: str) -> Example:
    return Example(str(number), f"{kind}?", (f"{number // 2}.png",), {answer: 1.0}, kind)


TRAINING = [ask(0, "red", "color"), ask(1, "red", "color"), ask(2, "yes", "exists")]


def test_types_are_compared_with_guessing_on_the_same_questions():
    """Of colors the model knows all and the baseline half; of the others both know the same."""
    examples = [ask(n, ("red", "blue")[n % 2], "color") for n in range(60)]
    examples += [ask(n, ("yes", "no")[n % 2], "exists") for n in range(60, 120)]
    predictions = [next(iter(e.answers)) for e in examples[:60]] + ["yes"] * 60
    overall, color, exists = score_by_type(examples, predictions, Baselines.learn(TRAINING))
    assert [s.name for s in (overall, color, exists)] == ["overall", "color", "exists"]
    assert (color.questions, color.accuracy.mean, color.question_only) == (60, 1.0, 0.5)
    assert (exists.accuracy.mean, exists.question_only, exists.gain.mean) == (0.5, 0.5, 0)
    assert (color.is_weak, exists.is_weak, overall.is_weak) == (False, True, False)
    assert overall.accuracy.low <= 0.75 <= overall.accuracy.high
    advice = advise([overall, color, exists], num_images=30, is_grid=True)
    assert advice[0] == "not clearly better than guessing without the image: question types exists"
    assert "more images may help: the training has 30 images" in advice
    assert "too few validation questions to tell: exists" in advice
    assert advise([overall, color], num_images=30, is_grid=True) == []
    assert any("a detector trained on boxes" in line for line in advice)
    told = advise([exists], num_images=5000, is_grid=False)
    assert not any("more images" in line or "detector" in line for line in told)


def test_intervals_resample_images_and_not_questions():
    """With all questions of an image alike, twenty questions an image tell no more than one."""
    images = [Example(str(n), "q", (f"{n}.png",), {"red": 1.0}, "t") for n in range(20)]
    predictions = [("red", "blue")[n % 2] for n in range(20)]
    baselines = Baselines.learn(TRAINING)
    one = score_by_type(images, predictions, baselines)[0].accuracy
    many = score_by_type(images * 20, predictions * 20, baselines)[0].accuracy
    assert many.high - many.low == pytest.approx(one.high - one.low, abs=0.03)


def test_the_worst_are_the_most_confident_wrong_answers():
    examples = [ask(n, "red", "color") for n in range(30)]
    answers = [Answer("red" if n < 10 else "blue", n / 30) for n in range(30)]
    assert [e.example_id for e, _ in find_worst(examples, answers)] == [
        str(n) for n in range(29, 19, -1)
    ]


def test_texts_cannot_break_out_of_the_page():
    bad = '<script>alert("1")</script>'
    example = Example("1", bad, (f"{bad}.png",), {bad: 1.0}, bad)
    scores = score_by_type([example], [bad], Baselines.learn(TRAINING))
    wrong = WrongAnswer(example, Answer(bad, 0.3), bad, np.zeros((900, 30, 3), np.uint8))
    page = fill(
        run_report._TEMPLATE, title=bad, scores=scores, advice=[bad], worst=[wrong], commands=[bad]
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_commands_quote_what_a_shell_would_split():
    command = next_commands(Path("my runs/own"), Path("photos"))[2]
    assert command == "lxmert evaluate 'my runs/own' --data TEST.jsonl --images photos"


@pytest.mark.long
def test_a_run_ends_with_a_report_that_agrees_with_evaluate(
    tmp_path: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it was interrupted before the report, the same command makes it."""
    monkeypatch.chdir(tmp_path)
    world = write_squares(tmp_path / "world", 40)
    lines = read_lines(world / "train.jsonl")
    write_lines(world / "train.jsonl", lines[:60])
    write_lines(world / "valid.jsonl", lines[60:])
    data = [f"data.{key}=world/{name}" for key, name in
            (("train", "train.jsonl"), ("valid", "valid.jsonl"), ("images", "images"))]  # fmt: skip
    command = ("train", "custom", "-o", "run", *settings(*data))
    assert lxmert(*command).code == 0
    report = json.loads(Path("run/report.json").read_text())
    options = ("--data", "world/valid.jsonl", "--images", "world/images", "--json")
    best = "run/best" if Path("run/best").is_dir() else "run"
    evaluated = json.loads(lxmert("evaluate", best, *options).out)
    assert report["overall"]["accuracy"] == pytest.approx(evaluated["accuracy"]["overall"])
    assert report["overall"]["question_only"] == pytest.approx(
        evaluated["question_only"]["overall"]
    )
    assert report["overall"]["questions"] == 60
    page = Path("run/report.html").read_text()
    assert page.count("<figure>") == 10
    Path("run/report.html").unlink()
    assert lxmert(*command).code == 0
    assert Path("run/report.html").read_text() == page
