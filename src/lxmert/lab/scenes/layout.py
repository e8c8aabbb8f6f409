"""The layout of a scene: objects on a table, surroundings, a camera."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lxmert.lab.scenes.shapes import SHAPES
from lxmert.lab.scenes.vocabulary import COLORS, MATERIALS, OBJECTS, SEEN, SIZES, Pairs
from lxmert.schema import FloatArray

MIN_OBJECTS, MAX_OBJECTS = 3, 8
PATTERNS = ("plain", "checks", "stripes", "waves")

_DEPTH_RANGE = (-2.4, 2.3)
_GAP = 0.06
_PLACEMENT_TRIES = 60
_REPEAT_NAME, _REPEAT_COLOR = 0.3, 0.2
"""Fraction of objects that copy the name or color of an earlier one, so that counts exceed 1."""


@dataclass(frozen=True)
class SceneObject:
    """One object on the table: its labels, and its position in units of the ground."""

    name: str
    color: str
    size: str
    material: str
    x: float
    z: float
    scale: float
    turn: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: position, target, and focal length in half image widths."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float

    def directions(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return `[3, points]` ray directions of image points in `[-1, 1]`, y up."""
        forward = _unit(np.array(self.target) - np.array(self.position))
        right = _unit(np.cross([0.0, 1.0, 0.0], forward))
        frame = np.stack([right, np.cross(forward, right), self.focal * forward])
        rays = frame.T.astype(np.float32) @ np.stack([x, y, np.ones_like(x)])
        return np.asarray(rays / np.sqrt((rays * rays).sum(0)), dtype=np.float32)


@dataclass(frozen=True)
class Surroundings:
    """Table, wall and light; colors are linear RGB reflectances."""

    ground: tuple[float, float, float]
    ground_contrast: tuple[float, float, float]
    pattern: str
    pattern_scale: float
    pattern_turn: float
    wall: tuple[float, float, float]
    wall_distance: float
    light: tuple[float, float, float]
    brightness: float


@dataclass(frozen=True)
class SceneLayout:
    """Everything that determines an image except its visibility limits."""

    objects: tuple[SceneObject, ...]
    surroundings: Surroundings
    camera: Camera


def sample_layout(
    generator: np.random.Generator,
    *,
    pairs: Pairs = SEEN,
    fewest: int = MIN_OBJECTS,
    most: int = MAX_OBJECTS,
) -> SceneLayout:
    """Draw a layout; the same generator state gives the same layout.

    Args:
        generator: source of randomness.
        pairs: allowed pairs of color and name.
        fewest: minimum number of objects to try to place.
        most: maximum number of objects to try to place.
    """
    camera = _sample_camera(generator)
    count = int(generator.integers(fewest, most + 1))
    objects: list[SceneObject] = []
    for _ in range(count):
        candidate = _sample_object(generator, objects, pairs)
        placed = _place(generator, candidate, objects, camera)
        if placed is not None:
            objects.append(placed)
    return SceneLayout(tuple(objects), _sample_surroundings(generator), camera)


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _sample_camera(generator: np.random.Generator) -> Camera:
    position = (
        float(generator.uniform(-0.5, 0.5)),
        float(generator.uniform(2.3, 3.3)),
        float(generator.uniform(-6.6, -6.0)),
    )
    target = (float(generator.uniform(-0.15, 0.15)), float(generator.uniform(0.0, 0.25)), 0.2)
    return Camera(position, target, focal=float(generator.uniform(2.4, 2.65)))


def _sample_object(
    generator: np.random.Generator, others: Sequence[SceneObject], pairs: Pairs
) -> SceneObject:
    """Draw labels, scale and orientation of an object, without a position."""
    old_name = bool(others) and bool(generator.random() < _REPEAT_NAME)
    old_color = bool(others) and bool(generator.random() < _REPEAT_COLOR)
    color, name = "", ""
    while (color, name) not in pairs:
        name, color = str(generator.choice(OBJECTS)), str(generator.choice(list(COLORS)))
        if old_name:
            name = others[int(generator.integers(len(others)))].name
        if old_color:
            color = others[int(generator.integers(len(others)))].color
    size = str(generator.choice(list(SIZES)))
    turns = SHAPES[name].turns
    low, high = turns[int(generator.integers(len(turns)))]
    return SceneObject(
        name=name,
        color=color,
        size=size,
        material=str(generator.choice(MATERIALS)),
        x=0.0,
        z=0.0,
        scale=SIZES[size] * float(generator.uniform(0.95, 1.05)),
        turn=float(np.radians(generator.uniform(low, high))),
    )


def _place(
    generator: np.random.Generator,
    candidate: SceneObject,
    others: Sequence[SceneObject],
    camera: Camera,
) -> SceneObject | None:
    """Find a free visible position for an object; None if the table is full."""
    radius = SHAPES[candidate.name].radius * candidate.scale
    for _ in range(_PLACEMENT_TRIES):
        z = float(generator.uniform(*_DEPTH_RANGE))
        reach = (z - camera.position[2]) / camera.focal * 0.93 - radius
        x = float(generator.uniform(-reach, reach)) + camera.position[0] * 0.1
        if all(
            np.hypot(x - other.x, z - other.z)
            > radius + SHAPES[other.name].radius * other.scale + _GAP
            for other in others
        ):
            return replace(candidate, x=x, z=z)
    return None


def _sample_surroundings(generator: np.random.Generator) -> Surroundings:
    azimuth = generator.uniform(-1.2, 1.2) * np.pi / 2
    elevation = np.radians(generator.uniform(38, 65))
    light = (
        np.cos(elevation) * np.sin(azimuth),
        np.sin(elevation),
        -np.cos(elevation) * np.cos(azimuth),
    )
    ground = _pale_color(generator, 0.22, 0.60)
    contrast = tuple(float(channel * generator.uniform(0.62, 0.85)) for channel in ground)
    return Surroundings(
        ground=ground,
        ground_contrast=(contrast[0], contrast[1], contrast[2]),
        pattern=str(generator.choice(PATTERNS)),
        pattern_scale=float(generator.uniform(0.7, 1.3)),
        pattern_turn=float(generator.uniform(-0.6, 0.6)),
        wall=_pale_color(generator, 0.12, 0.45),
        wall_distance=float(generator.uniform(4.0, 5.5)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        brightness=float(generator.uniform(0.9, 1.15)),
    )


def _pale_color(
    generator: np.random.Generator, darkest: float, brightest: float
) -> tuple[float, float, float]:
    """Draw a color of low saturation, so that surfaces do not compete with objects."""
    channels = generator.uniform(darkest, brightest) * generator.uniform(0.78, 1.22, size=3)
    return float(channels[0]), float(channels[1]), float(channels[2])
