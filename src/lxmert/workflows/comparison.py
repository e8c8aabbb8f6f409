"""Compares two files of predictions on the same questions, with intervals and a paired test."""

import math
from pathlib import Path
from typing import TypedDict

from lxmert.data.corpus import Corpus
from lxmert.metrics.intervals import compare, questions_needed
from lxmert.tasks.metrics import rows_by_question_type, score_answers
from lxmert.workflows.evaluation import read_predictions, with_answers

DETECTABLE = 0.01
"""Difference of accuracies for which the needed number of questions is reported."""


class ComparisonRow(TypedDict):
    """Comparison on the questions of one type.

    Attributes:
        first: accuracy of the first file, in `[0, 1]`.
        second: accuracy of the second.
        difference: first minus second.
        low: lower limit of the 95% interval of the difference, resampling images.
        high: upper limit.
        p_value: two-sided, of the hypothesis that both are equally good.
        only_first: number of questions on which only the first is better.
        only_second: number of questions on which only the second is better.
        count: number of questions.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int
    count: int


class ComparisonReport(TypedDict):
    """Result of `compare_predictions`.

    Attributes:
        rows: `overall` and by question type.
        questions_needed: questions about different images that a paired test needs to detect a
            difference of one point at this disagreement, with 80% power; None if the two never
            disagree by that much.
        warnings: what limits the meaning of the numbers.
    """

    rows: dict[str, ComparisonRow]
    questions_needed: int | None
    warnings: list[str]


def compare_predictions(data: Path, first: Path, second: Path) -> ComparisonReport:
    """Compare two files of predictions, as written by `lxmert predict`.

    Args:
        data: JSONL file of questions with answers.
        first: JSONL file with `question_id` and `answer` on each line.
        second: the other one, for the same questions.

    Raises:
        ValueError: if there is not exactly one prediction for each question in both files.
    """
    corpus = Corpus.read([data], strict=True)
    given = [read_predictions(path, corpus, data) for path in (first, second)]
    scored, warnings = with_answers(corpus, data)
    examples = list(scored)
    scores = [
        score_answers(examples, [answers[example.example_id] for example in examples])
        for answers in given
    ]
    images = [" ".join(example.image_ids) for example in examples]
    rows = {
        name: _row([[own[row] for row in chosen] for own in scores], [images[r] for r in chosen])
        for name, chosen in rows_by_question_type(examples).items()
    }
    overall = rows["overall"]
    disagreement = (overall["only_first"] + overall["only_second"]) / overall["count"]
    needed = (
        questions_needed(DETECTABLE, disagreement=disagreement)
        if disagreement >= DETECTABLE
        else None
    )
    return {"rows": rows, "questions_needed": needed, "warnings": warnings}


def _row(scores: list[list[float]], images: list[str]) -> ComparisonRow:
    first, second = scores
    found = compare(first, second, images)
    return {
        "first": math.fsum(first) / len(images),
        "second": math.fsum(second) / len(images),
        "difference": found.difference.mean,
        "low": found.difference.low,
        "high": found.difference.high,
        "p_value": found.p_value,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "count": len(images),
    }
