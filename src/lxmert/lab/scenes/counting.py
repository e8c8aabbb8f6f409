"""Questions about groups of objects: counts, existence, more or fewer."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lxmert.lab.scenes.descriptions import (
    VALUES,
    Description,
    Scene,
    coin,
    describe,
    draw_aspects,
    matches,
    may_say,
    phrase,
    pick,
    shuffled,
    with_article,
)
from lxmert.lab.scenes.programs import (
    COMPARISONS,
    Compare,
    Comparison,
    Count,
    Exist,
    Find,
    Question,
)
from lxmert.lab.scenes.vocabulary import FORMS

_TRIES = 8
_ABSENT = 12
_NO_FROM_EQUALS = 0.3
"""Fraction of the "no" answers to more or fewer for which both groups have the same size."""


def ask_count(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for a number; it is drawn before the group, so that small numbers do not dominate."""
    absent = near_miss(scene, generator, draw_aspects(generator, 2))
    groups = [] if absent is None else [absent]
    for length in (1, 2):
        for thing in scene.things:
            aspects = shuffled(generator, list(VALUES))[:length]
            groups.append(describe(thing, aspects))
    if not groups:
        return None
    by_count: dict[int, list[Description]] = defaultdict(list)
    for description in groups:
        by_count[matches(scene.things, description)].append(description)
    description = pick(generator, by_count[pick(generator, sorted(by_count))])
    form = pick(generator, FORMS["group"]["count"])
    text = form.format(phrase(description, generator, many=True))
    program = Count(Find(description))
    return Question(text, program.answer(scene.things), "count", program)


def ask_exist(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask whether something exists, where both answers are possible for the same attributes."""
    for _ in range(_TRIES):
        aspects = draw_aspects(generator, 3)
        absent = near_miss(scene, generator, aspects)
        if absent is None:
            continue
        present = [describe(thing, aspects) for thing in scene.things] or [absent]
        description = pick(generator, present) if coin(generator) else absent
        text = pick(generator, FORMS["group"]["exist"]).format(
            one=with_article(phrase(description, generator)),
            several=phrase(description, generator, many=True),
        )
        program = Exist(Find(description))
        return Question(text, program.answer(scene.things), "exist", program)
    return None


def ask_compare(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Compare the sizes of two groups that are described by the same attributes."""
    for _ in range(_TRIES):
        groups = _groups(scene, generator)
        pairs = [
            (first, second)
            for number, first in enumerate(groups)
            for second in groups[:number]
            if matches(scene.things, first) + matches(scene.things, second) > 0
        ]
        equal: list[tuple[Description, Description]] = []
        unequal: list[tuple[Description, Description]] = []
        for pair in pairs:
            one, other = (matches(scene.things, group) for group in pair)
            (equal if one == other else unequal).append(pair)
        how = pick(generator, COMPARISONS)
        if unequal and (equal or how != "equally"):
            return _compare(scene, generator, how, equal, unequal)
    return None


def near_miss(
    scene: Scene, generator: np.random.Generator, aspects: Sequence[str]
) -> Description | None:
    """Change one attribute of a present object; None if the result is present, too."""
    for _ in range(_ABSENT):
        if not scene.things:
            return absent_group(scene, generator, aspects)
        description = describe(pick(generator, scene.things), aspects)
        aspect = pick(generator, list(description))
        description[aspect] = pick(generator, VALUES[aspect])
        if may_say(description, scene.pairs) and not matches(scene.things, description):
            return description
    return None


def absent_group(
    scene: Scene, generator: np.random.Generator, aspects: Sequence[str]
) -> Description:
    """Draw a description that probably fits nothing in the scene."""
    while True:
        drawn = {a: pick(generator, VALUES[a]) for a in VALUES if a in aspects}
        if may_say(drawn, scene.pairs):
            return drawn


def _groups(scene: Scene, generator: np.random.Generator) -> list[Description]:
    """Describe groups by the same attributes: all in the scene, and one that may be absent."""
    aspects = draw_aspects(generator, 2)
    groups: list[Description] = []
    for description in (
        *(describe(thing, aspects) for thing in scene.things),
        absent_group(scene, generator, aspects),
    ):
        if description not in groups:
            groups.append(description)
    return shuffled(generator, groups)


def _compare(
    scene: Scene,
    generator: np.random.Generator,
    how: Comparison,
    equal: Sequence[tuple[Description, Description]],
    unequal: Sequence[tuple[Description, Description]],
) -> Question:
    """Ask about a pair of groups; the answer is drawn first and determines the pair."""
    wanted = coin(generator)
    tie = wanted if how == "equally" else not wanted and generator.random() < _NO_FROM_EQUALS
    first, second = shuffled(generator, pick(generator, equal if tie and equal else unequal))
    larger = matches(scene.things, first) > matches(scene.things, second)
    if how != "equally" and larger != (wanted == (how == "more")):
        first, second = second, first
    program = Compare(how, Find(first), Find(second))
    texts = [phrase(group, generator, many=True) for group in (first, second)]
    text = pick(generator, FORMS["compare"][how]).format(*texts)
    return Question(text, program.answer(scene.things), "compare", program)
