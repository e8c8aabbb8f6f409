"""Scores worked by hand."""

import pytest

from lxmert.schema import Example
from lxmert.tasks.metrics import accuracy_by_question_type, best_answer


def question(text: str, answers: dict[str, float], question_type: str = "") -> Example:
    return Example("q", text, ("a.png",), answers, question_type)


def test_scores_are_averaged_over_all_and_by_question_type() -> None:
    examples = [
        question("?", {"red": 1.0}, "color"),
        question("?", {"red": 0.3, "blue": 0.9}, "color"),
        question("?", {"2": 1.0}, "count"),
        question("?", {"yes": 1.0}),
    ]
    scores = accuracy_by_question_type(examples, ["red", "red", "3", "yes"])
    assert scores == pytest.approx({"overall": 2.3 / 4, "color": 1.3 / 2, "count": 0.0})


def test_a_question_type_named_overall_does_not_count_twice() -> None:
    examples = [question("?", {"red": 1.0}, "overall"), question("?", {"2": 1.0}, "count")]
    scores = accuracy_by_question_type(examples, ["red", "3"])
    assert scores == {"overall": 0.5, "count": 0.0}


def test_the_best_answer_has_the_highest_score() -> None:
    assert best_answer({"a": 0.3, "b": 0.6}) == "b"
    assert best_answer({}) == ""
