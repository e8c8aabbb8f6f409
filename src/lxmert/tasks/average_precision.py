"""Average precision of detections by COCO's rules, with 101-point interpolation.

Shapes: `objects` are annotated, `regions` are detected. A region has one class and one score.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert import boxes as box_arithmetic
from lxmert.schema import FloatArray, IntArray

THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds for a correct detection: the ten of COCO."""

_RECALLS = np.linspace(0, 1, 101)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """The annotated objects of an image.

    Attributes:
        boxes: `[objects, 4]`.
        object_ids: `[objects]`.
        optional: `[objects]`; detections of these are ignored.
    """

    boxes: FloatArray
    object_ids: IntArray
    optional: Flags


@dataclass(frozen=True)
class Found:
    """The detections of an image.

    Attributes:
        boxes: `[regions, 4]` in the same pixels as the objects.
        object_ids: `[regions]`.
        scores: `[regions]`; only their order matters.
    """

    boxes: FloatArray
    object_ids: IntArray
    scores: FloatArray


class _Judged(NamedTuple):
    """The regions of one class in one image; `[thresholds, regions]` flags."""

    scores: FloatArray
    right: Flags
    uncounted: Flags


class PrecisionMeter:
    """Accumulates images, then computes the average precision of each class."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._judged: dict[int, list[_Judged]] = defaultdict(list)
        self._num_objects = np.zeros(num_classes, dtype=np.int64)

    def add(self, truth: Truth, found: Found) -> None:
        """Match the detections of one image with its objects, class by class."""
        counted = truth.object_ids[~truth.optional]
        self._num_objects += np.bincount(counted, minlength=self.num_classes)
        for object_id in np.unique(found.object_ids).tolist():
            regions = np.flatnonzero(found.object_ids == object_id)
            regions = regions[np.argsort(-found.scores[regions], kind="stable")]
            objects = np.flatnonzero(truth.object_ids == object_id)
            overlaps = box_arithmetic.iou(
                found.boxes[regions].astype(np.float64), truth.boxes[objects].astype(np.float64)
            )
            judged = [match(overlaps, truth.optional[objects], limit) for limit in THRESHOLDS]
            right, uncounted = (np.stack(flags) for flags in zip(*judged, strict=True))
            self._judged[object_id].append(_Judged(found.scores[regions], right, uncounted))

    def result(self) -> npt.NDArray[np.float64]:
        """Return `[thresholds, classes]` in `[0, 1]`; NaN for a class without a counted object."""
        precisions = np.full((len(THRESHOLDS), self.num_classes), np.nan)
        for object_id in np.flatnonzero(self._num_objects).tolist():
            parts = self._judged.get(object_id, [])
            for row in range(len(THRESHOLDS)):
                kept = [~part.uncounted[row] for part in parts]
                precisions[row, object_id] = average_precision(
                    _join([part.scores[mask] for part, mask in zip(parts, kept, strict=True)]),
                    _join([part.right[row][mask] for part, mask in zip(parts, kept, strict=True)]),
                    num_objects=int(self._num_objects[object_id]),
                )
        return precisions


def match(
    overlaps: npt.ArrayLike, optional: npt.ArrayLike, threshold: float
) -> tuple[Flags, Flags]:
    """Match each region, most confident first, with the unmatched object of largest overlap.

    An optional object is matched only if no other object is available.

    Args:
        overlaps: `[regions, objects]` IoU, regions by descending score.
        optional: `[objects]`.
        threshold: minimum IoU of a match.

    Returns:
        `[regions]`, whether each matches a counted object; and whether it matches an optional
        object and is ignored.
    """
    overlaps = np.asarray(overlaps, dtype=np.float64)
    optional = np.asarray(optional, dtype=bool)
    right, uncounted = np.zeros((2, len(overlaps)), dtype=bool)
    free = np.ones(len(optional), dtype=bool)
    for region, row in enumerate(overlaps):
        possible = free & (row >= threshold)
        counted = possible & ~optional
        possible = counted if counted.any() else possible
        if possible.any():
            taken = int(np.where(possible, row, -1).argmax())
            free[taken] = False
            right[region], uncounted[region] = not optional[taken], optional[taken]
    return right, uncounted


def average_precision(scores: npt.ArrayLike, right: npt.ArrayLike, *, num_objects: int) -> float:
    """Return the mean over recalls 0, 0.01 .. 1 of the maximum precision at that recall or above.

    Args:
        scores: `[regions]` of one class in all images.
        right: `[regions]`, whether each matches an object.
        num_objects: number of objects; at least 1.

    Source: the evaluation of COCO's detection task.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    hits = np.cumsum(np.asarray(right, dtype=bool)[order])
    recall = hits / num_objects
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())


def _join(parts: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.concatenate(parts) if parts else np.zeros(0)
