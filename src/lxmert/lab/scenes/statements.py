"""Statements about two images, each with four pairs: true of two of them, false of the others.

In a group of four, one true and one false pair share their left image, and the other two share
their right image. So neither the words alone nor a single image determine whether a
statement is true.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from lxmert.lab.scenes.descriptions import (
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
from lxmert.lab.scenes.programs import COMPARISONS, Comparison, Find
from lxmert.lab.scenes.vocabulary import FORMS, NUMBERS

MIN_IMAGES = 8
"""Minimum number of images for a group."""

_POOL = 24
_TRIES = 60


@dataclass(frozen=True)
class Shows:
    """In which of the two images something is present."""

    which: str
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Return whether it is true of images with these numbers of matching objects."""
        images = (left > 0) + (right > 0)
        return {
            "both": images == 2,
            "one": images == 1,
            "either": images >= 1,
            "neither": images == 0,
        }[self.which]


@dataclass(frozen=True)
class Total:
    """The total number of objects in both images."""

    how: Literal["exactly", "at least", "at most"]
    number: int
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Return whether it is true of images with these numbers of matching objects."""
        total = left + right
        return {
            "exactly": total == self.number,
            "at least": total >= self.number,
            "at most": total <= self.number,
        }[self.how]


@dataclass(frozen=True)
class Sides:
    """Whether the image on one side has more, fewer or as many objects of a kind."""

    how: Comparison
    side: Literal["left", "right"]
    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Return whether it is true of images with these numbers of matching objects."""
        here, there = (left, right) if self.side == "left" else (right, left)
        return {"more": here > there, "fewer": here < there, "equally": here == there}[self.how]


@dataclass(frozen=True)
class Each:
    """Whether the left image shows one object and the right image another."""

    left: Find
    right: Find

    def holds(self, left: int, right: int) -> bool:
        """Return whether it is true of images with these numbers of matching objects."""
        return left > 0 and right > 0


Program = Shows | Total | Sides | Each


class Statement(NamedTuple):
    """A statement about two images.

    Attributes:
        text: in English.
        question_type: `both`, `one`, `either`, `neither`, `total`, `sides` or `each`.
        program: truth condition.
    """

    text: str
    question_type: str
    program: Program


class Judged(NamedTuple):
    """Indices of a pair of images, and whether a statement is true of it."""

    left: int
    right: int
    true: bool


def make_group(
    images: Sequence[Sequence[Thing]], generator: np.random.Generator
) -> tuple[Statement, list[Judged]]:
    """Make a statement and four pairs of images for which it is true or false.

    Args:
        images: the objects of each image; at least `MIN_IMAGES`.
        generator: source of randomness.

    Raises:
        ValueError: if there are too few images, or they are too similar.
    """
    for _ in range(_TRIES):
        if len(images) < MIN_IMAGES:
            break
        size = min(_POOL, len(images))
        pool = generator.choice(len(images), size=size, replace=False).tolist()
        one, other = images[pool[0]], images[pool[1]]
        if not one or not other:
            continue
        statement = _draw_statement(one, other, generator)
        lefts = [matches(images[i], statement.program.left.description) for i in pool]
        rights = [matches(images[i], statement.program.right.description) for i in pool]
        # Row: left image, column: right image.
        truth = np.array([[statement.program.holds(a, b) for b in rights] for a in lefts])
        judged = _choose_pairs(truth, generator)
        if judged:
            return statement, [Judged(pool[a], pool[b], true) for a, b, true in judged]
    raise ValueError(
        f"no statement is true of some pairs of {len(images)} images and false of others, "
        f"expected at least {MIN_IMAGES} different images: make more images"
    )


def _choose_pairs(
    truth: np.ndarray, generator: np.random.Generator
) -> list[tuple[int, int, bool]] | None:
    """Choose a true and a false pair with one left image, and two with one right image."""
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
    """Draw a row with both values, and a column for each; never pair an image with itself."""
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
    """Draw a statement about objects that one of two images shows."""
    description = describe(pick(generator, one), draw_aspects(generator, 2))
    find = Find(description)
    single = with_article(phrase(description, generator))
    several = phrase(description, generator, many=True)
    kind = pick(generator, ("shows", "total", "sides", "each"))
    if kind == "shows":
        which = pick(generator, list(FORMS["shows"]))
        text = pick(generator, FORMS["shows"][which]).format(one=single, several=several)
        return _statement(text, which, Shows(which, find, find))
    if kind == "total":
        number = min(matches(one, description) + matches(other, description), len(NUMBERS) - 1)
        return _draw_total(find, number, generator)
    if kind == "sides":
        how, on_left = pick(generator, COMPARISONS), coin(generator)
        side, opposite = ("left", "right") if on_left else ("right", "left")
        text = pick(generator, FORMS["sides"][how]).format(
            side=side, other=opposite, several=several
        )
        return _statement(text, kind, Sides(how, "left" if on_left else "right", find, find))
    second = describe(pick(generator, other), draw_aspects(generator, 2))
    text = pick(generator, FORMS["each"]["any"]).format(
        left=single, right=with_article(phrase(second, generator))
    )
    return _statement(text, kind, Each(find, Find(second)))


def _draw_total(find: Find, number: int, generator: np.random.Generator) -> Statement:
    """Make a statement about the total number of some objects."""
    hows: tuple[Literal["exactly", "at least", "at most"], ...] = ("exactly", "at least", "at most")
    how = pick(generator, hows)
    text = pick(generator, FORMS["total"]["any"]).format(
        how=how,
        be="is" if number == 1 else "are",
        number=NUMBERS[number],
        several=phrase(find.description, generator, many=number != 1),
    )
    return _statement(text, "total", Total(how, number, find, find))


def _statement(text: str, question_type: str, program: Program) -> Statement:
    return Statement(text[0].upper() + text[1:], question_type, program)
