"""The soft scores and the answer list of VQA, against the published rule written out at length."""

import random
from itertools import combinations

import pytest
from conftest import ASSETS

from lxmert.data.answer_lists import read_answers
from lxmert.datasets.vqa_rule import build_vocabulary, soft_score, soft_scores
from lxmert.metrics.vqa import VqaAnswer, answer_accuracy

ANSWERS = ["mug", "Mug", "a mug", "two", "2", "", "yes", "yes.", "blue-green"]


def leave_one_out(answer: str, annotators: list[str]) -> float:
    """The mean of min(matches / 3, 1) over all sets of all but one annotator."""
    sets = list(combinations(annotators, len(annotators) - 1))
    return sum(min(1.0, others.count(answer) / 3) for others in sets) / len(sets)


@pytest.mark.parametrize("annotators", [2, 3, 4, 9, 10, 17])
def test_the_score_is_the_mean_over_all_ways_to_leave_one_out(annotators: int) -> None:
    for count in range(annotators + 1):
        given = ["it"] * count + [f"other {number}" for number in range(annotators - count)]
        assert soft_score(count, annotators) == pytest.approx(leave_one_out("it", given), abs=1e-12)


def test_of_ten_the_published_scores_are_exact() -> None:
    assert [soft_score(count) for count in range(11)] == [0, 0.3, 0.6, 0.9] + 7 * [1]


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_the_official_evaluator_where_answers_are_clean(seed: int) -> None:
    generator = random.Random(seed)
    words = ["mug", "cup", "2", "yes", "no"]
    given = [generator.choice(words) for _ in range(10)]
    scores = soft_scores(given, set(words))
    official = [VqaAnswer(answer, "yes", number) for number, answer in enumerate(given)]
    assert scores == {
        word: pytest.approx(answer_accuracy(word, official)) for word in words if word in given
    }


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_counted_as_they_are_written(seed: int) -> None:
    generator = random.Random(seed)
    vocabulary = set(generator.sample(ANSWERS, 5))
    given = [generator.choice(ANSWERS) for _ in range(10)]
    expected = {
        answer: leave_one_out(answer, given)
        for answer in vocabulary
        if answer and given.count(answer)
    }
    assert soft_scores(given, vocabulary) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_the_list_has_the_cleaned_majority_answers_of_nine_questions(seed: int) -> None:
    generator = random.Random(seed)
    majority = [generator.choice(ANSWERS) for _ in range(60)]
    cleaned = {"Mug": "mug", "a mug": "mug", "two": "2", "yes.": "yes", "blue-green": "blue green"}
    counts: dict[str, int] = {}
    for answer in majority:
        form = cleaned.get(answer, answer)
        counts[form] = counts.get(form, 0) + 1
    assert build_vocabulary(majority) == sorted(form for form in counts if counts[form] >= 9)


def test_an_answer_of_eight_questions_is_not_in_the_list_and_the_empty_one_may_be() -> None:
    assert build_vocabulary(["mug"] * 8 + ["The", "a", "an"] * 3 + ["cup"] * 9) == ["", "cup"]


def test_the_rule_leaves_every_answer_of_the_published_list_as_it_is() -> None:
    answers = read_answers(ASSETS / "vqa_trainval_label2ans.json").answers
    assert len(answers) == 3129
    assert build_vocabulary(list(answers) * 9) == sorted(answers)
