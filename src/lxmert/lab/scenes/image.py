"""A rendered scene: the image with exact labels of its visible objects."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lxmert.lab.scenes.descriptions import Thing
from lxmert.lab.scenes.layout import (
    MAX_OBJECTS,
    MIN_OBJECTS,
    SceneLayout,
    SceneObject,
    sample_layout,
)
from lxmert.lab.scenes.render import SIZE, Hits, pixel_rays, render, trace
from lxmert.lab.scenes.vocabulary import HELD_OUT, SEEN, Pairs

SPLITS: dict[str, Pairs] = {"train": SEEN, "valid": SEEN, "test": SEEN, "compositional": HELD_OUT}
"""Split -> pairs of color and object name that occur in it; no two splits share a scene."""

MIN_VISIBLE, MIN_PIXELS = 0.4, 45
"""An object that is less visible (fraction of its outline, pixels) is removed."""


@dataclass(frozen=True)
class VisibleObject:
    """An object with its visibility.

    Attributes:
        thing: its labels and place.
        box: `(x1, y1, x2, y2)` around its visible pixels.
        visible: visible fraction of its outline within the image, in `(0, 1]`.
        pixels: number of its visible pixels.
    """

    thing: SceneObject
    box: tuple[int, int, int, int]
    visible: float
    pixels: int

    def as_thing(self) -> Thing:
        """Return the properties of the object that texts use."""
        thing, (x1, _, x2, _) = self.thing, self.box
        return Thing(
            name=thing.name,
            color=thing.color,
            size=thing.size,
            material=thing.material,
            across=(x1 + x2) / 2,
            depth=thing.z,
        )


@dataclass(frozen=True)
class SceneImage:
    """A rendered scene: `[SIZE, SIZE, 3]` uint8 sRGB pixels; its objects, nearest first."""

    pixels: npt.NDArray[np.uint8]
    objects: tuple[VisibleObject, ...]


def make_image(
    split: str,
    index: int,
    *,
    seed: int,
    fewest: int = MIN_OBJECTS,
    most: int = MAX_OBJECTS,
) -> SceneImage:
    """Make image `index` of a split; the same arguments always give the same image.

    Args:
        split: key of `SPLITS`.
        index: number of the image, from 0.
        seed: selects a set of images, from 0.
        fewest: minimum number of objects, before hidden ones are removed.
        most: maximum number of objects.

    Raises:
        ValueError: for an unknown split, a negative number, or an invalid number of objects.
    """
    layout, objects, hits, generator = draw_scene(split, index, seed, fewest, most)
    return SceneImage(render(layout, hits, generator), look(objects, hits))


def check_objects(fewest: int, most: int) -> None:
    """Check the range of the number of objects.

    Raises:
        ValueError: naming the valid range.
    """
    if not 1 <= fewest <= most <= MAX_OBJECTS:
        raise ValueError(
            f"got {fewest} to {most} objects, expected two numbers from 1 to {MAX_OBJECTS} in "
            "ascending order"
        )


def draw_scene(
    split: str, index: int, seed: int, fewest: int, most: int
) -> tuple[SceneLayout, tuple[SceneObject, ...], Hits, np.random.Generator]:
    """Draw a scene and remove objects that are not visible enough, without rendering it.

    Arguments and errors are those of `make_image`.

    Returns:
        The layout, its objects, the pixels that show them, and the generator for rendering.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index {index} and seed {seed} are given, expected 0 or more for both")
    check_objects(fewest, most)
    generator = np.random.default_rng([seed, list(SPLITS).index(split), index])
    layout = sample_layout(generator, pairs=SPLITS[split], fewest=fewest, most=most)
    origin = np.array(layout.camera.position, dtype=np.float32)[:, None]
    hits = trace(layout.objects, origin, pixel_rays(layout))
    kept = well_visible(hits)
    objects = tuple(layout.objects[number] for number in kept)
    return replace(layout, objects=objects), objects, hits.keep(kept), generator


def well_visible(hits: Hits) -> list[int]:
    """Remove the least visible object until all are visible enough; return the others."""
    kept = list(range(len(hits.depths)))
    outlines = np.isfinite(hits.depths).sum(1)
    while kept:
        visible = _count_visible(hits.keep(kept))
        shares = visible / np.maximum(outlines[kept], 1)
        shares[visible < MIN_PIXELS] = 0
        if shares.min() >= MIN_VISIBLE:
            break
        kept.pop(int(shares.argmin()))
    return kept


def _count_visible(hits: Hits) -> npt.NDArray[np.int64]:
    """Return the number of pixels in which each object is the nearest one."""
    first, _ = hits.nearest()
    return np.bincount(first + 1, minlength=len(hits.depths) + 1)[1:]


def look(objects: tuple[SceneObject, ...], hits: Hits) -> tuple[VisibleObject, ...]:
    """Label the visible part of each object."""
    first = hits.nearest()[0].reshape(SIZE, SIZE)
    outlines = np.isfinite(hits.depths).sum(1)
    seen = []
    for number, thing in enumerate(objects):
        rows, columns = np.nonzero(first == number)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        x1, y1, x2, y2 = (int(side) for side in box)
        share = len(rows) / float(outlines[number])
        seen.append(VisibleObject(thing, (x1, y1, x2, y2), share, len(rows)))
    return tuple(sorted(seen, key=lambda item: item.thing.z))
