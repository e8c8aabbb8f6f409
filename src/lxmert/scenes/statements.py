"""Statements about two pictures, each about four pairs: true of two of them, false of the others.

In a group of four, a true and a false pair have their left picture in common, the other two their
right one. So the words alone do not tell whether a statement is true, and one picture does not for
certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from lxmert.scenes.descriptions import (
    Thing,
    coin,
    describe,
    draw_aspects,
    matches,
    phrase,
    pick,
    shuffled,
    with_article,
)
from lxmert.scenes.programs import Comparison, Find
from lxmert.scenes.vocabulary import NUMBERS

FEWEST_PICTURES = 8
"""Pictures from which groups can be made."""

_POOL = 24
_TRIES = 60

SHOWS_FORMS = {
    "both": (
        "Both pictures show {one}.",
        "There is {one} in each picture.",
        "Each image contains {one}.",
        "{one} is on both tables.",
    ),
    "one": (
        "Only one picture shows {one}.",
        "There is {one} in exactly one of the pictures.",
        "Exactly one image contains {one}.",
        "{one} is on only one of the two tables.",
    ),
    "either": (
        "At least one picture shows {one}.",
        "There is {one} in one picture or in both.",
        "At least one of the images contains {one}.",
        "{one} is on at least one of the tables.",
    ),
    "neither": (
        "Neither picture shows {one}.",
        "There are no {several} in the two pictures.",
        "None of the images contains {one}.",
        "No {several} are on the tables.",
    ),
}
TOTAL_FORMS = (
    "There {be} {how} {number} {several} in the two pictures together.",
    "The pictures show {how} {number} {several} in total.",
    "{how} {number} {several} {be} on the two tables.",
    "The two images contain {how} {number} {several}.",
)
COMPARE_FORMS: dict[Comparison, tuple[str, ...]] = {
    "more": (
        "The {side} picture shows more {several} than the {other} one.",
        "There are more {several} in the {side} picture than in the {other} one.",
        "More {several} are on the {side} table than on the {other} one.",
        "The {side} image contains more {several} than the {other} image.",
    ),
    "fewer": (
        "The {side} picture shows fewer {several} than the {other} one.",
        "There are fewer {several} in the {side} picture than in the {other} one.",
        "Fewer {several} are on the {side} table than on the {other} one.",
        "The {side} image contains fewer {several} than the {other} image.",
    ),
    "equally": (
        "The {side} picture shows exactly as many {several} as the {other} one.",
        "There are exactly as many {several} in the {side} picture as in the {other} one.",
        "Exactly as many {several} are on the {side} table as on the {other} one.",
        "The {side} image contains exactly as many {several} as the {other} image.",
    ),
}
EACH_FORMS = (
    "There is {left} in the left picture and {right} in the right one.",
    "The left picture shows {left} and the right one {right}.",
    "{left} is on the left table and {right} on the right one.",
    "The right image contains {right}, the left image {left}.",
)


@dataclass(frozen=True)
class Shows:
    """In which of the two pictures there is something."""

    which: str
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Tell whether it is true of pictures with so many of the things that are meant."""
        pictures = (left > 0) + (right > 0)
        return {
            "both": pictures == 2,
            "one": pictures == 1,
            "either": pictures >= 1,
            "neither": pictures == 0,
        }[self.which]


@dataclass(frozen=True)
class Total:
    """How many things there are in both pictures together."""

    how: Literal["exactly", "at least", "at most"]
    number: int
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Tell whether it is true of pictures with so many of the things that are meant."""
        total = left + right
        return {
            "exactly": total == self.number,
            "at least": total >= self.number,
            "at most": total <= self.number,
        }[self.how]


@dataclass(frozen=True)
class Sides:
    """Whether the picture on one side has more, fewer or as many of some things."""

    how: Comparison
    side: Literal["left", "right"]
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Tell whether it is true of pictures with so many of the things that are meant."""
        here, there = (left, right) if self.side == "left" else (right, left)
        return {"more": here > there, "fewer": here < there, "equally": here == there}[self.how]


