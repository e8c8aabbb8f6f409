"""Questions as programs: what to look for in an image, and how the answer follows from it.

A program is a tree. Its leaves find things, a hop goes from one thing to others, its root answers.
`written` turns it into nested lists for a file: `["query", "color", ["find", {"name": "mug"}]]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from lxmert.lab.scenes.descriptions import Description, Thing, fitting
from lxmert.lab.scenes.render import SIZE

Side = Literal["left", "right", "front", "behind"]
Part = Literal["left", "right", "front", "back"]
Comparison = Literal["more", "fewer", "equally"]
SIDES: tuple[Side, ...] = ("left", "right", "front", "behind")
OPPOSITES: dict[Side, Side] = {
    "left": "right",
    "right": "left",
    "front": "behind",
    "behind": "front",
}

CLEAR_ACROSS, CLEAR_DEPTH = 9.0, 0.45
"""Pixels, units of the ground: closer things are neither left nor right, in front nor behind. The
same holds of things that are closer to the middle of the image."""


@dataclass(frozen=True)
class Find:
    """The things that fit a description."""

    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the things that are meant."""
        return fitting(things, self.description)


@dataclass(frozen=True)
class Beside:
    """The things on one side of a thing, as the viewer sees it."""

    side: Side
    of: Find
    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the things that are meant."""
        (other,) = self.of.select(things)
        return [t for t in fitting(things, self.description) if lies(t, self.side, other)]


@dataclass(frozen=True)
class Alike:
    """The other things that share an aspect with a thing."""

    aspect: str
    of: Find
    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the things that are meant."""
        (other,) = self.of.select(things)
        value = getattr(other, self.aspect)
        alike = fitting(things, self.description | {self.aspect: value})
        return [thing for thing in alike if thing is not other]


Selection = Find | Beside | Alike


@dataclass(frozen=True)
class Query:
    """An aspect of the only thing that is meant."""

    aspect: str
    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the value of the aspect."""
        (thing,) = self.of.select(things)
        value: str = getattr(thing, self.aspect)
        return value


@dataclass(frozen=True)
class Count:
    """How many things are meant."""

    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the number in digits."""
        return str(len(self.of.select(things)))


@dataclass(frozen=True)
class Exist:
    """Whether there is such a thing."""

    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        return _yes(bool(self.of.select(things)))


@dataclass(frozen=True)
class Choose:
    """On which of two opposite sides of the second thing the first one lies."""

    sides: tuple[Side, Side]
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the side."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return self.sides[0] if lies(first, self.sides[0], second) else self.sides[1]


@dataclass(frozen=True)
class Lies:
    """Whether the first thing lies on a side of the second."""

    side: Side
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return _yes(lies(first, self.side, second))


@dataclass(frozen=True)
class Where:
    """In which of two opposite parts of the scene the thing is."""

    parts: tuple[Part, Part]
    of: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the part."""
        (thing,) = self.of.select(things)
        return self.parts[0] if lies(thing, self.parts[0]) else self.parts[1]


@dataclass(frozen=True)
class Within:
    """Whether the thing is in a part of the scene."""

    part: Part
    of: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (thing,) = self.of.select(things)
        return _yes(lies(thing, self.part))


@dataclass(frozen=True)
class Same:
    """Whether two things share an aspect."""

    aspect: str
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return _yes(getattr(first, self.aspect) == getattr(second, self.aspect))


@dataclass(frozen=True)
class Different(Same):
    """Whether two things differ in an aspect."""

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        return _yes(super().answer(things) == "no")


@dataclass(frozen=True)
class Share:
    """Which value of an aspect two things share."""

    aspect: str
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the value, or `none`."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        value: str = getattr(first, self.aspect)
        return value if getattr(second, self.aspect) == value else "none"


@dataclass(frozen=True)
class Compare:
    """Whether there are `more` or `fewer` of the first things than of the second, or `equally`."""

    how: Comparison
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        first, second = len(self.first.select(things)), len(self.second.select(things))
        outcomes = {"more": first > second, "fewer": first < second, "equally": first == second}
        return _yes(outcomes[self.how])


Program = Query | Count | Exist | Where | Within | Choose | Lies | Same | Share | Compare


@dataclass(frozen=True)
class Question:
    """A question with its only right answer.

    Attributes:
        text: in English.
        answer: what its program says of the image.
        question_type: the kind of question, by which accuracy is reported.
        program: how the answer is found.
    """

    text: str
    answer: str
    question_type: str
    program: Program


def lies(thing: Thing, side: Side | Part, other: Thing | None = None) -> bool:
    """Tell whether a thing lies on a side of another one, or of the middle, as the viewer sees it.

    The middle is that of the image: its middle column for left and right, and for front and back
    the depth at which the camera looks, about its middle row.
    """
    return _distance(thing, side, other) > 0


def clear(thing: Thing, side: Side | Part, other: Thing | None = None) -> bool:
    """Tell whether anybody would agree on which side of the other thing, or the middle, it lies."""
    margin = CLEAR_ACROSS if side in ("left", "right") else CLEAR_DEPTH
    return abs(_distance(thing, side, other)) >= margin


def written(program: object) -> Any:
    """Return a program as lists, texts and numbers that JSON can hold."""
    if isinstance(program, str | int | dict):
        return program
    if isinstance(program, tuple):
        return [written(part) for part in program]
    parts = [written(getattr(program, field.name)) for field in fields(program)]  # type: ignore[arg-type]
    return [type(program).__name__.lower(), *parts]


def _distance(thing: Thing, side: Side | Part, other: Thing | None) -> float:
    """Return how far a thing lies on a side of another one; negative on the opposite side."""
    across, depth = (SIZE / 2, 0.0) if other is None else (other.across, other.depth)
    if side in ("left", "right"):
        rightward = thing.across - across
        return rightward if side == "right" else -rightward
    away = thing.depth - depth
    return -away if side == "front" else away


def _yes(true: bool) -> str:
    return "yes" if true else "no"
