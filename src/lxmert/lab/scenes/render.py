"""Renders layouts by ray casting in numpy, with the exact visible box of every object.

Colors are linear RGB until the last step; arrays of rays, points and colors are `[3, n]`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lxmert.lab.scenes.geometry import dot
from lxmert.lab.scenes.layout import SceneLayout, SceneObject, Surroundings
from lxmert.lab.scenes.shapes import SHAPES
from lxmert.lab.scenes.vocabulary import COLORS
from lxmert.schema import FloatArray

SIZE = 160
"""Height and width of an image in pixels."""

_AMBIENT, _FILL, _SUN = 0.22, 0.16, 0.80
_NOISE = 1.6
_SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Intersections of each ray with each object.

    Attributes:
        depths: `[objects, rays]` distance, infinite for a miss.
        parts: `[objects, rays]` index of the part that is hit.
    """

    depths: FloatArray
    parts: npt.NDArray[np.uint8]

    def nearest(self) -> tuple[Indices, FloatArray]:
        """Return, by ray, the nearest object (-1: none) and its distance (infinite: none)."""
        rays = self.depths.shape[1]
        first, depth = np.full(rays, -1), np.full(rays, np.inf, dtype=np.float32)
        for index, depths in enumerate(self.depths):
            closer = depths < depth
            first[closer] = index
            depth = np.minimum(depth, depths)
        return first, depth

    def keep(self, objects: list[int]) -> "Hits":
        """Return the hits of some of the objects."""
        return Hits(self.depths[objects], self.parts[objects])


def pixel_rays(layout: SceneLayout) -> FloatArray:
    """Return the ray directions of all pixel centers, row by row: `[3, SIZE * SIZE]`."""
    centers = ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(centers, -centers)
    return layout.camera.directions(x.ravel(), y.ravel())


def trace(objects: tuple[SceneObject, ...], origins: FloatArray, directions: FloatArray) -> Hits:
    """Intersect rays with each object separately."""
    rays = directions.shape[1] if directions.shape[1] > 1 else origins.shape[1]
    depths = np.full((len(objects), rays), np.inf, dtype=np.float32)
    parts = np.zeros((len(objects), rays), dtype=np.uint8)
    middle = dot(origins, directions)
    for index, thing in enumerate(objects):
        near = _near(thing, origins, directions, middle)
        local_origins = _to_local(thing, origins if origins.shape[1] == 1 else origins[:, near])
        local_directions = _turn(
            directions if directions.shape[1] == 1 else directions[:, near], -thing.turn
        ) / np.float32(thing.scale)
        best = np.full(len(near), np.inf, dtype=np.float32)
        for number, part in enumerate(SHAPES[thing.name].parts):
            with np.errstate(invalid="ignore"):  # infinite for a miss; times 0 it is NaN
                distances = part.solid.distances(local_origins, local_directions)
            closer = distances < best
            best[closer] = distances[closer]
            parts[index, near[closer]] = number
        depths[index, near] = best
    return Hits(depths, parts)