@dataclass(frozen=True)
class Each:
    """Whether the left picture shows one thing and the right one another."""

    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Tell whether it is true of pictures with so many of the things that are meant."""
        return left > 0 and right > 0


Program = Shows | Total | Sides | Each


class Statement(NamedTuple):
    """What is said about two pictures.

    Attributes:
        text: in English.
        family: `both`, `one`, `either`, `neither`, `total`, `sides` or `each`.
        program: when it is true.
    """

    text: str
    family: str
    program: Program


class Judged(NamedTuple):
    """A pair of pictures, by their numbers, and whether a statement is true of it."""

    left: int
    right: int
    true: bool


def make_group(
    pictures: Sequence[Sequence[Thing]], generator: np.random.Generator
) -> tuple[Statement, list[Judged]]:
    """Make a statement and four pairs of pictures to judge it by.

    Args:
        pictures: the objects of each picture; at least `FEWEST_PICTURES`.
        generator: source of randomness.

    Raises:
        ValueError: if the pictures are too few or too alike.
    """
    for _ in range(_TRIES):
        if len(pictures) < FEWEST_PICTURES:
            break
        size = min(_POOL, len(pictures))
        pool = generator.choice(len(pictures), size=size, replace=False).tolist()
        one, other = pictures[pool[0]], pictures[pool[1]]
        if not one or not other:
            continue
        statement = _draw_statement(one, other, generator)
        lefts = [matches(pictures[i], statement.program.left.description) for i in pool]
        rights = [matches(pictures[i], statement.program.right.description) for i in pool]
        # Row: left picture, column: right picture.
        truth = np.array([[statement.program.holds(a, b) for b in rights] for a in lefts])
        judged = _choose_pairs(truth, generator)
        if judged:
            return statement, [Judged(pool[a], pool[b], true) for a, b, true in judged]
    raise ValueError(
        f"no statement is true of some pairs of {len(pictures)} pictures and false of others; "
        f"expected at least {FEWEST_PICTURES} different pictures: make more of them"
    )


def _choose_pairs(
    truth: np.ndarray, generator: np.random.Generator
) -> list[tuple[int, int, bool]] | None:
    """Choose a true and a false pair with one left picture, and two with one right picture."""
    by_left, by_right = _minimal_pair(truth, generator), _minimal_pair(truth.T, generator)
    if by_left is None or by_right is None:
        return None
    left, true, false = by_left
    right, true_left, false_left = by_right
    chosen = {
        (left, true): True,
        (left, false): False,
        (true_left, right): True,
        (false_left, right): False,
    }
    if len(chosen) < 4:
        return None
    return [(*pair, chosen[pair]) for pair in shuffled(generator, list(chosen))]


def _minimal_pair(truth: np.ndarray, generator: np.random.Generator) -> tuple[int, int, int] | None:
    """Draw a row that has both values, and a column for each; no picture is its own partner."""
    for row in generator.permutation(len(truth)).tolist():
        columns = [column for column in generator.permutation(len(truth)).tolist() if column != row]
        true = [column for column in columns if truth[row, column]]
        false = [column for column in columns if not truth[row, column]]
        if true and false:
            return row, true[0], false[0]
    return None


def _draw_statement(
    one: Sequence[Thing], other: Sequence[Thing], generator: np.random.Generator
) -> Statement:
    """Draw a statement about things that one of two pictures shows."""
    description = describe(pick(generator, one), draw_aspects(generator, 2))
    find = Find(description)
    single = with_article(phrase(description, generator))
    several = phrase(description, generator, many=True)
    kind = pick(generator, ("shows", "total", "sides", "each"))
    if kind == "shows":
        which = pick(generator, list(SHOWS_FORMS))
        text = pick(generator, SHOWS_FORMS[which]).format(one=single, several=several)
        return _statement(text, which, Shows(which, find, find))
    if kind == "total":
        number = min(matches(one, description) + matches(other, description), len(NUMBERS) - 1)
        return _draw_total(find, number, generator)
    if kind == "sides":
        how, on_left = pick(generator, list(COMPARE_FORMS)), coin(generator)
        side, opposite = ("left", "right") if on_left else ("right", "left")
        text = pick(generator, COMPARE_FORMS[how]).format(
            side=side, other=opposite, several=several
        )
        return _statement(text, kind, Sides(how, "left" if on_left else "right", find, find))
    second = describe(pick(generator, other), draw_aspects(generator, 2))
    text = pick(generator, EACH_FORMS).format(
        left=single, right=with_article(phrase(second, generator))
    )
    return _statement(text, kind, Each(find, Find(second)))


def _draw_total(find: Find, number: int, generator: np.random.Generator) -> Statement:
    """State how many of some things there are in all."""
    hows: tuple[Literal["exactly", "at least", "at most"], ...] = ("exactly", "at least", "at most")
    how = pick(generator, hows)
    text = pick(generator, TOTAL_FORMS).format(
        how=how,
        be="is" if number == 1 else "are",
        number=NUMBERS[number],
        several=phrase(find.description, generator, many=number != 1),
    )
    return _statement(text, "total", Total(how, number, find, find))


def _statement(text: str, family: str, program: Program) -> Statement:
    return Statement(text[0].upper() + text[1:], family, program)
