"""Captions of a scene with foils: false captions that differ in one respect.

Both texts of a pair have the same form, and their words are drawn in the same way, so that neither
text alone tells which one is true.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lxmert.lab.scenes.descriptions import (
    VALUES,
    Description,
    Scene,
    Thing,
    describe,
    matches,
    may_say,
    phrase,
    pick,
    shuffled,
    single_out,
    with_article,
)
from lxmert.lab.scenes.programs import OPPOSITES, SIDES, Side, clear, lies
from lxmert.lab.scenes.vocabulary import FORMS, NUMBERS


class Foil(NamedTuple):
    """A true and a false text about a scene.

    Attributes:
        phenomenon: the respect in which they differ.
        caption: the true one.
        foil: the false one.
    """

    phenomenon: str
    caption: str
    foil: str


def make_foils(scene: Scene, generator: np.random.Generator) -> list[Foil]:
    """Return at most one pair for each phenomenon, if the scene allows it."""
    found = []
    for phenomenon, make in PHENOMENA.items():
        texts = make(scene, generator)
        if texts is not None:
            found.append(Foil(phenomenon, *texts))
    return found


def _replace(aspect: str, scene: Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    """Replace an object, or its color, by one that is not there."""
    thing = pick(generator, scene.things)
    aspects = ["name", "color"] if aspect == "color" else ["name", *_one_adjective(generator)]
    true = describe(thing, aspects)
    others = [
        changed
        for value in VALUES[aspect]
        if not matches(scene.things, changed := true | {aspect: value})
        and may_say(changed, scene.pairs)
    ]
    if not others or not may_say(true, scene.pairs):
        return None
    false = pick(generator, others)
    return tuple(  # type: ignore[return-value]
        f"there is {with_article(phrase(description, generator))}" for description in (true, false)
    )


def _number(scene: Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    """State a wrong number of objects, one more or one fewer."""
    aspect = pick(generator, tuple(VALUES))
    description = describe(pick(generator, scene.things), [aspect])
    right = matches(scene.things, description)
    wrong = right + 1 if right == 1 or generator.random() < 0.5 else right - 1
    right_text, wrong_text = (_counted(n, description, generator) for n in (right, wrong))
    return right_text, wrong_text


def _counted(number: int, description: Description, generator: np.random.Generator) -> str:
    things = phrase(description, generator, many=number != 1)
    return f"there {'is' if number == 1 else 'are'} exactly {NUMBERS[number]} {things}"


def _relation(scene: Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    """State the opposite position."""
    placed = _placed(scene.things, generator)
    if placed is None:
        return None
    first, side, second = placed
    right, wrong = (pick(generator, FORMS["side"][s]) for s in (side, OPPOSITES[side]))
    return f"the {first} is {right} the {second}", f"the {first} is {wrong} the {second}"


def _swap(scene: Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    """Exchange two objects in a statement about their positions."""
    placed = _placed(scene.things, generator)
    if placed is None:
        return None
    first, side, second = placed
    words = pick(generator, FORMS["side"][side])
    return f"the {first} is {words} the {second}", f"the {second} is {words} the {first}"


def _placed(
    things: Sequence[Thing], generator: np.random.Generator
) -> tuple[str, Side, str] | None:
    """Return an object, its side, and another object, for an unambiguous position."""
    if len(things) < 2:
        return None
    first, second = shuffled(generator, things)[:2]
    sides = [side for side in SIDES if clear(first, side, second) and lies(first, side, second)]
    names = [single_out(things, thing, generator) for thing in (first, second)]
    if not sides or None in names:
        return None
    one, other = (phrase(name, generator) for name in names if name is not None)
    return one, pick(generator, sides), other


def _one_adjective(generator: np.random.Generator) -> list[str]:
    """Draw an attribute besides the name, or none."""
    return shuffled(generator, ("size", "color", "material"))[: int(generator.integers(0, 2))]


PHENOMENA: dict[str, Callable[[Scene, np.random.Generator], tuple[str, str] | None]] = {
    "existence": partial(_replace, "name"),
    "number": _number,
    "color": partial(_replace, "color"),
    "relation": _relation,
    "swap": _swap,
}
"""Phenomenon -> maker of a caption and its foil; None if the scene does not allow it."""
