"""Descriptions of objects by their attributes, and phrases for descriptions.

A description maps attributes (`size`, `color`, `material`, `name`) to values; an object fits it if
all of them agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from lxmert.lab.scenes.vocabulary import COLORS, MATERIALS, OBJECTS, SIZES, Pairs, plural

Description = dict[str, str]
T = TypeVar("T")

VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "name": OBJECTS,
}
"""Attributes in the order of English adjectives, with their values."""

SYNONYMS = {
    "large": ("large", "big"),
    "small": ("small", "little"),
    "metal": ("metal", "metallic", "shiny"),
    "mug": ("mug", "cup"),
    "can": ("can", "tin"),
}
THINGS = (("thing", "things"), ("object", "objects"), ("item", "items"))

AnyObject = TypeVar("AnyObject", bound="Named")


class Named(Protocol):
    """Anything with the four attributes of an object."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def color(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> str: ...  # noqa: D102
    @property
    def material(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Thing:
    """The properties of an object that texts use.

    Attributes:
        name: one of `OBJECTS`.
        color: one of `COLORS`.
        size: one of `SIZES`.
        material: one of `MATERIALS`.
        across: center of its visible box, in pixels from the left.
        depth: position on the table in units of the ground; larger values are farther away.
    """

    name: str
    color: str
    size: str
    material: str
    across: float
    depth: float


@dataclass(frozen=True)
class Scene:
    """What texts may be about.

    Attributes:
        things: the objects of an image.
        pairs: pairs of color and name that a text may mention; the others are reserved for another
            split.
    """

    things: tuple[Thing, ...]
    pairs: Pairs


def fits(thing: Named, description: Mapping[str, str]) -> bool:
    """Return whether an object fits a description."""
    return all(getattr(thing, aspect) == value for aspect, value in description.items())


def fitting(things: Sequence[AnyObject], description: Mapping[str, str]) -> list[AnyObject]:
    """Return the objects that fit a description."""
    return [thing for thing in things if fits(thing, description)]


def matches(things: Sequence[Named], description: Mapping[str, str]) -> int:
    """Count the objects that fit a description."""
    return sum(fits(thing, description) for thing in things)


def describe(thing: Named, aspects: Sequence[str]) -> Description:
    """Describe an object by some of its aspects."""
    return {aspect: getattr(thing, aspect) for aspect in VALUES if aspect in aspects}


def may_say(description: Description, pairs: Pairs) -> bool:
    """Return whether a description mentions no pair of color and name of another split."""
    if "color" not in description or "name" not in description:
        return True
    return (description["color"], description["name"]) in pairs


def phrase(description: Description, generator: np.random.Generator, *, many: bool = False) -> str:
    """Put a description into words, such as `big red mug` or `metal things`."""
    adjectives = [aspect for aspect in ("size", "color", "material") if aspect in description]
    words = [_word(description[aspect], generator) for aspect in adjectives]
    one, several = pick(generator, THINGS)
    if "name" in description:
        one = _word(description["name"], generator)
        several = plural(one)
    return " ".join([*words, several if many else one])


def with_article(text: str) -> str:
    """Prepend `a` or `an`."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def pick(generator: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of the options."""
    return options[int(generator.integers(len(options)))]


def coin(generator: np.random.Generator) -> bool:
    """Draw true or false with equal probability."""
    return bool(generator.random() < 0.5)


def shuffled(generator: np.random.Generator, options: Sequence[T]) -> list[T]:
    """Return the options in random order."""
    return [options[int(index)] for index in generator.permutation(len(options))]


def single_out(
    things: Sequence[Thing], thing: Thing, generator: np.random.Generator, *, without: str = ""
) -> Description | None:
    """Draw a description that fits only one thing.

    Args:
        things: all objects of the image.
        thing: the one to describe.
        generator: source of randomness.
        without: attribute not to mention; empty for none.

    Returns:
        At most three attributes; None if they cannot distinguish the thing from the others.
    """
    order = shuffled(generator, [aspect for aspect in VALUES if aspect != without])
    # Mostly by name, as people do: "the red mug" rather than "the red metal thing".
    if without != "name" and generator.random() < 0.75:
        order.sort(key=lambda aspect: aspect != "name")
    wanted = int(generator.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    for length in range(wanted, 4):
        description = describe(thing, order[:length])
        if matches(things, description) == 1:
            return description
    return None


def draw_aspects(generator: np.random.Generator, longest: int) -> list[str]:
    """Draw one to `longest` attributes, with a uniformly distributed number."""
    return shuffled(generator, list(VALUES))[: int(generator.integers(1, longest + 1))]


def _word(value: str, generator: np.random.Generator) -> str:
    return pick(generator, SYNONYMS.get(value, (value,)))
