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

SIDE_WORDS: dict[Side, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right side of"),
    "front": ("in front of", "nearer than"),
    "behind": ("behind", "farther away than"),
}
CHOOSE_FORMS: dict[tuple[Side, Side], tuple[str, ...]] = {
    ("left", "right"): (
        "Is the {} left or right of the {}?",
        "Is the {} to the left or right of the {}?",
        "Left or right: where is the {} relative to the {}?",
        "On which side of the {1} is the {0}, left or right?",
    ),
    ("front", "behind"): (
        "Is the {} in front of or behind the {}?",
        "Is the {} in front of the {} or behind it?",
        "Front or behind: where is the {} relative to the {}?",
        "Does the {} stand in front of or behind the {}?",
    ),
}
LIES_FORMS = (
    "Is the {} {} the {}?",
    "Is it true that the {} is {} the {}?",
    "Does the {} stand {} the {}?",
    "Do you see the {} {} the {}?",
)
SAME_FORMS: dict[type[Same] | type[Share], tuple[str, ...]] = {
    Same: (
        "Are the {} and the {} the same {aspect}?",
        "Do the {} and the {} have the same {aspect}?",
        "Is the {} the same {aspect} as the {}?",
        "Is the {aspect} of the {} the same as that of the {}?",
    ),
    Different: (
        "Do the {} and the {} have different {aspect}s?",
        "Do the {} and the {} differ in {aspect}?",
        "Is the {} of another {aspect} than the {}?",
        "Is the {aspect} of the {} different from that of the {}?",
    ),
    Share: (
        "Which {aspect} do the {} and the {} share?",
        "What {aspect} do the {} and the {} have in common?",
        "What is the common {aspect} of the {} and the {}?",
        "What {aspect} are both the {} and the {}?",
    ),
}
SHARED = ("color", "size", "material")
"""Attributes that two objects may share."""

_TRIES = 6

Named = tuple[Thing, Description]


def ask_relation(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask on which side of an object another one is, or whether it is on a given side."""
    named = nameable(scene, generator)
    for _ in range(_TRIES):
        if len(named) < 2:
            return None
        sides = pick(generator, list(CHOOSE_FORMS))
        first, second = shuffled(generator, named)[:2]
        if not clear(first[0], sides[0], second[0]):
            continue
        # The drawn answer determines the order of the two: all answers are equally frequent.
        side = pick(generator, sides)
        if not lies(first[0], side, second[0]):
            first, second = second, first
        if coin(generator):
            return _choose(scene, generator, sides, first, second)
        return _lies(scene, generator, side if coin(generator) else OPPOSITES[side], first, second)
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
        text = pick(generator, SAME_FORMS[kind]).format(*texts, aspect=aspect)
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


def _choose(
    scene: Scene,
    generator: np.random.Generator,
    sides: tuple[Side, Side],
    first: Named,
    second: Named,
) -> Question:
    texts = [phrase(named[1], generator) for named in (first, second)]
    program = Choose(sides, Find(first[1]), Find(second[1]))
    text = pick(generator, CHOOSE_FORMS[sides]).format(*texts)
    return Question(text, program.answer(scene.things), "relation", program)


def _lies(
    scene: Scene, generator: np.random.Generator, side: Side, first: Named, second: Named
) -> Question:
    one, other = (phrase(named[1], generator) for named in (first, second))
    program = Lies(side, Find(first[1]), Find(second[1]))
    words = pick(generator, SIDE_WORDS[side])
    text = pick(generator, LIES_FORMS).format(one, words, other)
    return Question(text, program.answer(scene.things), "relation", program)
