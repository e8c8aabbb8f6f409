"""Worlds of true and false: statements in free phrasing about three boxes, and a grid of shapes."""

from collections.abc import Iterator
from itertools import product
from random import Random

from PIL import Image, ImageDraw

from lxmert.lab.worlds.drawing import (
    COLORS,
    QA,
    YES_NO,
    Color,
    Glyph,
    Meaning,
    WorldImage,
    one_of,
    paint,
    place,
    scene_of,
)

_INKS: dict[str, Color] = {"yellow": (245, 205, 20), "black": (15, 15, 15), "blue": (0, 105, 205)}
_KINDS = ("circle", "square", "triangle")
_BOXES = ("left", "middle", "right")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
_TRUTH = ("false", "true")
_TYPO_RATE = 0.04
_CELL = 32
_THREE = ("red", "green", "blue")
_STEPS = {"above": (1, 0), "left of": (0, 1)}
"""Word -> rows and columns to the second of the two shapes."""

Things = list[Glyph]


def statements(rng: Random) -> WorldImage:
    """Draw three boxes of small shapes, and state things about them; some words are misspelled."""
    image = Image.new("RGB", (320, 100), (255, 255, 255))
    boxes: list[Things] = []
    common = rng.choice(list(_INKS)) if rng.random() < 0.6 else None  # in every box
    for number in range(3):
        left = 108 * number
        ImageDraw.Draw(image).rectangle((left, 0, left + 103, 99), fill=(215, 215, 215))
        inks, kinds = (
            rng.sample(list(_INKS), rng.randint(1, 3)),
            rng.sample(_KINDS, rng.randint(1, 3)),
        )
        boxes.append(
            [
                Glyph(rng.choice(kinds), rng.choice(inks), box, _BOXES[number])
                for box in place(rng, rng.randint(1, 6), (left + 3, 3, left + 101, 97), (10, 24))
            ]
        )
        if common:
            boxes[-1][0] = boxes[-1][0]._replace(color=common)
    things = [thing for box in boxes for thing in box]
    for thing in things:
        paint(image, thing.shape, _INKS[thing.color], thing.box)
    stated = [
        QA(key, _misspell(rng, text), _TRUTH[holds], meaning)
        for key, text, holds, meaning in _state(rng, boxes, things)
    ]
    return WorldImage(image, scene_of(things), stated)


def _state(
    rng: Random, boxes: list[Things], things: Things
) -> Iterator[tuple[str, str, bool, Meaning]]:
    """Yield question type, text, truth and meaning of statements."""
    for _ in range(4):
        color, shape = rng.choice(list(_INKS)), rng.choice(_KINDS)
        number, where = rng.randint(1, 6), rng.randrange(3)
        text = one_of(
            rng,
            "there is a box with exactly {0} items|one of the boxes holds exactly {0} items|"
            "at least one box contains just {0} items",
            _NUMBERS[number],
        )
        yield "size", text, any(len(box) == number for box in boxes), ("size", number)
        text = one_of(rng, "every box has a {0} item|there is something {0} in each of the boxes|"
                      "all three boxes contain at least one {0} item", color)  # fmt: skip
        holds = all(any(thing.color == color for thing in box) for box in boxes)
        yield "each", text, holds, ("each", color)
        text = one_of(
            rng, "all {0}s are {1}|each {0} is {1}|there is no {0} that is not {1}", shape, color
        )
        holds = all(thing.color == color for thing in things if thing.shape == shape)
        yield "all", text, holds, ("all", shape, color)
        text = one_of(
            rng,
            "the {0} box has a {1} {2}|there is a {1} {2} in the {0} box|you can find at least one "
            "{1} {2} in the box at {0}",
            _BOXES[where], color, shape,
        )  # fmt: skip
        holds = any((thing.color, thing.shape) == (color, shape) for thing in boxes[where])
        yield "inside", text, holds, ("inside", _BOXES[where], color, shape)
        text = one_of(rng, "there are at least {0} {1}s in all|at least {0} of all items are {1}s|"
                      "{0} or more {1}s can be seen", _NUMBERS[number], shape)  # fmt: skip
        holds = sum(thing.shape == shape for thing in things) >= number
        yield "least", text, holds, ("least", number, shape)
        other = (where + rng.randint(1, 2)) % 3
        text = one_of(rng, "the {0} box has more items than the {1} one|there are more items in "
                      "the {0} box than in the {1} box", _BOXES[where], _BOXES[other])  # fmt: skip
        holds = len(boxes[where]) > len(boxes[other])
        yield "more", text, holds, ("more", _BOXES[where], _BOXES[other])


def _misspell(rng: Random, text: str) -> str:
    """Swap, drop or double a letter in some of the longer words."""

    def spell(word: str) -> str:
        if len(word) < 4 or rng.random() > _TYPO_RATE:
            return word
        at = rng.randrange(len(word) - 1)
        middle = rng.choice((word[at + 1] + word[at], word[at + 1], 2 * word[at] + word[at + 1]))
        return word[:at] + middle + word[at + 2 :]

    ends = rng.choice(("", "", ".", " ."))
    return " ".join(map(spell, text.split())) + ends


def grid(rng: Random) -> WorldImage:
    """Draw a grid of three by three cells, with few different questions of yes and no."""
    image = Image.new("RGB", (3 * _CELL, 3 * _CELL), (0, 0, 0))
    cells: dict[tuple[int, int], Glyph] = {}
    for cell in range(9):
        row, column = divmod(cell, 3)
        if rng.random() < 0.6:
            size, shift = rng.choice((16, 24)), rng.randint(2, 6)
            x, y = column * _CELL + shift, row * _CELL + shift
            thing = Glyph(rng.choice(_KINDS), rng.choice(_THREE), (x, y, x + size, y + size))
            cells[row, column] = thing
            paint(image, thing.shape, COLORS[thing.color], thing.box)
    things = scene_of(list(cells.values()), cells=list(cells))
    return WorldImage(image, things, list(_grid_questions(cells)))


def _grid_questions(cells: dict[tuple[int, int], Glyph]) -> Iterator[QA]:
    """Yield every question of the grid."""
    found = {(thing.color, thing.shape) for thing in cells.values()}
    for color, shape in product(_THREE, _KINDS):
        holds = (color, shape) in found
        yield QA("is", f"is a {shape} {color}?", YES_NO[holds], ("is", color, shape))
        for word, (down, across) in _STEPS.items():
            holds = any(
                thing.color == color and cells[row + down, column + across].shape == shape
                for (row, column), thing in cells.items()
                if (row + down, column + across) in cells
            )
            text = f"is a {color} shape directly {word} a {shape}?"
            yield QA("next", text, YES_NO[holds], ("next", word, color, shape))
