"""Draws flat colored shapes; the vocabulary of shapes, colors and sizes with their synonyms."""

import math
from collections.abc import Callable

import numpy as np
from PIL.ImageDraw import ImageDraw

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 225),
    "yellow": (240, 220, 40),
    "orange": (245, 145, 30),
    "purple": (140, 50, 180),
    "pink": (250, 140, 190),
    "brown": (130, 80, 40),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "gray": (130, 130, 130),
    "cyan": (40, 200, 220),
}
"""RGB of each color; a drawing varies it a little."""

SYNONYMS = {
    "circle": ("circle", "disc", "round shape", "dot"),
    "square": ("square", "block"),
    "triangle": ("triangle", "wedge"),
    "rectangle": ("rectangle", "bar"),
    "diamond": ("diamond", "rhombus"),
    "pentagon": ("pentagon",),
    "hexagon": ("hexagon",),
    "star": ("star",),
    "cross": ("cross", "plus"),
    "ring": ("ring",),
    "ellipse": ("ellipse", "oval"),
    "semicircle": ("semicircle",),
    "heart": ("heart",),
    "arrow": ("arrow",),
    "gray": ("gray", "grey"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium sized"),
    "large": ("large", "big"),
}
"""Words for a shape, color or size; a name that is not here is its own only word."""


def regular(corners: int, radius: float, turn: float) -> list[tuple[float, float]]:
    """Return the corners of a regular polygon around (0, 0), starting at the top."""
    angles = [math.tau * k / corners + turn - math.pi / 2 for k in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _star(radius: float, turn: float) -> list[tuple[float, float]]:
    """Return the corners of a star with five points."""
    outer, inner = regular(5, radius, turn), regular(5, radius * 0.42, turn + math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart(radius: float) -> list[tuple[float, float]]:
    """Return points on a heart curve."""
    angles = np.linspace(0, math.tau, 24)
    x = 16 * np.sin(angles) ** 3
    y = -(13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles))
    return [(radius * a, radius * b) for a, b in zip(x / 16, y / 16, strict=True)]


_POLYGONS: dict[str, Callable[[float, float], list[tuple[float, float]]]] = {
    "square": lambda r, t: regular(4, r * 1.25, t + math.pi / 4),
    "triangle": lambda r, t: regular(3, r * 1.15, t),
    "rectangle": lambda r, _: [(-r, -r / 2), (r, -r / 2), (r, r / 2), (-r, r / 2)],
    "diamond": lambda r, _: [(0, -r), (r * 0.7, 0), (0, r), (-r * 0.7, 0)],
    "pentagon": lambda r, t: regular(5, r * 1.05, t),
    "hexagon": lambda r, t: regular(6, r * 1.05, t),
    "star": lambda r, t: _star(r * 1.15, t),
    "cross": lambda r, _: [
        (r * a, r * b)
        for a, b in (
            *((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)),
            *((0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)),
        )
    ],
    "heart": lambda r, _: _heart(r),
    "arrow": lambda r, _: [
        (r * a, r * b)
        for a, b in (
            *((1, 0), (0.1, -0.9), (0.1, -0.35), (-1, -0.35)),
            *((-1, 0.35), (0.1, 0.35), (0.1, 0.9)),
        )
    ],
}
"""Shapes that are polygons: radius and a small rotation in radians to corners around (0, 0)."""

_ROUND = ("circle", "ring", "ellipse", "semicircle")
SHAPES = (*_ROUND, *_POLYGONS)


def draw_shape(
    draw: ImageDraw,
    shape: str,
    center: tuple[float, float],
    radius: float,
    color: tuple[int, int, int],
    *,
    turn: float = 0.0,
    line: tuple[int, int, int] | None = None,
) -> None:
    """Draw one shape.

    Args:
        draw: where to draw.
        shape: one of `SHAPES`.
        center: (x, y) in pixels.
        radius: half of its size in pixels.
        color: RGB.
        turn: rotation of regular polygons in radians.
        line: RGB of a thin contour; None for none.
    """
    x, y = center
    if shape in _POLYGONS:
        corners = [(x + a, y + b) for a, b in _POLYGONS[shape](radius, turn)]
        draw.polygon(corners, fill=color, outline=line)
        return
    height = radius * 0.6 if shape == "ellipse" else radius
    box = (x - radius, y - height, x + radius, y + height)
    if shape == "semicircle":
        low = (x - radius, y - radius / 2, x + radius, y + radius * 1.5)
        draw.pieslice(low, 180, 360, fill=color, outline=line)
    elif shape == "ring":
        draw.ellipse(box, outline=color, width=max(2, round(radius * 0.4)))
    else:
        draw.ellipse(box, fill=color, outline=line)
