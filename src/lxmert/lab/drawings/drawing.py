"""Arranges flat shapes in several layouts, and renders them.

Coordinates are (x, y) in pixels; things are ordered as they are drawn.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from lxmert.images import Pixels
from lxmert.lab.drawings.shapes import COLORS, SHAPES, draw_shape

Layout = Literal["scatter", "grid", "panels", "towers", "bars"]
RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]
IntArray = npt.NDArray[np.int64]

_LAYOUTS: tuple[Layout, ...] = ("scatter", "scatter", "grid", "panels", "towers", "bars")
_COMMON_SHAPES = ("circle", "square", "triangle")
_SIZES = {"small": 0.62, "medium": 1.0, "large": 1.5}
_MARGIN = 1.12
"""Smallest distance between centers, as a multiple of the sum of the radii."""

_DISTINCT = 110
"""Smallest difference of a color from the background, summed over R, G and B."""


@dataclass(frozen=True)
class DrawnThing:
    """One shape.

    Attributes:
        shape: one of `SHAPES`.
        color: one of `COLORS`.
        size: `small`, `medium` or `large`; empty if all shapes of the drawing have one size.
        x: of its center, in pixels.
        y: of its center, in pixels.
        radius: half of its size, in pixels.
        panel: number of its box, tower or bar, from the left; 0 without any.
        place: row and column in a grid; in a tower, the level from the base and the tower.
        wall: whether it touches the border of its box.
    """

    shape: str
    color: str
    size: str
    x: float
    y: float
    radius: float
    panel: int = 0
    place: tuple[int, int] = (0, 0)
    wall: bool = False


@dataclass(frozen=True)
class _Style:
    """What all things of one drawing share."""

    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    sizes: tuple[str, ...]
    background: RGB
    line: RGB | None
    turn: float


@dataclass(frozen=True)
class Drawing:
    """The content of a drawing.

    Attributes:
        size: height and width in pixels.
        layout: how the things are arranged.
        things: everything in it.
        boxes: of panels, towers or bars, from the left; none in other layouts.
        style: what all things share.
    """

    size: tuple[int, int]
    layout: Layout
    things: tuple[DrawnThing, ...]
    boxes: tuple[Box, ...]
    style: _Style

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes that could have been drawn."""
        return self.style.shapes

    @property
    def colors(self) -> tuple[str, ...]:
        """The colors that could have been used."""
        return self.style.colors

    def cells(self, stride: int) -> tuple[IntArray, IntArray]:
        """Return the color and shape in each cell of a grid: of the largest thing centered there.

        Args:
            stride: side of a cell in pixels.

        Returns:
            `[rows, columns]` each: 0 for none, 1 for the first of `COLORS` or `SHAPES`. The shape
            of bars is 0.
        """
        rows, columns = self.size[0] // stride, self.size[1] // stride
        colors, shapes = np.zeros((2, rows, columns), np.int64)
        for thing in sorted(self.things, key=lambda thing: thing.radius):
            place = min(int(thing.y // stride), rows - 1), min(int(thing.x // stride), columns - 1)
            colors[place] = list(COLORS).index(thing.color) + 1
            shapes[place] = 0 if self.layout == "bars" else SHAPES.index(thing.shape) + 1
        return colors, shapes


_Content = tuple[list[DrawnThing], list[Box]]
"""The things of a drawing, and its boxes."""


def arrange(generator: np.random.Generator, height: int, width: int) -> Drawing:
    """Choose the content of a drawing: layout, style and things.

    Args:
        generator: source of all choices.
        height: of the drawing in pixels.
        width: of the drawing in pixels.
    """
    layout = _LAYOUTS[generator.integers(len(_LAYOUTS))]
    style = _style(generator, layout)
    if layout in ("panels", "towers"):
        things, boxes = _panels(generator, height, width, style, stacked=layout == "towers")
    else:
        make = {"scatter": _scatter, "grid": _grid, "bars": _bars}[layout]
        things, boxes = make(generator, height, width, style)
    return Drawing((height, width), layout, tuple(things), tuple(boxes), style)


def _style(generator: np.random.Generator, layout: Layout) -> _Style:
    """Choose shapes, colors, sizes and the background of a drawing."""
    background = _background(generator)
    colors = [n for n in COLORS if np.abs(np.subtract(COLORS[n], background)).sum() >= _DISTINCT]
    pool = _COMMON_SHAPES if generator.random() < 0.5 else SHAPES
    shapes = tuple(generator.permutation(pool)[: generator.integers(2, 6)].tolist())
    chosen = tuple(generator.permutation(colors)[: generator.integers(2, 8)].tolist())
    sizes = tuple(_SIZES) if generator.random() < 0.5 else ()
    line = (0, 0, 0) if generator.random() < 0.2 else None
    if layout in ("towers", "bars"):
        shapes, sizes = ("square" if layout == "towers" else "rectangle",), ()
    return _Style(shapes, chosen, sizes, background, line, 0.3 if generator.random() < 0.3 else 0.0)


def _background(generator: np.random.Generator) -> RGB:
    """Choose a background: white, black or any color, plain or pale."""
    names = list(COLORS)
    name = names[generator.integers(len(names))]
    if generator.random() < 0.5:
        name = "white" if generator.random() < 0.6 else "black"
    color = _rgb(_jitter(generator, COLORS[name], 14))
    return _rgb(np.asarray(color) * 0.45 + 110) if generator.random() < 0.4 else color


def _jitter(generator: np.random.Generator, color: RGB, scale: float) -> npt.NDArray[np.float64]:
    """Return a color, varied at random."""
    return np.clip(np.asarray(color) + generator.normal(0, scale, 3), 0, 255)


def _rgb(values: npt.NDArray[Any]) -> RGB:
    """Return three numbers as a color."""
    red, green, blue = np.clip(values, 0, 255).astype(int).tolist()
    return red, green, blue


def _pick(
    generator: np.random.Generator, style: _Style, base: float
) -> tuple[str, str, str, float]:
    """Choose shape, color, size and radius of a thing; `base` is the medium radius in pixels."""
    shape = style.shapes[generator.integers(len(style.shapes))]
    color = style.colors[generator.integers(len(style.colors))]
    size = style.sizes[generator.integers(len(style.sizes))] if style.sizes else ""
    factor = _SIZES.get(size, 1.0)
    return shape, color, size, base * factor * generator.uniform(0.93, 1.07)


def _scatter_in(
    generator: np.random.Generator,
    style: _Style,
    box: Box,
    count: int,
    base: float,
    panel: int = 0,
    wall_share: float = 0.0,
) -> list[DrawnThing]:
    """Place things at random inside a box, without overlap."""
    left, top, right, bottom = box
    things: list[DrawnThing] = []
    for _ in range(count):
        shape, color, size, r = _pick(generator, style, base)
        wall = generator.random() < wall_share
        for _ in range(20):
            x, y = generator.uniform((left + r, top + r), (right - r, bottom - r)).tolist()
            if wall:
                x = left + r if generator.random() < 0.5 else right - r
            if all(
                (x - o.x) ** 2 + (y - o.y) ** 2 > (_MARGIN * (r + o.radius)) ** 2 for o in things
            ):
                things.append(DrawnThing(shape, color, size, x, y, r, panel, wall=wall))
                break
    return things


def _scatter(generator: np.random.Generator, height: int, width: int, style: _Style) -> _Content:
    """Place 1 to 12 things anywhere."""
    base = min(height, width) * generator.uniform(0.05, 0.13)
    count = int(generator.integers(1, 13))
    return _scatter_in(generator, style, (0, 0, width, height), count, base), []


def _grid(generator: np.random.Generator, height: int, width: int, style: _Style) -> _Content:
    """Place things on a regular grid, some of whose places stay empty."""
    short = int(generator.integers(2, 5))
    rows = max(1, round(short * height / min(height, width)))
    columns = max(1, round(short * width / min(height, width)))
    base = min(height / rows, width / columns) * generator.uniform(0.24, 0.32)
    share = generator.uniform(0.4, 1.0)
    things = []
    for row in range(rows):
        for column in range(columns):
            if generator.random() > share:
                continue
            shape, color, size, radius = _pick(generator, style, base)
            x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
            things.append(DrawnThing(shape, color, size, x, y, radius, place=(row, column)))
    return things, []


def _panels(
    generator: np.random.Generator, height: int, width: int, style: _Style, *, stacked: bool
) -> _Content:
    """Place things in 2 to 4 boxes side by side, scattered or stacked to towers."""
    count = int(generator.integers(2, 5 if width >= height * 1.5 else 4))
    gap = width * 0.03
    side = (width - gap * (count + 1)) / count
    tall = min(height * 0.94, side * generator.uniform(1.0, 2.0))
    top = (height - tall) / 2
    boxes = [
        (gap + k * (side + gap), top, gap + k * (side + gap) + side, top + tall)
        for k in range(count)
    ]
    things: list[DrawnThing] = []
    base = side * generator.uniform(0.09, 0.14)
    for panel, box in enumerate(boxes):
        if stacked:
            things += _tower(generator, style, box, panel)
        else:
            number = int(generator.integers(0, 8))
            walls = 0.3 if style.turn == 0 else 0.0
            things += _scatter_in(generator, style, box, number, base, panel, walls)
    return things, list(boxes)


def _tower(generator: np.random.Generator, style: _Style, box: Box, panel: int) -> list[DrawnThing]:
    """Stack blocks of one size on the bottom of a box."""
    left, top, right, bottom = box
    levels = int(generator.integers(1, 6))
    radius = min((bottom - top) / 5.2 / 2, (right - left) * 0.3)
    x = (left + right) / 2
    return [
        DrawnThing(
            "square",
            style.colors[generator.integers(len(style.colors))],
            "",
            x,
            bottom - radius * (2 * level + 1),
            radius,
            panel,
            (level, panel),
            wall=level == 0,
        )
        for level in range(levels)
    ]


def _bars(generator: np.random.Generator, height: int, width: int, style: _Style) -> _Content:
    """Draw a bar chart: a thing's `radius` is half of its height."""
    colors = generator.permutation(style.colors).tolist()
    count = min(len(colors), int(generator.integers(2, 7)))
    heights = generator.permutation(np.linspace(0.2, 0.9, 10))[:count] * height
    step = width / count
    things = [
        DrawnThing("rectangle", color, "", (k + 0.5) * step, height - tall / 2, tall / 2, k)
        for k, (color, tall) in enumerate(zip(colors[:count], heights.tolist(), strict=True))
    ]
    boxes = [
        (k * step + step * 0.2, 0.0, (k + 1) * step - step * 0.2, height) for k in range(count)
    ]
    return things, list(boxes)


def render(generator: np.random.Generator, drawing: Drawing) -> Pixels:
    """Draw a drawing at twice its size and shrink it; blur some drawings, add noise to others.

    Args:
        generator: source of all choices.
        drawing: the content.

    Returns:
        `[height, width, 3]` uint8 RGB.
    """
    height, width = drawing.size
    image = _ground(generator, drawing)
    draw = ImageDraw.Draw(image)
    for thing in drawing.things:
        color = _rgb(_jitter(generator, COLORS[thing.color], 10))
        if drawing.layout == "bars":
            left, _, right, bottom = drawing.boxes[thing.panel]
            bar = (left, bottom - 2 * thing.radius, right, bottom)
            draw.rectangle([2 * v for v in bar], fill=color, outline=drawing.style.line)
            continue
        # Squares that touch a wall or each other reach the edge of their place.
        share = 0.8 if thing.shape == "square" and not thing.wall else 0.96
        draw_shape(
            draw,
            thing.shape,
            (2 * thing.x, 2 * thing.y),
            2 * share * thing.radius,
            color,
            turn=float(generator.uniform(-1, 1)) * drawing.style.turn,
            line=drawing.style.line,
        )
    small = image.resize((width, height), Image.Resampling.BOX)
    if generator.random() < 0.15:
        small = small.filter(ImageFilter.GaussianBlur(0.7))
    pixels = np.asarray(small)
    if generator.random() < 0.2:
        noise = generator.normal(0, generator.uniform(3, 12), (height, width, 1))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels


def _ground(generator: np.random.Generator, drawing: Drawing) -> Image.Image:
    """Return the empty image at twice its size: plain or cloudy, with the boxes of panels."""
    size = (drawing.size[1] * 2, drawing.size[0] * 2)
    background = drawing.style.background
    image = Image.new("RGB", size, background)
    if generator.random() < 0.25:
        clouds = np.clip(np.asarray(background) + generator.normal(0, 14, (5, 5, 3)), 0, 255)
        image = Image.fromarray(clouds.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    if drawing.layout in ("panels", "towers"):
        shade = 22 if sum(background) < 380 else -22
        for box in drawing.boxes:
            fill = _rgb(np.asarray(background) + shade)
            ImageDraw.Draw(image).rectangle([2 * v for v in box], fill=fill)
    return image
