"""What the worlds share: the records of a drawing, shapes, places, and choices of words.

Lengths are in pixels; a box is `(x1, y1, x2, y2)`.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import cos, dist, pi, sin
from random import Random
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageDraw

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]
Meaning = tuple[str | int, ...]

COLORS: dict[str, Color] = {
    "red": (220, 30, 30),
    "green": (25, 150, 45),
    "blue": (30, 70, 225),
    "yellow": (240, 215, 20),
    "orange": (250, 140, 20),
    "purple": (135, 45, 180),
    "pink": (250, 150, 195),
    "brown": (125, 75, 35),
    "cyan": (40, 200, 215),
    "gray": (125, 125, 125),
}
SHAPES = (
    *("circle", "square", "triangle", "star", "cross"),
    *("diamond", "ring", "moon", "arrow", "heart"),
)
YES_NO = ("no", "yes")

_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "arrow": [(0, 0.3), (0.5, 0.3), (0.5, 0), (1, 0.5), (0.5, 1), (0.5, 0.7), (0, 0.7)],
    "cross": [
        *((0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67)),
        *((0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33)),
    ],
    "star": [
        (0.5 + radius * sin(turn * pi / 5), 0.53 - radius * cos(turn * pi / 5))
        for turn in range(10)
        for radius in ((0.22,) if turn % 2 else (0.53,))
    ],
    "heart": [
        (
            0.5 + sin(step * pi / 30) ** 3 / 2,
            0.42
            - (13 * cos(a := step * pi / 30) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 29,
        )
        for step in range(60)
    ],
}
_DISKS: dict[str, Sequence[float]] = {
    "circle": (),
    "ring": (0.25, 0.25, 0.75, 0.75),
    "moon": (0.35, -0.1, 1.2, 0.85),
}
"""Round shape -> the box of the disk that is cut out of it."""
_FINE = 4
_ARTICLE = re.compile(r"\ba(?= [aeiou])")
_TRIES = 200


class Glyph(NamedTuple):
    """One drawn thing; `look` is its size or pattern, where a world has several."""

    shape: str
    color: str
    box: Box
    look: str = ""

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box, (x, y)."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


class QA(NamedTuple):
    """A question about a drawing.

    Attributes:
        type: question type.
        text: the question or statement.
        answer: the right answer.
        meaning: what is asked, free of its phrasing; recorded in `scenes.jsonl`.
        boxes: what the question is about, where it is about certain things.
    """

    type: str
    text: str
    answer: str
    meaning: Meaning
    boxes: tuple[Box, ...] = ()


class WorldImage(NamedTuple):
    """An image with the record of its scene and the questions that may be asked about it."""

    image: Image.Image
    scene: dict[str, Any]
    questions: list[QA]


def paint(image: Image.Image, shape: str, fill: Color | Image.Image, box: Box) -> None:
    """Paint a shape into a box, smooth at the edges, in a color or with a pattern."""
    width, height = box[2] - box[0], box[3] - box[1]
    filled = Image.new("RGB", (width, height), fill) if isinstance(fill, tuple) else fill
    image.paste(filled.crop((0, 0, width, height)), box[:2], _mask(shape, width, height))


def paint_all(image: Image.Image, things: Sequence[Glyph]) -> Image.Image:
    """Paint things in their plain colors; return the image."""
    for thing in things:
        paint(image, thing.shape, COLORS[thing.color], thing.box)
    return image


def place(
    rng: Random, count: int, area: Box, sizes: tuple[int, int], *, gap: float = 1.2
) -> list[Box]:
    """Return squares of random size and place whose centers are `gap` sizes apart at least."""
    while True:
        boxes: list[Box] = []
        for _ in range(_TRIES * count):
            side = rng.randint(*sizes)
            x, y = rng.randint(area[0], area[2] - side), rng.randint(area[1], area[3] - side)
            box = (x, y, x + side, y + side)
            if all(_apart(box, other) >= gap for other in boxes):
                boxes.append(box)
            if len(boxes) == count:
                return boxes


def one_of(rng: Random, phrasings: str, *words: object) -> str:
    """Fill words into one of several phrasings, which `|` separates; `a` becomes `an` if needed."""
    return _ARTICLE.sub("an", rng.choice(phrasings.split("|")).format(*words))


def ask(
    rng: Random,
    question_type: str,
    phrasings: str,
    answer: str | int,
    *words: str | int,
    meaning: Meaning = (),
    boxes: tuple[Box, ...] = (),
) -> QA:
    """Ask a question in one of several phrasings.

    Args:
        rng: chooses the phrasing.
        question_type: its type.
        phrasings: as for `one_of`.
        answer: the right answer; True and False stand for yes and no.
        *words: filled into the phrasing.
        meaning: what is asked; empty: type and words say it.
        boxes: what the question is about.
    """
    right = YES_NO[answer] if isinstance(answer, bool) else str(answer)
    text = one_of(rng, phrasings, *words)
    return QA(question_type, text, right, meaning or (question_type, *words), boxes)


def scene_of(things: Sequence[Glyph], **more: object) -> dict[str, Any]:
    """Return the record of a scene of things."""
    return {"things": [thing._asdict() for thing in things], **more}


def extreme(things: Sequence[Glyph], value: Callable[[Glyph], float], lead: float) -> Glyph | None:
    """Return the thing of the lowest value, if it leads the second by so much."""
    first, second = sorted(things, key=value)[:2]
    return first if value(second) - value(first) >= lead else None


def _apart(one: Box, other: Box) -> float:
    """Return the distance of two squares' centers, in units of their mean size."""
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (one, other)]
    return 2 * dist(*middles) / (one[2] - one[0] + other[2] - other[0])


@lru_cache(maxsize=4096)
def _mask(shape: str, width: int, height: int) -> Image.Image:
    """Return the coverage of each pixel of a box by a shape, 0-255."""
    size = width * _FINE, height * _FINE
    mask = Image.new("L", size)
    if shape in _POLYGONS:
        corners = [(x * size[0], y * size[1]) for x, y in _POLYGONS[shape]]
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        return mask.resize((width, height), Image.Resampling.BOX)
    ImageDraw.Draw(mask).ellipse((0, 0, size[0] - 1, size[1] - 1), fill=255)
    if hole := _DISKS[shape]:
        cut = Image.new("L", size, 255)
        corners = [(hole[i] * size[0], hole[i + 1] * size[1]) for i in (0, 2)]
        ImageDraw.Draw(cut).ellipse([*corners[0], *corners[1]], fill=0)
        mask = ImageChops.multiply(mask, cut)
    return mask.resize((width, height), Image.Resampling.BOX)
