"""Questions about two objects: their relative position and their common attributes.

Each is asked only if every answer is possible for the words alone: both orders of a pair can be
described, and there is both a pair that shares the attribute and one that does not.
"""

import numpy as np

from lxmert.lab.scenes.descriptions import (
    Description,
    Scene,
    Thing,
    coin,
    phrase,
    pick,
    shuffled,
    single_out,
)
from lxmert.lab.scenes.programs import (
    OPPOSITES,
    Choose,
    Different,
    Find,
    Lies,
    Question,
    Same,
    Share,
    Side,
    clear,
    lies,
)
from lxmert.lab.scenes.vocabulary import FORMS

SHARED = ("color", "size", "material")
"""Attributes that two objects may share."""

_SIDES: tuple[tuple[Side, Side], ...] = (("left", "right"), ("front", "behind"))

_TRIES = 6

Named = tuple[Thing, Description]


def ask_relation(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask on which side of an object another one is, or whether it is on a given side."""
    named = nameable(scene, generator)
    for _ in range(_TRIES):
        if len(named) < 2:
            return None
        sides = pick(generator, _SIDES)
        first, second = shuffled(generator, named)[:2]
        if not clear(first[0], sides[0], second[0]):
            continue
        # The drawn answer determines the order of the two: all answers are equally frequent.
        side = pick(generator, sides)
        if not lies(first[0], side, second[0]):
            first, second = second, first
        is_open = coin(generator)
        if not is_open and not coin(generator):
            side = OPPOSITES[side]
        texts = [phrase(named[1], generator) for named in (first, second)]
        program: Choose | Lies
        if is_open:
            program = Choose(sides, Find(first[1]), Find(second[1]))
            text = pick(generator, FORMS["relation"][" or ".join(sides)]).format(*texts)
        else:
            program = Lies(side, Find(first[1]), Find(second[1]))
            words = pick(generator, FORMS["side"][side])
            text = pick(generator, FORMS["relation"]["lies"]).format(texts[0], words, texts[1])
        return Question(text, program.answer(scene.things), "relation", program)
    return None


def ask_same(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask whether two objects share an attribute, if both answers are possible."""
    return _ask_common(scene, generator, pick(generator, (Same, Different)), "same")


def ask_share(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask which value of an attribute two objects share; it is possible that they share none.

    If yes and no are equally likely, finding only one of the two objects does not help a model;
    if the value is asked for, it does: these questions teach a model to find both.
    """
    return _ask_common(scene, generator, Share, "share")


def _ask_common(
    scene: Scene, generator: np.random.Generator, kind: type[Same] | type[Share], question_type: str
) -> Question | None:
    """Ask what two objects have in common."""
    for aspect in shuffled(generator, SHARED):
        named = nameable(scene, generator, without=aspect)
        alike: list[tuple[Named, Named]] = []
        unlike: list[tuple[Named, Named]] = []
        for number, first in enumerate(named):
            for second in named[:number]:
                same = getattr(first[0], aspect) == getattr(second[0], aspect)
                (alike if same else unlike).append((first, second))
        if not alike or not unlike:
            continue
        first, second = shuffled(generator, pick(generator, alike if coin(generator) else unlike))
        program = kind(aspect, Find(first[1]), Find(second[1]))
        texts = [phrase(named[1], generator) for named in (first, second)]
        text = pick(generator, FORMS["common"][kind.__name__.lower()]).format(*texts, aspect=aspect)
        return Question(text, program.answer(scene.things), question_type, program)
    return None


def nameable(scene: Scene, generator: np.random.Generator, *, without: str = "") -> list[Named]:
    """Return the objects that can be singled out, each with a description."""
    named = []
    for thing in scene.things:
        description = single_out(scene.things, thing, generator, without=without)
        if description is not None:
            named.append((thing, description))
    return named