def render(layout: SceneLayout, hits: Hits, noise: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Render a layout from the hits of its pixel rays.

    Returns:
        `[SIZE, SIZE, 3]` uint8 RGB with gamma 2. Edge pixels are averaged over four rays.
    """
    directions = pixel_rays(layout)
    colors = _shade(layout, directions, hits)
    edges = np.flatnonzero(_edges(hits))
    if len(edges):
        finer = np.concatenate([_shift(layout, edges, offset) for offset in _SUBPIXELS], axis=1)
        origin = _vector(*layout.camera.position)
        fine_colors = _shade(layout, finer, trace(layout.objects, origin, finer))
        fine_colors = np.clip(fine_colors, 0, 1).reshape(3, len(_SUBPIXELS), len(edges))
        colors[:, edges] = fine_colors.mean(1)
    image = 255 * np.sqrt(np.clip(colors, 0, 1))
    image += _NOISE * noise.standard_normal(image.shape, dtype=np.float32)
    drawn: npt.NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return drawn.T.reshape(SIZE, SIZE, 3)


def _near(
    thing: SceneObject, origins: FloatArray, directions: FloatArray, middle: FloatArray
) -> Indices:
    """Return the rays that hit the sphere around an object; `middle` is origins . directions."""
    shape = SHAPES[thing.name]
    center = _vector(thing.x, shape.height / 2 * thing.scale, thing.z)
    reach = float(np.hypot(shape.radius, shape.height / 2)) * thing.scale
    along = dot(center, directions) - middle
    offsets = center - origins
    across = dot(offsets, offsets) - along * along
    return np.flatnonzero((across < reach * reach) & (along > -reach))


def _turn(vectors: FloatArray, angle: float) -> FloatArray:
    """Rotate vectors `[3, n]` around the vertical axis."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y, z = vectors
    return np.stack([cosine * x + sine * z, y, cosine * z - sine * x])


def _to_local(thing: SceneObject, points: FloatArray) -> FloatArray:
    """Transform points into the coordinates of an object's shape."""
    return _turn(points - _vector(thing.x, 0, thing.z), -thing.turn) / np.float32(thing.scale)


def _edges(hits: Hits) -> npt.NDArray[np.bool_]:
    """Return which pixels differ in object or part from a neighbor."""
    nearest, _ = hits.nearest()
    codes = nearest.copy()
    for index, parts in enumerate(hits.parts):
        codes[nearest == index] += (1 + index) * 16 + parts[nearest == index]
    codes = codes.reshape(SIZE, SIZE)
    edges = np.zeros((SIZE, SIZE), dtype=bool)
    across, down = codes[:, 1:] != codes[:, :-1], codes[1:] != codes[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges.ravel()


def _shift(layout: SceneLayout, pixels: Indices, offset: tuple[float, float]) -> FloatArray:
    """Return rays through points offset from the centers of some pixels."""
    x = (pixels % SIZE + 0.5 + offset[0]) / SIZE * 2 - 1
    y = 1 - (pixels // SIZE + 0.5 + offset[1]) / SIZE * 2
    return layout.camera.directions(x.astype(np.float32), y.astype(np.float32))


def _shade(layout: SceneLayout, directions: FloatArray, hits: Hits) -> FloatArray:
    """Return the color along each ray from the camera."""
    origin = _vector(*layout.camera.position)
    nearest, depth = hits.nearest()
    points, normals, colors = _background(layout, origin, directions)
    metal = np.zeros(len(depth), dtype=bool)
    glows = np.zeros(len(depth), dtype=bool)
    for index, thing in enumerate(layout.objects):
        rays = np.flatnonzero(nearest == index)
        points[:, rays] = origin + depth[rays] * directions[:, rays]
        metal[rays] = thing.material == "metal"
        _paint(thing, rays, hits.parts[index, rays], points, normals, colors, glows)
    return _light(layout, directions, points, normals, colors, metal=metal, glows=glows)


def _paint(
    thing: SceneObject,
    rays: Indices,
    parts: npt.NDArray[np.uint8],
    points: FloatArray,
    normals: FloatArray,
    colors: FloatArray,
    glows: npt.NDArray[np.bool_],
) -> None:
    """Fill in normals and colors of the rays that hit one object."""
    own = COLORS[thing.color]
    for number, part in enumerate(SHAPES[thing.name].parts):
        chosen = rays[parts == number]
        if not len(chosen):
            continue
        local = _to_local(thing, points[:, chosen])
        paint = np.array(part.paint or own, dtype=np.float32)[:, None] * np.float32(part.shade)
        paint = np.repeat(paint, len(chosen), axis=1)
        colors[:, chosen] = paint if part.decal is None else part.decal(local, paint)
        facing = _turn(part.solid.normals(local), thing.turn)
        normals[:, chosen] = facing / np.sqrt(np.maximum(dot(facing, facing), 1e-12))
        glows[chosen] = part.glows


def _background(
    layout: SceneLayout, origin: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return points, normals and colors of table and wall along each ray."""
    around = layout.surroundings
    down = np.minimum(directions[1], np.float32(-1e-6))
    to_ground = -origin[1] / down
    to_wall = (np.float32(around.wall_distance) - origin[2]) / directions[2]
    on_ground = to_ground < to_wall
    points = origin + np.where(on_ground, to_ground, to_wall) * directions
    normals = np.where(on_ground, _vector(0, 1, 0), _vector(0, 0, -1))
    marked = on_ground & _pattern(around, points)
    colors = np.where(on_ground, _vector(*around.ground), _vector(*around.wall))
    return points, normals, np.where(marked, _vector(*around.ground_contrast), colors)


def _pattern(around: Surroundings, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which points of the table have its second color."""
    x, _, z = _turn(points, around.pattern_turn) * np.float32(around.pattern_scale)
    if around.pattern == "checks":
        return np.asarray((np.floor(x) + np.floor(z)) % 2 == 0)
    if around.pattern == "stripes":
        return np.asarray(np.floor(1.4 * x) % 2 == 0)
    if around.pattern == "waves":
        return np.asarray(np.floor(1.3 * z + 0.35 * np.sin(2 * x)) % 2 == 0)
    return np.zeros(x.shape, dtype=bool)


def _light(
    layout: SceneLayout,
    directions: FloatArray,
    points: FloatArray,
    normals: FloatArray,
    colors: FloatArray,
    *,
    metal: npt.NDArray[np.bool_],
    glows: npt.NDArray[np.bool_],
) -> FloatArray:
    """Light surface points: sun with shadows, sky, a fill light, and reflections on metal."""
    around = layout.surroundings
    light = _vector(*around.light)
    sun = np.maximum(dot(normals, light), 0)
    lit = np.flatnonzero(sun > 0)
    starts = points[:, lit] + normals[:, lit] * np.float32(2e-3)
    _, blocked = trace(layout.objects, starts, light).nearest()
    sun[lit[np.isfinite(blocked)]] = 0
    fill = np.clip(-normals[2], 0, None)
    sky = 0.75 + 0.25 * normals[1]
    shaded = colors * (_AMBIENT * sky + _FILL * fill + _SUN * sun)
    mirrored = directions - 2 * dot(directions, normals) * normals
    gloss = np.maximum(dot(mirrored, light), 0) * (sun > 0)
    shaded[:, ~metal] += 0.03 * gloss[~metal] ** 8
    mirrors = (0.12 + 0.88 * colors[:, metal]) * (
        0.75 * _room(mirrored[:, metal]) * _brushed(points[:, metal]) + 1.5 * gloss[metal] ** 30
    )
    shaded[:, metal] = 0.35 * shaded[:, metal] + mirrors
    return np.where(glows, colors, shaded * np.float32(around.brightness))


def _room(directions: FloatArray) -> FloatArray:
    """Return the reflected environment brightness: dark table, bright horizon, dim ceiling."""
    height = directions[1]
    horizon = np.exp(-(((height - np.float32(0.22)) / np.float32(0.16)) ** 2))
    window = np.clip(1 - np.abs(directions[0] + 0.45) / 0.22, 0, 1) * (height > 0.1)
    return np.asarray(0.12 + 0.75 * horizon + 0.6 * window * (height < 0.85))


def _brushed(points: FloatArray) -> FloatArray:
    """Return the fine lines of brushed metal, which also distinguish it on flat surfaces."""
    lines = np.sin(34 * points[1] + 20 * (points[0] - 0.6 * points[2]))
    return np.asarray(1 + 0.4 * lines)


def _vector(x: float, y: float, z: float) -> FloatArray:
    return np.array([[x], [y], [z]], dtype=np.float32)
