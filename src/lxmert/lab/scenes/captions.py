"""Captions of a scene: groups of objects, relative positions, shared attributes."""

from collections.abc import Sequence

import numpy as np

from lxmert.lab.scenes.descriptions import (
    Description,
    Thing,
    describe,
    fitting,
    phrase,
    pick,
    shuffled,
    with_article,
)
from lxmert.lab.scenes.programs import SIDES, clear, lies
from lxmert.lab.scenes.relations import SHARED
from lxmert.lab.scenes.vocabulary import FORMS, NUMBERS

_ASPECTS = ("size", "color", "material", "name")
_LISTED, _PLACED = 0.55, 0.30
"""Fractions of captions that list groups, and that state a relative position."""


def caption(things: Sequence[Thing], generator: np.random.Generator) -> str:
    """Return a true statement about a scene."""
    chance = generator.random()
    text = None
    if len(things) > 1 and chance > _LISTED:
        first, second = shuffled(generator, things)[:2]
        placed = chance < _LISTED + _PLACED
        text = (_place if placed else _share)(first, second, generator)
    return pick(generator, FORMS["caption"]["any"]).format(text or _list(things, generator))


def _list(things: Sequence[Thing], generator: np.random.Generator) -> str:
    """List one to three groups of objects with their numbers; groups do not overlap."""
    parts: list[str] = []
    reported: list[Thing] = []
    for thing in shuffled(generator, things)[: int(generator.integers(1, 4))]:
        description = _random_description(thing, generator)
        group = fitting(things, description)
        if any(member in reported for member in group):
            continue
        reported += group
        text = phrase(description, generator, many=len(group) > 1)
        parts.append(f"{NUMBERS[len(group)]} {text}" if len(group) > 1 else with_article(text))
    parts = parts or ["an empty table"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _place(first: Thing, second: Thing, generator: np.random.Generator) -> str | None:
    """State the position of one object relative to another; None if it is not clear."""
    side = pick(generator, SIDES)
    if not clear(first, side, second):
        return None
    if not lies(first, side, second):
        first, second = second, first
    words = pick(generator, FORMS["side"][side])
    one, other = (_mention(thing, generator) for thing in (first, second))
    return f"{one} {words} {other}"


def _share(first: Thing, second: Thing, generator: np.random.Generator) -> str | None:
    """State that two objects share an attribute, without its value; None if they share none."""
    shared = [aspect for aspect in SHARED if getattr(first, aspect) == getattr(second, aspect)]
    if not shared:
        return None
    aspect = pick(generator, shared)
    one, other = (_mention(thing, generator, without=aspect) for thing in (first, second))
    return f"{one} and {other} of the same {aspect}"


def _mention(thing: Thing, generator: np.random.Generator, *, without: str = "") -> str:
    """Name an object, perhaps with an adjective."""
    others = [aspect for aspect in _ASPECTS[:3] if aspect != without]
    aspects = ["name", *shuffled(generator, others)[: int(generator.integers(0, 3))]]
    return with_article(phrase(describe(thing, aspects), generator))


def _random_description(thing: Thing, generator: np.random.Generator) -> Description:
    """Describe an object by a random, non-empty subset of its attributes."""
    chosen = [aspect for aspect in _ASPECTS if generator.random() < 0.4]
    return describe(thing, chosen or [pick(generator, _ASPECTS)])
