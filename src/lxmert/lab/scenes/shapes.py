"""The shape of each object class: solids and their paint."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lxmert.lab.scenes.geometry import Box, Ellipsoid, Frustum, LyingCylinder, Solid
from lxmert.schema import FloatArray

Color = tuple[float, float, float]

PAPER: Color = (0.85, 0.82, 0.74)
STEEL: Color = (0.42, 0.43, 0.45)
WOOD: Color = (0.30, 0.19, 0.10)
LEAF: Color = (0.12, 0.35, 0.08)
FLAME: Color = (1.0, 0.75, 0.15)
DARK: Color = (0.03, 0.03, 0.03)


@dataclass(frozen=True)
class Part:
    """A solid with its paint.

    Attributes:
        solid: the shape, in units of the object's size.
        paint: a fixed color, or None for the object's own color.
        shade: factor on the paint.
        decal: a pattern on the paint: `(points [3, n], colors [3, n]) -> colors [3, n]`.
        glows: True for a surface that emits its color without light.
    """

    solid: Solid
    paint: Color | None = None
    shade: float = 1.0
    decal: Callable[[FloatArray, FloatArray], FloatArray] | None = None
    glows: bool = False


@dataclass(frozen=True)
class Shape:
    """The parts of an object class standing on the ground, in units of its size.

    Attributes:
        parts: solids with paint.
        radius: radius of the smallest upright cylinder around them.
        height: height of that cylinder.
        turns: ranges of rotation around the vertical axis, in degrees, in which the class is easily
            recognized; 0 is the front.
    """

    parts: tuple[Part, ...]
    radius: float
    height: float
    turns: tuple[tuple[float, float], ...] = ((-180, 180),)


def _hollow(top: float, radius: float) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Paint the upper end of a vessel as a dark opening with a rim."""

    def decal(points: FloatArray, colors: FloatArray) -> FloatArray:
        inside = (points[1] > top - 2e-3) & (np.hypot(points[0], points[2]) < radius)
        return np.where(inside, 0.25 * colors + np.float32(0.01), colors)

    return decal


def _plate_center(points: FloatArray, colors: FloatArray) -> FloatArray:
    """Paint the middle of a plate like porcelain."""
    center = (points[1] > 0.078) & (np.hypot(points[0], points[2]) < 0.36)
    return np.where(center, np.float32(0.55) + 0.3 * colors, colors)


def _clock_face(points: FloatArray, colors: FloatArray) -> FloatArray:
    """Paint a white clock face with hands at three o'clock, which is visible at low resolution."""
    x, y = points[0], points[1] - np.float32(0.5)
    face = (points[2] < -0.098) & (np.hypot(x, y) < 0.34)
    minute = (np.abs(x) < 0.045) & (y > -0.03) & (y < 0.27)
    hour = (np.abs(y) < 0.045) & (x > -0.03) & (x < 0.2)
    colors = np.where(face, np.float32(0.9), colors)
    return np.where(face & (minute | hour), np.float32(0.02), colors)


def _legs(radius: float, height: float) -> tuple[Part, ...]:
    corners = [(radius * np.sin(a), radius * np.cos(a)) for a in np.radians([45, 135, 225, 315])]
    return tuple(
        Part(Frustum(0, height, 0.05, 0.05, center=(float(x), float(z))), paint=WOOD)
        for x, z in corners
    )


