"""Every text about a scene is true, every family balanced, every question answerable."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from lxmert.scenes.language import (
    FAMILIES,
    SYNONYMS,
    VALUES,
    Description,
    Question,
    ask,
    caption,
    matches,
)
from lxmert.scenes.layout import SceneObject, sample_layout
from lxmert.scenes.vocabulary import plural

WORDS = {word: (aspect, value) for aspect, values in VALUES.items() for value in values
         for word in SYNONYMS.get(value, (value,))}  # fmt: skip
WORDS |= {plural(name): ("name", name) for name in VALUES["name"]}


@pytest.fixture(scope="module")
def scenes() -> list[tuple[SceneObject, ...]]:
    generator = np.random.default_rng(4)
    return [sample_layout(generator).objects for _ in range(300)]


@pytest.fixture(scope="module")
def asked(scenes: list[tuple[SceneObject, ...]]) -> list[tuple[tuple[SceneObject, ...], Question]]:
    generator = np.random.default_rng(4)
    return [(things, q) for things in scenes for q in ask(things, generator, rounds=4)]


def read(text: str) -> Description:
    """Read a description back out of a question, by its words alone."""
    text = text.lower().removeprefix("can you see").strip("?.")  # a can, but no object
    found = [WORDS[word] for word in text.split() if word in WORDS]
    return dict(found)


def test_answers_are_what_a_reader_of_the_question_would_count(
    asked: list[tuple[tuple[SceneObject, ...], Question]],
) -> None:
    for things, question in asked:
        description = read(question.text)
        if question.family in VALUES:  # "How big is ...", "metal or plastic" describe nothing
            description.pop(question.family, None)
        fitting = [t for t in things if matches([t], description)]
        if question.family == "count":
            assert question.answer == str(len(fitting)), question
        elif question.family == "exist":
            assert question.answer == ("yes" if fitting else "no"), question
        else:
            aspect = {"what": "name"}.get(question.family, question.family)
            assert [getattr(thing, aspect) for thing in fitting] == [question.answer], question


def test_families_are_as_frequent_as_each_other_and_their_answers_balanced(
    asked: list[tuple[tuple[SceneObject, ...], Question]],
) -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for _, question in asked:
        answers[question.family][question.answer] += 1
    assert set(answers) == set(FAMILIES)
    totals = {family: sum(counts.values()) for family, counts in answers.items()}
    assert max(totals.values()) < 1.6 * min(totals.values())
    for family, limit in {"exist": 0.55, "size": 0.58, "material": 0.58, "count": 0.3}.items():
        assert max(answers[family].values()) < limit * totals[family], family
    assert max(answers["color"].values()) < 1.7 * totals["color"] / 8
    assert max(answers["what"].values()) < 1.9 * totals["what"] / 16


def test_questions_of_a_scene_are_different_and_have_several_phrasings(
    asked: list[tuple[tuple[SceneObject, ...], Question]],
) -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    nouns = {"a", "an", "thing", "things", "object", "objects", *WORDS}
    for _, question in asked:
        words = question.text.lower().strip("?.").split()
        forms[question.family].add(" ".join(word for word in words if word not in nouns))
    assert all(len(texts) >= 4 for texts in forms.values()), forms
    generator = np.random.default_rng(8)
    things = sample_layout(generator).objects
    texts = [question.text for question in ask(things, generator, rounds=9)]
    assert len(set(texts)) == len(texts)


def test_captions_are_true(scenes: list[tuple[SceneObject, ...]]) -> None:
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
    generator = np.random.default_rng(4)
    for things in scenes:
        text = caption(things, generator)
        for frame in ("a picture of ", "we see ", "look at "):
            text = text.removeprefix(frame)
        for part in text.removesuffix(" on a table").replace(" and ", ", ").split(", "):
            first = part.split()[0]
            expected = 1 if first in ("a", "an") else numbers[first]
            assert matches(things, read(part)) == expected, (text, part)


def test_an_empty_table_can_be_asked_about_and_captioned() -> None:
    generator = np.random.default_rng(4)
    questions = ask([], generator, rounds=3)
    assert {q.family: q.answer for q in questions} == {"count": "0", "exist": "no"}
    assert "empty table" in caption([], generator)
