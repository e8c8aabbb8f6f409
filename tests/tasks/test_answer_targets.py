"""Answers as classes of a table: against a brute-force reading, and in the proportions promised."""

import random
from collections import Counter

import numpy as np
import pytest

from lxmert.data.corpus import Corpus
from lxmert.model.answers import normalize_answer
from lxmert.schema import IGNORE_INDEX, Example
from lxmert.tasks.answer_targets import AnswerTargets, Colliding

TABLE = ["2", "ball", "gray", "red", "Two"]
WORDS = ["two", "a ball", "ball", "the ball.", "grey", "Gray", "red", "Two", "purple", "rød"]


def corpus_of(*answers: dict[str, float]) -> Corpus:
    return Corpus.of(
        Example(str(number), "What?", ("8",), given) for number, given in enumerate(answers)
    )


def targets_of(*answers: dict[str, float], colliding: Colliding = "max") -> AnswerTargets:
    return AnswerTargets(corpus_of(*answers), TABLE, colliding=colliding)


def read(answer: str) -> int | None:
    """Read an answer as plainly as possible: as it is, then normalised."""
    if answer in TABLE:
        return TABLE.index(answer)
    normal = [normalize_answer(entry) for entry in TABLE]
    return normal.index(normalize_answer(answer)) if normalize_answer(answer) in normal else None


@pytest.mark.parametrize("colliding", ["max", "sum", "last"])
def test_known_answers_are_those_of_a_plain_reading(colliding: Colliding) -> None:
    chance = random.Random(3)
    questions = [
        {word: chance.choice([0.0, 0.3, 0.6, 1.0]) for word in chance.sample(WORDS, number)}
        for number in (0, 1, 2, 3, 4, 5, 6, 7) * 20
    ]
    targets = targets_of(*questions, colliding=colliding)
    for index, given in enumerate(questions):
        scores: dict[int, list[float]] = {}
        for answer, score in given.items():
            place = read(answer)
            if place is not None and score:
                scores.setdefault(place, []).append(score)
        rule = {"max": max, "sum": lambda all_: min(1.0, sum(all_)), "last": lambda all_: all_[-1]}
        expected = {place: rule[colliding](found) for place, found in scores.items()}
        classes, values = targets.known(index)
        assert dict(zip(classes.tolist(), values.tolist(), strict=True)) == pytest.approx(expected)
        best = targets.best(index)
        assert best == IGNORE_INDEX if not expected else expected[best] == max(expected.values())


def test_colliding_scores_by_hand() -> None:
    """The released code kept the 0.3: an annotator in ten outweighed the majority."""
    given = {"ball": 0.9, "a ball": 0.3}
    for rule, score in {"max": 0.9, "sum": 1.0, "last": 0.3}.items():
        targets = targets_of(given, colliding=rule)  # type: ignore[arg-type]
        classes, scores = targets.known(0)
        assert classes.tolist() == [1]
        assert scores.tolist() == pytest.approx([score])


def test_answers_are_drawn_in_proportion_to_their_scores() -> None:
    targets = targets_of({"red": 0.9, "purple": 1.0, "grey": 0.3})
    drawn = Counter(targets.draw(0, np.random.default_rng(seed)) for seed in range(4000))
    assert drawn.keys() == {TABLE.index("red"), TABLE.index("gray")}
    assert drawn[TABLE.index("red")] / 4000 == pytest.approx(0.75, abs=0.03)
    again = [targets.draw(0, np.random.default_rng(5)) for _ in range(3)]
    assert len(set(again)) == 1


def test_one_answer_takes_nothing_from_the_generator() -> None:
    """The masks of an example must not depend on what is known of its answer."""
    targets = targets_of({"red": 0.3}, {"purple": 1.0}, {})
    generator = np.random.default_rng(5)
    drawn = [targets.draw(row, generator) for row in range(3)]
    assert drawn == [TABLE.index("red"), IGNORE_INDEX, IGNORE_INDEX]
    assert generator.random() == np.random.default_rng(5).random()


def test_questions_whose_answers_are_outside_of_the_table_are_counted() -> None:
    targets = targets_of({"red": 1.0}, {"purple": 1.0, "rød": 0.3}, {}, {"purple": 1.0, "two": 0.3})
    assert targets.count() == (3, 1)
