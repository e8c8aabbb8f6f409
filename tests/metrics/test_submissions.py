"""Submission files: their form, and what is refused before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxmert.metrics.gqa_files import read_gqa_predictions
from lxmert.metrics.nlvr2 import read_nlvr2_predictions
from lxmert.metrics.submissions import (
    write_gqa_submission,
    write_nlvr2_submission,
    write_vqa_submission,
)
from lxmert.metrics.vqa import read_vqa_results


def test_the_forms_of_the_leaderboards(tmp_path: Path) -> None:
    path = tmp_path / "submission"
    write_vqa_submission(path, {5: "red", 3: ""}, question_ids=[3, 5])
    assert path.read_text() == (
        '[{"question_id": 3, "answer": ""}, {"question_id": 5, "answer": "red"}]'
    )
    write_gqa_submission(path, {"05": "red", "3": "a bag"}, question_ids=["3", "05"])
    assert path.read_text() == (
        '[{"questionId": "3", "prediction": "a bag"}, {"questionId": "05", "prediction": "red"}]'
    )
    write_nlvr2_submission(
        path, {"dev-1-0-0": False, "dev-1-1-0": True}, identifiers=["dev-1-1-0", "dev-1-0-0"]
    )
    assert path.read_bytes() == b"dev-1-1-0,True\ndev-1-0-0,False\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_read_by_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "submission"
    answers = {7: 'say "né"\n', 9: "2"}
    write_vqa_submission(path, answers, question_ids=answers)
    assert read_vqa_results(path) == answers
    predictions = {"7": 'say "né"', "9": "2"}
    write_gqa_submission(path, predictions, question_ids=predictions)
    assert read_gqa_predictions(path) == predictions
    truths = {"dev-1-0-0": False, "dev-1-1-0": True}
    write_nlvr2_submission(path, truths, identifiers=truths)
    assert read_nlvr2_predictions(path) == truths


Write = Callable[[Path, Any], None]


def vqa(path: Path, answers: Any) -> None:
    write_vqa_submission(path, answers, question_ids=[3, 5])


def gqa(path: Path, predictions: Any) -> None:
    write_gqa_submission(path, predictions, question_ids=["3", "5"])


def nlvr2(path: Path, predictions: Any) -> None:
    write_nlvr2_submission(path, predictions, identifiers=["dev-1-0-0", "dev-1-1-0"])


@pytest.mark.parametrize(
    ("write", "predictions", "message"),
    [
        (vqa, {3: "red"}, r"lacks 1 \(first: 5\)"),
        (vqa, {3: "red", 5: "red", 7: "red"}, r"has 1 \(first: 7\) unknown ids"),
        (vqa, {3: "red", "5": "red"}, r"ids are not int in 1 \(first: '5'\)"),
        (vqa, {3: "red", 5: 2}, r"answers are not text in 1 \(first: '5: 2'\)"),
        (gqa, {"3": "red"}, r"lacks 1 \(first: '5'\)"),
        (gqa, {"3": "red", 5: "red"}, "ids are not str"),
        (gqa, {"3": "red", "5": ""}, "without surrounding whitespace"),
        (gqa, {"3": "red", "5": "red "}, "without surrounding whitespace"),
        (gqa, {"3": "red", "5": None}, "answers are not text without"),
        (nlvr2, {"dev-1-0-0": True}, r"lacks 1 \(first: 'dev-1-1-0'\)"),
        (nlvr2, {"dev-1-0-0": True, "dev-1-1-0": 1}, r"True or False.* 1 \(first: 'dev-1-1-0'\)"),
        (nlvr2, {"dev-1-0-0": True, "dev-1": True}, "'dev-1', expected split-set"),
    ],
)
def test_a_refused_submission_leaves_the_old_file(
    tmp_path: Path, write: Write, predictions: Any, message: str
) -> None:
    path = tmp_path / "submission"
    path.write_text("old")
    with pytest.raises(ValueError, match=message):
        write(path, predictions)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_question_asked_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 5 more than once"):
        write_vqa_submission(tmp_path / "s", {3: "red", 5: "red"}, question_ids=[3, 5, 5])
