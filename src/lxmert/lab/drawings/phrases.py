"""Random words for the things in a drawing: descriptions with synonyms, plurals and numbers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lxmert.lab.drawings.drawing import Drawing, DrawnThing
from lxmert.lab.drawings.shapes import SYNONYMS

T = TypeVar("T")

Answer = str | int | bool
"""A word, a number, or whether a statement is true."""

Made = tuple[str, str, Answer]
"""A question without its mark, the same as a statement ("" if there is none), and the answer."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NOUNS = ("object", "thing", "shape", "item", "figure")
"""Words for a thing of any shape."""

_IMAGES = ("image", "picture", "drawing")
_SIZES = ("small", "medium", "large")
_PLURALS = {"cross": "crosses", "rhombus": "rhombuses", "plus": "pluses", "box": "boxes"}
_TRIES = 12


@dataclass(frozen=True)
class Phrase:
    """A description of some things: any of size, color and shape; empty for any."""

    size: str = ""
    color: str = ""
    shape: str = ""

    def fits(self, thing: DrawnThing) -> bool:
        """Return whether it describes the thing."""
        return (
            self.size in ("", thing.size)
            and self.color in ("", thing.color)
            and self.shape in ("", thing.shape)
        )

    def count(self, drawing: Drawing) -> int:
        """Return the number of things that it describes."""
        return sum(self.fits(thing) for thing in drawing.things)


class Choices:
    """Random choices of words and descriptions."""

    def __init__(self, seed: int) -> None:
        # Several times faster than numpy's generator for single values.
        self.random = random.Random(seed)

    def one_of(self, values: Sequence[T]) -> T:
        """Return one of some values."""
        return values[int(self.random.random() * len(values))]

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return self.random.random() < share

    def word(self, name: str) -> str:
        """Return a word for a shape, color or size, most often its name."""
        return name if self.chance(0.6) else self.one_of(SYNONYMS.get(name, (name,)))

    def image(self) -> str:
        """Return a word for the drawing."""
        return self.one_of(_IMAGES)

    def text(self, phrase: Phrase, *, plural: bool = False, noun: str = "") -> str:
        """Return the words of a description.

        Args:
            phrase: the description.
            plural: whether it is about several things.
            noun: replaces the word for the shape, if given.
        """
        noun = noun or (self.word(phrase.shape) if phrase.shape else self.one_of(NOUNS))
        noun = pluralize(noun) if plural else noun
        return " ".join(filter(None, (self.word(phrase.size), self.word(phrase.color), noun)))

    def phrase(self, drawing: Drawing, *, present: float = 0.7, general: float = 0.1) -> Phrase:
        """Describe things that the drawing has, or may have.

        Args:
            drawing: the drawing.
            present: probability of describing a thing that is there.
            general: probability of a description that fits all things.
        """
        if self.chance(present) and drawing.things:
            thing = self.one_of(drawing.things)
            size, color, shape = thing.size, thing.color, thing.shape
        else:
            size = self.one_of(_SIZES) if any(t.size for t in drawing.things) else ""
            color, shape = self.one_of(drawing.colors), self.one_of(drawing.shapes)
        if self.chance(general):
            return Phrase()
        kind = self.random.random()
        size = size if self.chance(0.25) else ""
        if kind < 0.4:
            return Phrase(size, color, shape)
        return Phrase(size, color) if kind < 0.7 else Phrase(size, "", shape)

    def unique(self, drawing: Drawing, without: str = "") -> tuple[Phrase, DrawnThing] | None:
        """Describe exactly one thing; None if no such description was found.

        Args:
            drawing: the drawing.
            without: attribute that the description does not have: `size`, `color` or `shape`.
        """
        for _ in range(_TRIES if drawing.things else 0):
            thing = self.one_of(drawing.things)
            values = {"size": thing.size, "color": thing.color, "shape": thing.shape}
            kept = {
                name: value
                for name, value in values.items()
                if name != without and self.chance(0.35 if name == "size" else 0.65)
            }
            phrase = Phrase(**kept)
            if kept and phrase.count(drawing) == 1:
                return phrase, thing
        return None


def pluralize(noun: str) -> str:
    """Return the plural of the last word."""
    first, space, last = noun.rpartition(" ")
    return first + space + _PLURALS.get(last, last + "s")
