"""Writes leaderboard files after checking everything that a leaderboard would reject."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from lxmert.files import write_text
from lxmert.metrics.files import check_coverage, first_cases
from lxmert.metrics.nlvr2 import sentence_key


def write_vqa_submission(
    path: Path, answers: Mapping[int, str], *, question_ids: Collection[int]
) -> None:
    """Write `[{"question_id": int, "answer": str}, ...]` for VQA v2.

    Args:
        path: the JSON file to write.
        answers: one for each question; may be empty, since the official vocabulary has "".
        question_ids: all questions of the split, in output order.

    Raises:
        ValueError: if answers and questions do not match, or an id or answer has the wrong type.
    """
    _check_texts(answers, path, empty=True)
    _check_ids(answers, question_ids, path, int)
    lines = [{"question_id": key, "answer": answers[key]} for key in question_ids]
    write_text(path, json.dumps(lines))


def write_gqa_submission(
    path: Path, predictions: Mapping[str, str], *, question_ids: Collection[str]
) -> None:
    """Write `[{"questionId": str, "prediction": str}, ...]` for GQA.

    Args:
        path: the JSON file to write.
        predictions: one for each question, without surrounding whitespace, which would not match.
        question_ids: all questions of the split, in output order.

    Raises:
        ValueError: as for VQA, and if an answer is empty or has surrounding whitespace.
    """
    _check_texts(predictions, path, empty=False)
    _check_ids(predictions, question_ids, path, str)
    lines = [{"questionId": key, "prediction": predictions[key]} for key in question_ids]
    write_text(path, json.dumps(lines))


def write_nlvr2_submission(
    path: Path, predictions: Mapping[str, bool], *, identifiers: Collection[str]
) -> None:
    """Write lines `identifier,True` or `identifier,False` for NLVR2.

    Args:
        path: the CSV file to write.
        predictions: one for each example.
        identifiers: all examples of the split, in output order.

    Raises:
        ValueError: if predictions and examples do not match, or an identifier or prediction has
            the wrong form.
    """
    wrong = [key for key, value in predictions.items() if not isinstance(value, bool)]
    if wrong:
        raise ValueError(
            f"{path}: predictions are not True or False for {first_cases(wrong)} examples: pass "
            "values of type bool"
        )
    for key in predictions:
        sentence_key(key)
    check_coverage(predictions, identifiers, name=str(path), reference="the examples")
    write_text(path, "".join(f"{key},{predictions[key]}\n" for key in identifiers), newline="")


def _check_ids(
    predictions: Mapping[int, str] | Mapping[str, str],
    question_ids: Collection[int] | Collection[str],
    path: Path,
    kind: type,
) -> None:
    """Check that the ids have a type, and are those of the questions."""
    wrong = [key for key in predictions if not isinstance(key, kind) or isinstance(key, bool)]
    if wrong:
        raise ValueError(
            f"{path}: question ids are not {kind.__name__} in {first_cases(wrong)} cases: convert "
            "them"
        )
    check_coverage(predictions, question_ids, name=str(path), reference="the questions")


def _check_texts(
    predictions: Mapping[int, str] | Mapping[str, str], path: Path, *, empty: bool
) -> None:
    """Check that every answer is a text that the evaluator can match."""

    def fits(answer: object) -> bool:
        return isinstance(answer, str) and (empty or (answer != "" and answer == answer.strip()))

    wrong = [f"{key}: {answer!r}" for key, answer in predictions.items() if not fits(answer)]
    if wrong:
        expected = "text" if empty else "text without surrounding whitespace"
        raise ValueError(f"{path}: answers are not {expected} in {first_cases(wrong)} cases")
