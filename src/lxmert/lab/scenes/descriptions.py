"""Describing objects by their attributes, and finding words for a description.

A description is a dict from aspect (`size`, `color`, `material`, `name`) to the wanted value; an
object fits it if it agrees in all of them.
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
"""What an object may be asked for, in the order of English adjectives, each with its values."""

SYNONYMS = {
    "large": ("large", "big"),
    "small": ("small", "little"),
    "metal": ("metal", "metallic", "shiny"),
    "mug": ("mug", "cup"),
    "can": ("can", "tin"),
}
THINGS = (("thing", "things"), ("object", "objects"), ("item", "items"))

Labelled = TypeVar("Labelled", bound="Named")


class Named(Protocol):
    """Anything that has the four aspects of an object."""

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
    """An object as texts know it.

    Attributes:
        name: one of `OBJECTS`.
        color: one of `COLORS`.
        size: one of `SIZES`.
        material: one of `MATERIALS`.
        across: center of its visible box, in pixels from the left.
        depth: where it stands on the table, in units of the ground; farther things have more.
    """

    name: str
    color: str
    size: str
    material: str
    across: float
    depth: float


@dataclass(frozen=True)
class Scene:
    """What may be talked about.

    Attributes:
        things: the objects of an image.
        pairs: colors and names that a text may say of one object; the others are kept for another
            split, and must not be heard of before.
    """

    things: tuple[Thing, ...]
    pairs: Pairs


def fits(thing: Named, description: Mapping[str, str]) -> bool:
    """Tell whether an object agrees with a description."""
    return all(getattr(thing, aspect) == value for aspect, value in description.items())


def fitting(things: Sequence[Labelled], description: Mapping[str, str]) -> list[Labelled]:
    """Return the objects that fit a description."""
    return [thing for thing in things if fits(thing, description)]


def matches(things: Sequence[Named], description: Mapping[str, str]) -> int:
    """Count the objects that fit a description."""
    return sum(fits(thing, description) for thing in things)


def describe(thing: Named, aspects: Sequence[str]) -> Description:
    """Describe an object by some of its aspects."""
    return {aspect: getattr(thing, aspect) for aspect in VALUES if aspect in aspects}


def may_say(description: Description, pairs: Pairs) -> bool:
    """Tell whether a description keeps quiet about pairs of color and name of other splits."""
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
    """Put `a` or `an` in front."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def pick(generator: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of the options."""
    return options[int(generator.integers(len(options)))]


def coin(generator: np.random.Generator) -> bool:
    """Draw true or false, both as often."""
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
        thing: which of them to describe.
        generator: source of randomness.
        without: aspect to keep quiet about; empty for none.

    Returns:
        At most three aspects; None where they cannot tell the thing from the others.
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
    """Draw one to `longest` aspects, each number as often."""
    return shuffled(generator, list(VALUES))[: int(generator.integers(1, longest + 1))]


def _word(value: str, generator: np.random.Generator) -> str:
    return pick(generator, SYNONYMS.get(value, (value,)))
