"""Accuracy of VQA answers: worked by hand, and by leaving out each annotator in turn."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from official_files import vqa_annotation, write_vqa

from lxmert.metrics.vqa import (
    VqaAnnotation,
    VqaAnswer,
    answer_accuracy,
    read_vqa_annotations,
    read_vqa_questions,
    read_vqa_results,
    score_vqa,
)


def annotators(*answers: str) -> list[VqaAnswer]:
    return [VqaAnswer(answer, "yes", number) for number, answer in enumerate(answers, start=1)]


@pytest.mark.parametrize(
    ("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_matches_among_ten_annotators(matches: int, accuracy: float) -> None:
    ten = annotators(*["red"] * matches, *["blue"] * (10 - matches))
    assert answer_accuracy("red", ten) == pytest.approx(accuracy)


def test_fewer_annotators() -> None:
    assert answer_accuracy("red", annotators("red")) == 0
    assert answer_accuracy("red", annotators("red", "red", "red")) == pytest.approx(2 / 3)
    assert answer_accuracy("red", annotators("red", "blue")) == pytest.approx(1 / 6)


def test_unanimous_answers_are_not_cleaned() -> None:
    """Officially, a unanimous "two" does not match "2"; other implementations always normalize."""
    assert answer_accuracy("2", annotators(*["two"] * 10)) == 0
    assert answer_accuracy("yes", annotators(*["Yes"] * 10)) == 0
    assert answer_accuracy("two", annotators(*["two"] * 10)) == 1
    assert answer_accuracy("2", annotators(*["two"] * 9, "three")) == 1
    assert answer_accuracy("The two.", annotators(*["two"] * 9, "2")) == 1


def test_blanks_around_answers_are_stripped_before_the_comparison() -> None:
    assert answer_accuracy("\ttwo\n", annotators(*["two"] * 9, "two ")) == 1
    # Equal once they are stripped, so they count as unanimous and "2" stays wrong.
    assert answer_accuracy("2", annotators(*["two"] * 9, " two")) == 0


def test_annotators_that_agree_after_cleaning_are_counted_together() -> None:
    assert answer_accuracy("t shirt", annotators("T-shirt", "t shirt", "the t-shirt", "tie")) == (
        pytest.approx((3 * 2 / 3 + 1) / 4)
    )


def test_equal_records_are_left_out_together() -> None:
    """Complete records are compared; without ids, all agreeing annotators are left out at once."""
    twins = [VqaAnswer("red", "yes", None)] * 4 + [VqaAnswer("blue", "yes", None)]
    assert answer_accuracy("red", twins) == pytest.approx((4 * 0 + 1) / 5)
    unsure = [VqaAnswer("red", "yes", None), VqaAnswer("red", "no", None)]
    assert answer_accuracy("red", unsure) == pytest.approx(1 / 3)


def leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    subsets = [[*answers[:i], *answers[i + 1 :]] for i in range(len(answers))]
    return sum(min(1.0, subset.count(prediction) / 3) for subset in subsets) / len(subsets)


def test_accuracy_is_the_mean_over_the_nine_subsets() -> None:
    draw = random.Random(5)
    for _ in range(2000):
        answers = draw.choices(["red", "blue", "two dogs", "7"], k=draw.randrange(1, 12))
        prediction = draw.choice(["red", "blue", "7", "green"])
        assert answer_accuracy(prediction, annotators(*answers)) == pytest.approx(
            leave_one_out(prediction, answers)
        )


def test_scores_are_percents_with_two_decimals() -> None:
    def annotation(key: int, question_type: str, answer_type: str, matches: int) -> VqaAnnotation:
        ten = annotators(*["red"] * matches, *["blue"] * (10 - matches))
        return VqaAnnotation(key, question_type, answer_type, tuple(ten))

    scores = score_vqa(
        [
            annotation(262148000, "what color", "other", 1),
            annotation(262148001, "what color", "other", 10),
            annotation(262148002, "how many", "number", 2),
        ],
        {262148000: "red", 262148001: "red", 262148002: "red"},
    )
    assert scores == {
        "overall": 63.33,
        "per_answer_type": {"number": 60.0, "other": 65.0},
        "per_question_type": {"how many": 60.0, "what color": 65.0},
    }


def test_official_files_are_read(tmp_path: Path) -> None:
    annotation = vqa_annotation(458752000, ["net", "netting"], question_type="what is this")
    paths = write_vqa(tmp_path, [annotation], {458752000: "net"})
    assert read_vqa_questions(paths["questions"]) == [458752000]
    assert read_vqa_results(paths["results"]) == {458752000: "net"}
    assert dict(read_vqa_annotations(paths["annotations"])) == {
        458752000: VqaAnnotation(
            458752000,
            "what is this",
            "other",
            (VqaAnswer("net", "yes", 1), VqaAnswer("netting", "yes", 2)),
        )
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"question_id": "458752000"},
            r"annotations\[1\]: 'question_id' is .*, expected an integer",
        ),
        ({"question_id": True}, "is true, expected an integer"),
        ({"answers": []}, r"annotations\[1\]: 'answers' is empty"),
        ({"answers": ["net"]}, "'answers' is .*, expected a list of objects"),
        ({"answers": [{"answer": 7}]}, "'answer' is 7, expected a text"),
        ({"answer_type": None}, "'answer_type' is null, expected a text"),
        ({"question_id": 3}, "has 3 more than once"),
    ],
)
def test_a_wrong_annotation_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    entries = [vqa_annotation(3, ["net"]), {**vqa_annotation(5, ["net"]), **change}]
    paths = write_vqa(tmp_path, entries, {})
    with pytest.raises(ValueError, match=message):
        list(read_vqa_annotations(paths["annotations"]))
