"""Writes predictions in the formats of the leaderboards, after checking what they would refuse."""

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
        answers: one for each question; may be empty, as the official vocabulary holds "".
        question_ids: those of the split, in the order to write.

    Raises:
        ValueError: if a question lacks an answer or an answer a question, or if an id or an
            answer is of the wrong type.
    """
    _check_texts(answers, path, empty=True)
    _check_ids(answers, path, int)
    check_coverage(answers, question_ids, name=str(path), whole="the questions")
    write_text(
        path,
        json.dumps([{"question_id": key, "answer": answers[key]} for key in question_ids]),
    )


def write_gqa_submission(
    path: Path, predictions: Mapping[str, str], *, question_ids: Collection[str]
) -> None:
    """Write `[{"questionId": str, "prediction": str}, ...]` for GQA.

    Args:
        path: the JSON file to write.
        predictions: an answer for each question; blanks around it would make it wrong.
        question_ids: those of the split, in the order to write.

    Raises:
        ValueError: as for VQA, and if an answer is empty or has blanks around it.
    """
    _check_texts(predictions, path, empty=False)
    _check_ids(predictions, path, str)
    check_coverage(predictions, question_ids, name=str(path), whole="the questions")
    write_text(
        path,
        json.dumps([{"questionId": key, "prediction": predictions[key]} for key in question_ids]),
    )


def write_nlvr2_submission(
    path: Path, predictions: Mapping[str, bool], *, identifiers: Collection[str]
) -> None:
    """Write lines `identifier,True` or `identifier,False` for NLVR2.

    Args:
        path: the CSV file to write.
        predictions: one for each example.
        identifiers: those of the split, in the order to write.

    Raises:
        ValueError: if an example lacks a prediction or a prediction an example, or if an
            identifier or a prediction is of the wrong form.
    """
    wrong = [key for key, value in predictions.items() if not isinstance(value, bool)]
    if wrong:
        raise ValueError(
            f"{path}: predictions must be True or False, which they are not for "
            f"{first_cases(wrong)} examples"
        )
    for key in predictions:
        sentence_key(key)
    check_coverage(predictions, identifiers, name=str(path), whole="the examples")
    write_text(path, "".join(f"{key},{predictions[key]}\n" for key in identifiers), newline="")


def _check_ids(predictions: Mapping[int, str] | Mapping[str, str], path: Path, kind: type) -> None:
    wrong = [key for key in predictions if not isinstance(key, kind) or isinstance(key, bool)]
    if wrong:
        raise ValueError(
            f"{path}: question ids must be {kind.__name__}, which they are not in "
            f"{first_cases(wrong)}"
        )


def _check_texts(
    predictions: Mapping[int, str] | Mapping[str, str], path: Path, *, empty: bool
) -> None:
    """Check that every answer is a text that the evaluator can match."""

    def fits(answer: object) -> bool:
        return isinstance(answer, str) and (empty or (answer != "" and answer == answer.strip()))

    wrong = [f"{key}: {answer!r}" for key, answer in predictions.items() if not fits(answer)]
    if wrong:
        expected = "a text" if empty else "a text without blanks around it"
        raise ValueError(f"{path}: each answer must be {expected}, not so in {first_cases(wrong)}")