SHAPES: dict[str, Shape] = {
    "apple": Shape(
        (
            Part(Ellipsoid((0, 0.36, 0), (0.42, 0.37, 0.42))),
            Part(Frustum(0.66, 0.90, 0.03, 0.045), paint=WOOD),
            Part(Ellipsoid((0.15, 0.83, 0), (0.17, 0.06, 0.09)), paint=LEAF),
        ),
        radius=0.42,
        height=0.9,
    ),
    "ball": Shape((Part(Ellipsoid((0, 0.45, 0), (0.45, 0.45, 0.45))),), radius=0.45, height=0.9),
    "book": Shape(
        (
            Part(Box((0, 0.03, 0), (0.52, 0.03, 0.40))),
            Part(Box((0.02, 0.14, 0), (0.48, 0.09, 0.36)), paint=PAPER),
            Part(Box((0, 0.25, 0), (0.52, 0.03, 0.40))),
            Part(Box((-0.49, 0.14, 0), (0.03, 0.13, 0.40))),
        ),
        radius=0.65,
        height=0.28,
        turns=((-60, 60), (120, 240)),
    ),
    "bottle": Shape(
        (
            Part(Frustum(0, 0.66, 0.24, 0.24)),
            Part(Frustum(0.66, 0.86, 0.24, 0.09)),
            Part(Frustum(0.86, 1.06, 0.09, 0.09)),
            Part(Frustum(1.06, 1.14, 0.11, 0.11), paint=STEEL),
        ),
        radius=0.24,
        height=1.14,
    ),
    "bowl": Shape(
        (
            Part(Frustum(0, 0.06, 0.22, 0.22)),
            Part(Frustum(0.06, 0.38, 0.24, 0.52), decal=_hollow(0.38, 0.47)),
        ),
        radius=0.52,
        height=0.38,
    ),
    "box": Shape(
        (
            Part(Box((0, 0.32, 0), (0.40, 0.32, 0.40))),
            Part(Box((0, 0.70, 0), (0.45, 0.09, 0.45)), shade=0.75),
        ),
        radius=0.62,
        height=0.79,
        turns=((-65, -25), (25, 65)),
    ),
    "can": Shape(
        (
            Part(Frustum(0.05, 0.65, 0.29, 0.29)),
            Part(Frustum(0, 0.05, 0.27, 0.29), paint=STEEL),
            Part(Frustum(0.65, 0.71, 0.29, 0.26), paint=(0.65, 0.66, 0.68)),
        ),
        radius=0.29,
        height=0.71,
    ),
    "candle": Shape(
        (
            Part(Frustum(0, 0.07, 0.30, 0.26), paint=STEEL),
            Part(Frustum(0.07, 0.78, 0.13, 0.13)),
            Part(Frustum(0.78, 0.84, 0.02, 0.02), paint=DARK),
            Part(Ellipsoid((0, 0.95, 0), (0.075, 0.13, 0.075)), paint=FLAME, glows=True),
        ),
        radius=0.30,
        height=1.08,
    ),
    "clock": Shape(
        (
            Part(LyingCylinder((0, 0.5, 0), 0.46, 0.10), decal=_clock_face),
            Part(Box((-0.26, 0.05, 0), (0.06, 0.08, 0.1)), paint=STEEL),
            Part(Box((0.26, 0.05, 0), (0.06, 0.08, 0.1)), paint=STEEL),
        ),
        radius=0.47,
        height=0.96,
        turns=((-30, 30),),
    ),
    "cone": Shape(
        (
            Part(Box((0, 0.03, 0), (0.42, 0.03, 0.42)), shade=0.7),
            Part(Frustum(0.06, 1.0, 0.34, 0.03)),
        ),
        radius=0.55,
        height=1.0,
    ),
    "hat": Shape(
        (
            Part(Frustum(0, 0.05, 0.56, 0.56)),
            Part(Frustum(0.05, 0.16, 0.325, 0.32), paint=STEEL),
            Part(Frustum(0.16, 0.52, 0.31, 0.29)),
        ),
        radius=0.56,
        height=0.52,
    ),
    "lamp": Shape(
        (
            Part(Frustum(0, 0.06, 0.26, 0.24), paint=STEEL),
            Part(Frustum(0.06, 0.6, 0.04, 0.04), paint=STEEL),
            Part(Frustum(0.56, 1.06, 0.44, 0.20)),
        ),
        radius=0.44,
        height=1.06,
    ),
    "mug": Shape(
        (
            Part(Frustum(0, 0.72, 0.32, 0.34), decal=_hollow(0.72, 0.29)),
            Part(LyingCylinder((0.38, 0.38, 0), 0.24, 0.06, hole=0.14)),
        ),
        radius=0.55,
        height=0.72,
        turns=((-50, 50), (130, 230)),
    ),
    "plate": Shape(
        (Part(Frustum(0, 0.08, 0.32, 0.56), decal=_plate_center),), radius=0.56, height=0.08
    ),
    "stool": Shape(
        (Part(Frustum(0.58, 0.70, 0.42, 0.42)), *_legs(0.32, 0.58)), radius=0.42, height=0.7
    ),
    "vase": Shape(
        (
            Part(Ellipsoid((0, 0.36, 0), (0.34, 0.36, 0.34))),
            Part(Frustum(0.62, 0.96, 0.13, 0.25), decal=_hollow(0.96, 0.2)),
        ),
        radius=0.34,
        height=0.96,
    ),
}
