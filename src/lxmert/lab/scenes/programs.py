"""Programs of questions: which objects to find, and how the answer is computed.

A program is a tree. Its leaves find objects, hops lead from one object to others, its root gives
the answer. `written` converts it to nested lists: `["query", "color", ["find", {"name": "mug"}]]`.
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
COMPARISONS: tuple[Comparison, ...] = ("more", "fewer", "equally")
OPPOSITES: dict[Side, Side] = {
    "left": "right",
    "right": "left",
    "front": "behind",
    "behind": "front",
}

CLEAR_ACROSS, CLEAR_DEPTH = 9.0, 0.45
"""Pixels, units of the ground: objects that are closer than this to each other, or to the middle of
the image, count as neither left nor right, in front nor behind."""


@dataclass(frozen=True)
class Find:
    """The objects that fit a description."""

    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the selected objects."""
        return fitting(things, self.description)


@dataclass(frozen=True)
class Beside:
    """The objects on one side of an object, from the viewer's perspective."""

    side: Side
    of: Find
    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the selected objects."""
        (other,) = self.of.select(things)
        return [t for t in fitting(things, self.description) if lies(t, self.side, other)]


@dataclass(frozen=True)
class Alike:
    """The other objects that share an attribute with an object."""

    aspect: str
    of: Find
    description: Description

    def select(self, things: Sequence[Thing]) -> list[Thing]:
        """Return the selected objects."""
        (other,) = self.of.select(things)
        value = getattr(other, self.aspect)
        alike = fitting(things, self.description | {self.aspect: value})
        return [thing for thing in alike if thing is not other]


Selection = Find | Beside | Alike


@dataclass(frozen=True)
class Query:
    """An attribute of the only selected object."""

    aspect: str
    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the value of the attribute."""
        (thing,) = self.of.select(things)
        value: str = getattr(thing, self.aspect)
        return value


@dataclass(frozen=True)
class Count:
    """The number of selected objects."""

    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the number in digits."""
        return str(len(self.of.select(things)))


@dataclass(frozen=True)
class Exist:
    """Whether any object is selected."""

    of: Selection

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        return _yes(bool(self.of.select(things)))


@dataclass(frozen=True)
class Choose:
    """On which of two opposite sides of the second object the first one is."""

    sides: tuple[Side, Side]
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the side."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return self.sides[0] if lies(first, self.sides[0], second) else self.sides[1]


@dataclass(frozen=True)
class Lies:
    """Whether the first object is on a side of the second."""

    side: Side
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return _yes(lies(first, self.side, second))


@dataclass(frozen=True)
class Where:
    """In which of two opposite parts of the scene the object is."""

    parts: tuple[Part, Part]
    of: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return the part."""
        (thing,) = self.of.select(things)
        return self.parts[0] if lies(thing, self.parts[0]) else self.parts[1]


@dataclass(frozen=True)
class Within:
    """Whether the object is in a part of the scene."""

    part: Part
    of: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (thing,) = self.of.select(things)
        return _yes(lies(thing, self.part))


@dataclass(frozen=True)
class Same:
    """Whether two objects share an attribute."""

    aspect: str
    first: Find
    second: Find

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        (first,), (second,) = self.first.select(things), self.second.select(things)
        return _yes(getattr(first, self.aspect) == getattr(second, self.aspect))


@dataclass(frozen=True)
class Different(Same):
    """Whether two objects differ in an attribute."""

    def answer(self, things: Sequence[Thing]) -> str:
        """Return `yes` or `no`."""
        return _yes(super().answer(things) == "no")


@dataclass(frozen=True)
class Share:
    """Which value of an attribute two objects share."""

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
    """Whether there are `more` or `fewer` of the first objects than of the second, or `equally`."""

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
    """A question with its only correct answer.

    Attributes:
        text: in English.
        answer: result of the program on the image.
        question_type: group in which accuracy is reported.
        program: computes the answer.
    """

    text: str
    answer: str
    question_type: str
    program: Program


def lies(thing: Thing, side: Side | Part, other: Thing | None = None) -> bool:
    """Return whether an object is on a side of another one, or of the middle, for the viewer.

    The middle is that of the image: its middle column for left and right, and for front and back
    the depth at which the camera points, about its middle row.
    """
    return _distance(thing, side, other) > 0


def clear(thing: Thing, side: Side | Part, other: Thing | None = None) -> bool:
    """Return whether it is unambiguous on which side of the other object or the middle it is."""
    margin = CLEAR_ACROSS if side in ("left", "right") else CLEAR_DEPTH
    return abs(_distance(thing, side, other)) >= margin


def written(program: object) -> Any:
    """Convert a program to lists, texts and numbers for JSON."""
    if isinstance(program, str | int | dict):
        return program
    if isinstance(program, tuple):
        return [written(part) for part in program]
    parts = [written(getattr(program, field.name)) for field in fields(program)]  # type: ignore[arg-type]
    return [type(program).__name__.lower(), *parts]


def _distance(thing: Thing, side: Side | Part, other: Thing | None) -> float:
    """Return the distance from another object toward a side; negative on the opposite side."""
    across, depth = (SIZE / 2, 0.0) if other is None else (other.across, other.depth)
    if side in ("left", "right"):
        rightward = thing.across - across
        return rightward if side == "right" else -rightward
    away = thing.depth - depth
    return -away if side == "front" else away


def _yes(true: bool) -> str:
    return "yes" if true else "no"
