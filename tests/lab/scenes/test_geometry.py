"""Ray distances against points sampled on the surfaces by their formulas."""

import numpy as np
import pytest

from lxmert.lab.scenes.geometry import Box, Ellipsoid, Frustum, LyingCylinder, Solid

RAYS = 400
OUTSIDE = 5.0


def inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Tell, by definition of each solid, which points `[3, n]` lie in it."""
    x, y, z = points
    if isinstance(solid, Ellipsoid):
        scaled = (points - np.reshape(solid.center, (3, 1))) / np.reshape(solid.radii, (3, 1))
        return (scaled**2).sum(0) <= 1
    if isinstance(solid, Box):
        offset = np.abs(points - np.reshape(solid.center, (3, 1)))
        return (offset <= np.reshape(solid.half_sizes, (3, 1))).all(0)
    if isinstance(solid, Frustum):
        share = (y - solid.bottom) / (solid.top - solid.bottom)
        radius = solid.bottom_radius + share * (solid.top_radius - solid.bottom_radius)
        across = np.hypot(x - solid.center[0], z - solid.center[1])
        return (share >= 0) & (share <= 1) & (across <= radius)
    across = np.hypot(x - solid.center[0], y - solid.center[1])
    deep = np.abs(z - solid.center[2]) <= solid.half_length
    return deep & (across <= solid.radius) & (across >= solid.hole)


SOLIDS = [
    Ellipsoid((0.1, 0.4, -0.2), (0.5, 0.3, 0.7)),
    Box((0.2, 0.3, 0.1), (0.4, 0.2, 0.6)),
    Frustum(0.1, 0.9, 0.5, 0.2, center=(0.1, -0.2)),
    Frustum(0.0, 0.3, 0.2, 0.6),
    LyingCylinder((0.0, 0.5, 0.1), 0.5, 0.2),
]


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: type(solid).__name__)
def test_distance_is_the_first_point_inside_along_the_ray(solid: Solid) -> None:
    generator = np.random.default_rng(5)
    origins = generator.normal(size=(3, RAYS))
    origins *= OUTSIDE / np.linalg.norm(origins, axis=0)
    directions = generator.uniform(-0.8, 0.8, size=(3, RAYS)) - origins
    directions /= np.linalg.norm(directions, axis=0)
    found = solid.distances(origins.astype(np.float32), directions.astype(np.float32))
    steps = np.arange(0, 2 * OUTSIDE, 0.004)
    for ray in range(RAYS):
        points = origins[:, ray, None] + steps * directions[:, ray, None]
        met = inside(solid, points)
        if met.sum() > 3:  # a ray that only grazes the solid may fall between two steps
            assert found[ray] == pytest.approx(steps[met.argmax()], abs=0.02)
        elif not met.any() and np.isfinite(found[ray]):
            grazed = origins[:, ray] + found[ray] * directions[:, ray]
            around = grazed[:, None] + generator.normal(scale=0.01, size=(3, 200))
            assert inside(solid, around).any()
    assert 50 < np.isfinite(found).sum() < RAYS


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: type(solid).__name__)
def test_normals_point_out_of_the_solid(solid: Solid) -> None:
    generator = np.random.default_rng(6)
    origins = generator.normal(size=(3, RAYS)).astype(np.float32) * 3
    directions = (generator.uniform(-0.5, 0.5, size=(3, RAYS)) - origins).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    distances = solid.distances(origins, directions)
    hit = np.isfinite(distances) & ~inside(solid, origins)
    points = origins[:, hit] + distances[hit] * directions[:, hit]
    normals = solid.normals(points.copy())
    normals = normals / np.linalg.norm(normals, axis=0)
    assert inside(solid, points - 0.01 * normals).mean() > 0.97
    assert not inside(solid, points + 0.01 * normals).any()


def test_a_ray_through_the_hole_of_a_ring_misses() -> None:
    ring = LyingCylinder((0.0, 0.0, 0.0), 0.5, 0.1, hole=0.3)
    origins = np.array([[0.0, 0.4], [0.0, 0.0], [-2.0, -2.0]], dtype=np.float32)
    directions = np.array([[0.0], [0.0], [1.0]], dtype=np.float32).repeat(2, axis=1)
    assert ring.distances(origins, directions).tolist() == [np.inf, pytest.approx(1.9)]
