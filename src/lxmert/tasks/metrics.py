"""Accuracy of answers by question type, with confidence intervals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lxmert.metrics.intervals import Limits, interval_limits
from lxmert.schema import Example

OVERALL = "overall"


def accuracy_by_question_type(
    examples: Sequence[Example], predictions: Sequence[str]
) -> dict[str, float]:
    """Return the mean score of the predicted answers, overall and for each question type.

    An answer gets its score in the example, in `[0, 1]`, or 0 if it is not listed there.
    """
    scores = score_answers(examples, predictions)
    return {
        question_type: sum(scores[row] for row in rows) / len(rows)
        for question_type, rows in rows_by_question_type(examples).items()
    }


def intervals_by_question_type(
    examples: Sequence[Example], predictions: Sequence[str]
) -> dict[str, Limits]:
    """Return the 95% confidence interval of each accuracy, by resampling images."""
    scores = score_answers(examples, predictions)
    images = [" ".join(example.image_ids) for example in examples]
    return {
        question_type: interval_limits([scores[row] for row in rows], [images[row] for row in rows])
        for question_type, rows in rows_by_question_type(examples).items()
    }


def score_answers(examples: Sequence[Example], predictions: Sequence[str]) -> list[float]:
    """Return the score of each predicted answer in its example, 0 if it is not listed there."""
    return [
        example.answers.get(prediction, 0.0)
        for example, prediction in zip(examples, predictions, strict=True)
    ]


def rows_by_question_type(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Return the indices of all examples as `overall`, and those of each question type."""
    return rows_by_kind([example.question_type for example in examples])


def rows_by_kind(kinds: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of all entries as `overall`, and those of each kind; "" is none."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(kinds):
        rows[OVERALL].append(row)
        if kind not in ("", OVERALL):
            rows[kind].append(row)
    return dict(rows)


def best_answer(answers: Mapping[str, float]) -> str:
    """Return the answer with the highest score; empty if there is none."""
    return max(answers, key=lambda answer: answers[answer], default="")
