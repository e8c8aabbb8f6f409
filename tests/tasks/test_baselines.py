"""What can be answered without an image, worked by hand."""

import pytest

from lxmert.schema import Example
from lxmert.tasks.baselines import FILE_NAME, Baselines, judge


def question(text: str, answers: dict[str, float], question_type: str = "") -> Example:
    return Example("q", text, ("a.png",), answers, question_type)


TRAINING = [
    question("How many?", {"2": 1.0}, "count"),
    question("How many?", {"3": 1.0}, "count"),
    question("How many?", {"3": 0.9, "2": 0.3}, "count"),
    question("How many mugs?", {"2": 1.0}, "count"),
    question("How many hats?", {"2": 1.0}, "count"),
    question("Is it?", {"yes": 1.0}),
    question("Was it?", {"yes": 1.0}),
    question("Shall it?", {"yes": 1.0}),
    question("Will it?", {"yes": 1.0}),
    *[question("Unknown?", {})] * 9,
]


@pytest.mark.parametrize(
    ("text", "question_type", "expected"),
    [
        ("How many?", "count", "3"),
        ("How many?", "", "3"),
        ("How many balls?", "count", "2"),
        ("Who?", "person", "yes"),
        ("Who?", "", "yes"),
        ("Unknown?", "", "yes"),
    ],
)
def test_predictions_use_the_text_then_the_question_type_then_all(text, question_type, expected):
    assert Baselines.learn(TRAINING).predict(text, question_type) == expected


def test_scores_of_both_baselines_by_question_type():
    asked = [
        question("How many?", {"3": 1.0}, "count"),
        question("How many balls?", {"4": 0.6, "2": 0.3}, "count"),
        question("Is it?", {"yes": 1.0}),
    ]
    scores = Baselines.learn(TRAINING).scores(asked)
    assert scores["question_only"] == pytest.approx({"overall": 2.3 / 3, "count": 1.3 / 2})
    assert scores["majority"] == pytest.approx({"overall": 1 / 3, "count": 0.0})


def test_they_travel_with_a_model(tmp_path):
    baselines = Baselines.learn(TRAINING)
    (tmp_path / FILE_NAME).write_text(baselines.to_text(), encoding="utf-8")
    assert Baselines.load(tmp_path) == baselines
    assert Baselines.load(tmp_path / "nowhere") is None
    (tmp_path / FILE_NAME).write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"baselines\.json is damaged .* with --training"):
        Baselines.load(tmp_path)


@pytest.mark.parametrize(
    ("accuracy", "warning"),
    [
        (0.3, "is not above the 30.0% of the majority baseline"),
        (0.5, "is not above the 50.0% of the question-only baseline"),
        (0.51, ""),
    ],
)
def test_an_accuracy_that_a_baseline_reaches_gives_a_warning(accuracy, warning):
    baselines = {"majority": {"overall": 0.3}, "question_only": {"overall": 0.5}}
    reported = judge({"overall": accuracy}, baselines)
    assert warning in reported
    assert bool(reported) == bool(warning)
