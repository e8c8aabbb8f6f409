"""Ray intersection with four solids: ellipsoid, box, upright frustum, lying cylinder; vectorized.

All functions use the solid's own coordinates: x right, y up, z away from the viewer. A ray is
`origin + t * direction`; arrays are `[3, rays]`, an origin may also be `[3, 1]`. Distances are
`[rays]`, infinite if the ray misses. This module knows no objects, cameras or colors.
"""

from dataclasses import dataclass

import numpy as np

from lxmert.schema import FloatArray

_NEAREST = np.float32(1e-3)
"""Intersections closer than this belong to the surface where the ray starts."""


@dataclass(frozen=True)
class Ellipsoid:
    """An axis-parallel ellipsoid."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]

    def distances(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Return where each ray enters the ellipsoid."""
        radii = _column(self.radii)
        origins, directions = (origins - _column(self.center)) / radii, directions / radii
        entry, _ = _quadratic(
            dot(directions, directions), dot(origins, directions), dot(origins, origins) - 1
        )
        return np.where(entry > _NEAREST, entry, np.float32(np.inf))

    def normals(self, points: FloatArray) -> FloatArray:
        """Return outward normals (any length) at surface points `[3, points]`."""
        return np.asarray((points - _column(self.center)) / _column(self.radii) ** 2)


@dataclass(frozen=True)
class Box:
    """An axis-parallel box."""

    center: tuple[float, float, float]
    half_sizes: tuple[float, float, float]

    def distances(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Return where each ray enters the box (slab method)."""
        offsets = _column(self.center) - origins
        inverse = 1 / _nonzero(directions)
        middles = offsets * inverse
        reaches = np.abs(_column(self.half_sizes) * inverse)
        entry = (middles - reaches).max(0)
        leave = (middles + reaches).min(0)
        return np.where((entry < leave) & (entry > _NEAREST), entry, np.float32(np.inf))

    def normals(self, points: FloatArray) -> FloatArray:
        """Return outward normals at surface points `[3, points]`."""
        relative = (points - _column(self.center)) / _column(self.half_sizes)
        axis = np.abs(relative).argmax(0)
        normals = np.zeros_like(relative)
        columns = np.arange(relative.shape[1])
        normals[axis, columns] = np.sign(relative[axis, columns])
        return normals


@dataclass(frozen=True)
class Frustum:
    """An upright cone slice between two heights, with flat ends: cylinder, cone, disc or bowl."""

    bottom: float
    top: float
    bottom_radius: float
    top_radius: float
    center: tuple[float, float] = (0.0, 0.0)

    @property
    def slope(self) -> float:
        """Change of the radius per unit of height."""
        return (self.top_radius - self.bottom_radius) / (self.top - self.bottom)

    def distances(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Return the first hit of the side or of an end of the frustum."""
        x, y, z = origins[0] - self.center[0], origins[1], origins[2] - self.center[1]
        dx, dy, dz = directions
        radius, radius_rate = self.bottom_radius + (y - self.bottom) * self.slope, dy * self.slope
        sides = _quadratic(
            dx * dx + dz * dz - radius_rate * radius_rate,
            x * dx + z * dz - radius * radius_rate,
            x * x + z * z - radius * radius,
        )
        best = np.full(dx.shape, np.inf, dtype=np.float32)
        for distance in sides:
            height = y + distance * dy
            inside = (height >= self.bottom) & (height <= self.top) & (distance > _NEAREST)
            best = np.where(inside, np.minimum(best, distance), best)
        for height, limit in ((self.bottom, self.bottom_radius), (self.top, self.top_radius)):
            distance = (height - y) / _nonzero(dy)
            across = (x + distance * dx) ** 2 + (z + distance * dz) ** 2
            inside = (across < limit * limit) & (distance > _NEAREST)
            best = np.where(inside, np.minimum(best, distance), best)
        return best

    def normals(self, points: FloatArray) -> FloatArray:
        """Return outward normals (any length) at surface points `[3, points]`."""
        x, y, z = points[0] - self.center[0], points[1], points[2] - self.center[1]
        normals = np.stack([x, -self.slope * np.hypot(x, z), z])
        normals[:, self.on_top(points)] = _column((0, 1, 0))
        normals[:, y < self.bottom + 2e-3] = _column((0, -1, 0))
        return normals

    def on_top(self, points: FloatArray) -> np.ndarray:
        """Return which surface points lie on the upper end."""
        return np.asarray(points[1] > self.top - 2e-3)


@dataclass(frozen=True)
class LyingCylinder:
    """A cylinder with its axis toward the viewer (along z), with or without a hole."""

    center: tuple[float, float, float]
    radius: float
    half_length: float
    hole: float = 0.0

    def distances(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Return the first hit of the rim or of an end of the cylinder."""
        x, y, z = origins - _column(self.center)
        dx, dy, dz = directions
        rims = _quadratic(dx * dx + dy * dy, x * dx + y * dy, x * x + y * y - self.radius**2)
        best = np.full(dx.shape, np.inf, dtype=np.float32)
        for distance in rims:
            inside = (np.abs(z + distance * dz) <= self.half_length) & (distance > _NEAREST)
            best = np.where(inside, np.minimum(best, distance), best)
        for depth in (-self.half_length, self.half_length):
            distance = (depth - z) / _nonzero(dz)
            across = (x + distance * dx) ** 2 + (y + distance * dy) ** 2
            inside = (across < self.radius**2) & (across >= self.hole**2) & (distance > _NEAREST)
            best = np.where(inside, np.minimum(best, distance), best)
        return best

    def normals(self, points: FloatArray) -> FloatArray:
        """Return outward normals (any length) at surface points `[3, points]`."""
        normals = points - _column(self.center)
        on_end = np.abs(normals[2]) > self.half_length - 2e-3
        normals[0, on_end] = normals[1, on_end] = 0
        normals[2, ~on_end] = 0
        return normals


Solid = Ellipsoid | Box | Frustum | LyingCylinder


def dot(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the inner products of vectors `[3, n]` (n may be 1 on either side)."""
    return np.asarray(first[0] * second[0] + first[1] * second[1] + first[2] * second[2])


def _column(values: tuple[float, ...]) -> FloatArray:
    return np.array(values, dtype=np.float32)[:, None]


def _nonzero(values: FloatArray) -> FloatArray:
    """Move values away from zero to avoid division by zero."""
    return np.where(np.abs(values) < 1e-9, np.float32(1e-9), values)


def _quadratic(
    square: FloatArray, half_linear: FloatArray, constant: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solve `square t^2 + 2 half_linear t + constant = 0`; both infinite if there is no root."""
    square = _nonzero(square)
    discriminant = half_linear * half_linear - square * constant
    root = np.sqrt(np.maximum(discriminant, 0))
    missed = discriminant < 0
    first = np.where(missed, np.float32(np.inf), (-half_linear - root) / square)
    second = np.where(missed, np.float32(np.inf), (-half_linear + root) / square)
    return first, second
