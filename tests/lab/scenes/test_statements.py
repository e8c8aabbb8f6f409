"""Statements about two images: checked by brute force; a single image is not sufficient."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from lxmert.lab.scenes.programs import written
from lxmert.lab.scenes.statements import Judged, Statement, make_group

from .reading import read_all, skeleton
from .scenes import judge_pair, make_scenes, rows_of

Groups = list[tuple[Statement, list[Judged]]]
QUESTION_TYPES = {"both", "one", "either", "neither", "total", "sides", "each"}


@pytest.fixture(scope="module")
def images() -> list:
    return [scene.things for scene in make_scenes(80)]


@pytest.fixture(scope="module")
def groups(images: list) -> Groups:
    generator = np.random.default_rng(4)
    return [make_group(images, generator) for _ in range(400)]


def test_labels_are_what_brute_force_finds(images: list, groups: Groups) -> None:
    for statement, judged in groups:
        program = json.loads(json.dumps(written(statement.program)))
        for pair in judged:
            left, right = rows_of(images[pair.left]), rows_of(images[pair.right])
            assert judge_pair(program, left, right) == pair.true, (statement, pair)


def test_the_words_say_what_the_program_looks_for(groups: Groups) -> None:
    for statement, _ in groups:
        program = statement.program
        wanted = [program.left.description, program.right.description]
        found = read_all(statement.text)
        if (
            statement.text.startswith("The right image contains")
            and statement.question_type == "each"
        ):
            found.reverse()
        assert found == (wanted if statement.question_type == "each" else wanted[:1]), statement


def test_half_of_a_group_is_true_and_no_image_alone_tells_which(groups: Groups) -> None:
    for _, judged in groups:
        assert [pair.true for pair in judged].count(True) == 2
        assert len({(pair.left, pair.right) for pair in judged}) == 4
        assert all(pair.left != pair.right for pair in judged)
        by_left, by_right = defaultdict(set), defaultdict(set)
        for pair in judged:
            by_left[pair.left].add(pair.true)
            by_right[pair.right].add(pair.true)
        assert {True, False} in by_left.values()
        assert {True, False} in by_right.values()


def test_every_question_type_occurs_in_several_phrasings(groups: Groups) -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    for statement, _ in groups:
        forms[statement.question_type].add(skeleton(statement.text))
    assert set(forms) == QUESTION_TYPES
    assert all(len(texts) >= 4 for texts in forms.values())
    counts = Counter(statement.question_type for statement, _ in groups)
    assert max(counts.values()) < 0.4 * len(groups)


def test_images_that_are_all_alike_are_refused(images: list) -> None:
    with pytest.raises(ValueError, match="8 different images"):
        make_group(images[:3], np.random.default_rng(4))
    with pytest.raises(ValueError, match="8 different images"):
        make_group([images[0]] * 12, np.random.default_rng(4))
