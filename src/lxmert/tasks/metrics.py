"""Accuracy of answers by question type."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lxmert.schema import Example

OVERALL = "overall"


def accuracy_by_question_type(
    examples: Sequence[Example], predictions: Sequence[str]
) -> dict[str, float]:
    """Return the mean score of the predicted answers, overall and for each question type.

    An answer gets its score in the example, in `[0, 1]`, or 0 if it is not listed there.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for example, prediction in zip(examples, predictions, strict=True):
        score = example.answers.get(prediction, 0.0)
        scores[OVERALL].append(score)
        if example.question_type:
            scores[example.question_type].append(score)
    return {question_type: sum(values) / len(values) for question_type, values in scores.items()}


def best_answer(answers: Mapping[str, float]) -> str:
    """Return the answer with the highest score; empty if there is none."""
    return max(answers, key=lambda answer: answers[answer], default="")
