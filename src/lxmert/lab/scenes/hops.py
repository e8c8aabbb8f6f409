"""Two-step questions, about objects that are identified by their relation to another object.

The object that a hop leads to is never the only one that fits its description, so the hop is
needed.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lxmert.lab.scenes.descriptions import (
    VALUES,
    Description,
    Scene,
    Thing,
    coin,
    describe,
    draw_aspects,
    fits,
    fitting,
    phrase,
    pick,
    shuffled,
    single_out,
    with_article,
)
from lxmert.lab.scenes.programs import (
    SIDES,
    Alike,
    Beside,
    Count,
    Exist,
    Find,
    Program,
    Query,
    Question,
    Side,
    clear,
    lies,
)
from lxmert.lab.scenes.relations import SHARED
from lxmert.lab.scenes.vocabulary import FORMS

_TRIES = 6

Landmark = tuple[Thing, Description]
"""The object from which a hop starts, and its description."""


def ask_two_step(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask about objects that are identified by their relation to another one."""
    for _ in range(_TRIES):
        chance = generator.random()
        if chance < 0.45:
            question = _query_beside(scene, generator)
        elif chance < 0.70:
            question = _query_alike(scene, generator)
        elif chance < 0.85:
            question = _exist_beside(scene, generator)
        else:
            question = _count_beside(scene, generator)
        if question is not None:
            return question
    return None


def _landmark(
    scene: Scene, generator: np.random.Generator, *, without: str = ""
) -> Landmark | None:
    """Draw the object from which a hop starts."""
    if len(scene.things) < 3:
        return None
    thing = pick(generator, scene.things)
    description = single_out(scene.things, thing, generator, without=without)
    return None if description is None else (thing, description)


def _others(scene: Scene, landmark: Thing, side: Side) -> list[Thing] | None:
    """Return the other objects; None if the side of one of them is not clear."""
    others = [thing for thing in scene.things if thing is not landmark]
    return others if all(clear(thing, side, landmark) for thing in others) else None


def _only_one(
    generator: np.random.Generator, there: Sequence[Thing], elsewhere: Sequence[Thing], aspect: str
) -> Description | None:
    """Describe the only object of its kind in `there`, if others are elsewhere.

    Args:
        generator: source of randomness.
        there: the objects that the hop leads to.
        elsewhere: the other objects.
        aspect: requested attribute; one of the others must differ in it.
    """
    if not there:
        return None
    thing = pick(generator, there)
    aspects = [name for name in shuffled(generator, list(VALUES)) if name != aspect]
    for length in shuffled(generator, (0, 1)):
        description = describe(thing, aspects[:length])
        rest = fitting(elsewhere, description)
        differ = any(getattr(other, aspect) != getattr(thing, aspect) for other in rest)
        if differ and len(fitting(there, description)) == 1:
            return description
    return None


def _query_beside(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for an attribute of the object on one side of another."""
    landmark, side = _landmark(scene, generator), pick(generator, SIDES)
    aspect = pick(generator, list(VALUES))
    if landmark is None:
        return None
    others = [thing for thing in scene.things if thing is not landmark[0]]
    there = [thing for thing in others if lies(thing, side, landmark[0])]
    elsewhere = [thing for thing in others if not lies(thing, side, landmark[0])]
    description = _only_one(generator, there, elsewhere, aspect)
    if description is None:
        return None
    if not all(clear(thing, side, landmark[0]) for thing in fitting(others, description)):
        return None
    form = "beside name" if aspect == "name" else "beside"
    text = pick(generator, FORMS["two-step"][form]).format(
        phrase(description, generator),
        pick(generator, FORMS["side"][side]),
        phrase(landmark[1], generator),
        aspect=aspect,
    )
    program = Query(aspect, Beside(side, Find(landmark[1]), description))
    return _two_step(scene, text, program)


def _query_alike(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for an attribute of the object that shares another attribute with an object."""
    shared = pick(generator, SHARED)
    landmark = _landmark(scene, generator, without=shared)
    aspect = pick(generator, [name for name in VALUES if name != shared])
    if landmark is None:
        return None
    others = [thing for thing in scene.things if thing is not landmark[0]]
    value = getattr(landmark[0], shared)
    there = [thing for thing in others if getattr(thing, shared) == value]
    elsewhere = [thing for thing in others if getattr(thing, shared) != value]
    description = _only_one(generator, there, elsewhere, aspect)
    if description is None or shared in description:
        return None
    form = "alike name" if aspect == "name" else "alike"
    other = "other " if fits(landmark[0], description) else ""
    text = pick(generator, FORMS["two-step"][form]).format(
        other + phrase(description, generator),
        phrase(landmark[1], generator),
        aspect=aspect,
        shared=shared,
    )
    program = Query(aspect, Alike(shared, Find(landmark[1]), description))
    return _two_step(scene, text, program)


def _exist_beside(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask whether something in the scene is on one side of an object."""
    landmark, side = _landmark(scene, generator), pick(generator, SIDES)
    others = None if landmark is None else _others(scene, landmark[0], side)
    if landmark is None or others is None:
        return None
    aspects = draw_aspects(generator, 2)
    there = [describe(t, aspects) for t in others if lies(t, side, landmark[0])]
    elsewhere = [describe(t, aspects) for t in others if not lies(t, side, landmark[0])]
    only_elsewhere = [description for description in elsewhere if description not in there]
    if not there or not only_elsewhere:
        return None
    description = pick(generator, there if coin(generator) else only_elsewhere)
    text = pick(generator, FORMS["two-step"]["exist"]).format(
        with_article(phrase(description, generator)),
        pick(generator, FORMS["side"][side]),
        phrase(landmark[1], generator),
    )
    return _two_step(scene, text, Exist(Beside(side, Find(landmark[1]), description)))


def _count_beside(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask how many objects are on one side of another; the number is drawn before the group."""
    landmark, side = _landmark(scene, generator), pick(generator, SIDES)
    others = None if landmark is None else _others(scene, landmark[0], side)
    if landmark is None or others is None:
        return None
    by_count: dict[int, list[Description]] = defaultdict(list)
    for description in ({}, *(describe(t, draw_aspects(generator, 1)) for t in others)):
        there = [t for t in fitting(others, description) if lies(t, side, landmark[0])]
        by_count[len(there)].append(description)
    description = pick(generator, by_count[pick(generator, sorted(by_count))])
    text = pick(generator, FORMS["two-step"]["count"]).format(
        phrase(description, generator, many=True),
        pick(generator, FORMS["side"][side]),
        phrase(landmark[1], generator),
    )
    return _two_step(scene, text, Count(Beside(side, Find(landmark[1]), description)))


def _two_step(scene: Scene, text: str, program: Program) -> Question:
    text = text[0].upper() + text[1:]
    return Question(text, program.answer(scene.things), "two-step", program)
