"""Two files of predictions are compared on the same questions."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from squares import write_lines

from lxmert.metrics.intervals import binomial_p_value


def write(folder: Path, *, same_image: bool) -> None:
    """Write 60 questions; the first file answers 50 correctly, the second 35."""
    questions, first, second = [], [], []
    for number in range(60):
        question_id = f"q{number}"
        questions.append(
            {
                "question_id": question_id,
                "image": f"{number // 5 if same_image else number}.png",
                "question": "what is it?",
                "answer": "cat",
                "question_type": "early" if number < 20 else "late",
            }
        )
        first.append({"question_id": question_id, "answer": "cat" if number >= 10 else "dog"})
        second.append({"question_id": question_id, "answer": "cat" if number < 35 else "dog"})
    write_lines(folder / "q.jsonl", questions)
    write_lines(folder / "a.jsonl", first)
    write_lines(folder / "b.jsonl", second)


def run(lxmert: Command, folder: Path, *options: object):  # type: ignore[no-untyped-def]
    files = (folder / "a.jsonl", folder / "b.jsonl", "--data", folder / "q.jsonl")
    return lxmert("compare", *files, *options)


def test_a_comparison_by_question_type(lxmert: Command, tmp_path: Path) -> None:
    write(tmp_path, same_image=False)
    done = run(lxmert, tmp_path, "-o", tmp_path / "c.json")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "c.json").read_text())
    assert list(report["rows"]) == ["overall", "early", "late"]
    overall = report["rows"]["overall"]
    assert (overall["first"], overall["second"]) == (50 / 60, 35 / 60)
    assert (overall["only_first"], overall["only_second"], overall["count"]) == (25, 10, 60)
    assert overall["p_value"] == pytest.approx(binomial_p_value(25, 10))
    assert overall["difference"] == pytest.approx(0.25)
    assert overall["low"] < 0.25 < overall["high"]
    assert report["rows"]["early"]["difference"] == -0.5
    for text in ("83.3%", "58.3%", "+25.0", "early", "-50.0", "A difference of one point"):
        assert text in done.out
    assert json.loads(run(lxmert, tmp_path, "--json").out) == report


def test_questions_about_the_same_image_widen_the_interval(lxmert: Command, tmp_path: Path) -> None:
    widths = []
    for same_image in (False, True):
        write(tmp_path, same_image=same_image)
        row = json.loads(run(lxmert, tmp_path, "--json").out)["rows"]["overall"]
        widths.append(row["high"] - row["low"])
    assert widths[1] > 1.5 * widths[0]
    assert np.isfinite(widths).all()


def test_predictions_for_other_questions_are_refused(lxmert: Command, tmp_path: Path) -> None:
    write(tmp_path, same_image=False)
    lines = (tmp_path / "b.jsonl").read_text().splitlines()
    (tmp_path / "b.jsonl").write_text("\n".join(lines[1:]))
    done = run(lxmert, tmp_path, "-o", tmp_path / "c.json")
    assert (done.code, done.out) == (2, "")
    assert "b.jsonl lacks 1 of the 60 questions" in done.err
    assert not (tmp_path / "c.json").exists()
    assert run(lxmert, tmp_path, "-o", tmp_path / "a.jsonl").code == 2
