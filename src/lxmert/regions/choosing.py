"""Proposes boxes and selects regions with NumPy, for detectors that run outside of PyTorch.

The rules are those of `proposals` and `selection`, which need PyTorch; the tests compare them.
Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized image. For equal scores the first
candidate always ranks higher.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lxmert.boxes import iou
from lxmert.regions.configuration import DetectorConfig
from lxmert.schema import FloatArray, IntArray

ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
CANDIDATES_PER_PROPOSAL = 6
MOST_PAIRS = 2048
"""Maximum number of pairs of a candidate and a class that are compared at once."""


class Scored(NamedTuple):
    """Outputs of the head for one image.

    Attributes:
        probabilities: `[candidates, classes]` without background.
        proposals: `[candidates, 4]`.
        refine: maps candidates and classes, both `[pairs]`, to refined boxes `[pairs, 4]`.
    """

    probabilities: FloatArray
    proposals: FloatArray
    refine: Callable[[IntArray, IntArray], FloatArray]

    def boxes(self, kind: str, candidates: IntArray, classes: IntArray) -> FloatArray:
        """Return the "proposal" or the "refined" boxes of pairs: `[pairs, 4]`."""
        return (
            self.proposals[candidates] if kind == "proposal" else self.refine(candidates, classes)
        )


class Chosen(NamedTuple):
    """Candidates from best to worst, the classes they were selected for, and how many are good."""

    candidates: IntArray
    classes: IntArray
    num_good: int


def place_anchors(
    cell_anchors: FloatArray, rows: int, columns: int, *, stride: int, offset: float
) -> FloatArray:
    """Shift the anchors of a cell to every cell: `[rows x columns x shapes, 4]`."""
    y, x = np.meshgrid(
        (np.arange(rows, dtype=np.float32) + np.float32(offset)) * stride,
        (np.arange(columns, dtype=np.float32) + np.float32(offset)) * stride,
        indexing="ij",
    )
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return np.asarray((shifts + cell_anchors).reshape(-1, 4), np.float32)


def decode(
    deltas: FloatArray,
    references: FloatArray,
    weights: tuple[float, ...],
    config: DetectorConfig,
    image_size: tuple[int, int],
) -> FloatArray:
    """Apply deltas to reference boxes and clip the result to the image; all `[boxes, 4]`."""
    deltas = np.asarray(deltas / np.array(weights, np.float32), np.float32)
    centers = (references[:, :2] + references[:, 2:]) / 2
    sides = references[:, 2:] - references[:, :2]
    centers = centers + deltas[:, :2] * sides
    limit = math.inf if config.max_log_scale is None else config.max_log_scale
    sides = sides * np.exp(np.minimum(deltas[:, 2:], np.float32(limit)))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    height, width = image_size
    limits = np.array([width, height, width, height], np.float32) - np.float32(config.clip_margin)
    return np.asarray(np.minimum(np.maximum(boxes, 0), limits), np.float32)


def propose(
    logits: FloatArray,
    deltas: FloatArray,
    anchors: FloatArray,
    config: DetectorConfig,
    image_size: tuple[int, int],
    scale: float,
) -> FloatArray:
    """Return the proposals of one image, best first, as `ProposalGenerator` does.

    Args:
        logits: `[anchors]`.
        deltas: `[anchors, 4]`.
        anchors: `[anchors, 4]`.
        config: configuration of the detector.
        image_size: (height, width) of the resized image.
        scale: resized pixels per original pixel.
    """
    wanted = config.proposal_candidates or CANDIDATES_PER_PROPOSAL * config.proposals
    kept = np.arange(len(logits))
    if config.min_side_when == "before":
        every = decode(deltas, anchors, ANCHOR_WEIGHTS, config, image_size)
        kept = kept[_are_large(every, config, scale)]
    kept = kept[np.argsort(-logits[kept], kind="stable")[:wanted]]
    boxes = decode(deltas[kept], anchors[kept], ANCHOR_WEIGHTS, config, image_size)
    if config.min_side_when == "after":
        large = _are_large(boxes, config, scale)
        kept, boxes = kept[large], boxes[large]
    threshold = _strict(config.proposal_nms_threshold, config.nms_ties)
    best = nms(_extend(boxes, config.side_offset), logits[kept], threshold, most=config.proposals)
    return boxes[best]


def nms(
    boxes: FloatArray, scores: FloatArray, threshold: float, *, most: int | None = None
) -> IntArray:
    """Return the boxes that no stronger kept box overlaps by more than a threshold, best first."""
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left) and (most is None or len(kept) < most):
        best, left = left[0], left[1:]
        kept.append(int(best))
        # In float64, in which torchvision's kernel compares too.
        left = left[iou(boxes[best : best + 1], boxes[left])[0].astype(np.float64) <= threshold]
    return np.asarray(kept, np.int64)


def select_regions(candidates: Scored, config: DetectorConfig, *, offset: float) -> Chosen:
    """Select the regions of one image, as `selection.select_regions` does."""
    for threshold in (config.nms_threshold, *config.nms_ladder):
        strict = _strict(threshold, config.nms_ties)
        choice = _SELECTIONS[config.selection](candidates, config, strict, offset)
        if choice.num_good >= config.min_regions:
            break
    wanted = max(choice.num_good, config.min_regions) if config.fill_up else choice.num_good
    count = min(wanted, config.num_regions)
    return Chosen(choice.candidates[:count], choice.classes[:count], min(choice.num_good, count))


def _select_agnostic(
    candidates: Scored, config: DetectorConfig, threshold: float, offset: float
) -> Chosen:
    scores, classes = candidates.probabilities.max(axis=1), candidates.probabilities.argmax(axis=1)
    everyone = np.arange(len(scores))
    boxes = _extend(candidates.boxes(config.nms_boxes, everyone, classes), offset)
    good = np.flatnonzero(scores >= np.float32(config.score_threshold))
    kept = good[nms(boxes[good], scores[good], threshold)]
    order = np.concatenate([kept, _others(kept, scores)])
    return Chosen(order, classes[order], len(kept))


def _select_survivors(
    candidates: Scored, config: DetectorConfig, threshold: float, offset: float
) -> Chosen:
    probabilities = candidates.probabilities
    num_wanted = min(len(probabilities), config.num_regions)
    needed = config.min_regions if config.fill_up else 0
    scores = np.zeros(len(probabilities), np.float32)
    for floor, regions, classes in _best_pairs(probabilities, num_wanted):
        kept = _keep_pairs(candidates, config, regions, classes, threshold, offset)
        scores = np.zeros(len(probabilities), np.float32)
        np.maximum.at(scores, regions[kept], probabilities[regions[kept], classes[kept]])
        num_certain = int((scores > 0).sum())
        enough = floor <= config.score_threshold and num_certain >= min(needed, len(scores))
        if num_certain >= num_wanted or enough:
            break
    order = np.argsort(-scores, kind="stable")
    num_good = int((scores >= np.float32(config.score_threshold)).sum())
    return Chosen(order, probabilities[order].argmax(axis=1), num_good)


def _select_pairs(
    candidates: Scored, config: DetectorConfig, threshold: float, offset: float
) -> Chosen:
    probabilities = candidates.probabilities
    for floor, regions, classes in _best_pairs(probabilities, config.num_regions):
        good = probabilities[regions, classes] >= np.float32(config.score_threshold)
        regions, classes = regions[good], classes[good]
        kept = _keep_pairs(candidates, config, regions, classes, threshold, offset)
        if len(kept) >= config.num_regions or floor <= config.score_threshold:
            break
    rest = _others(regions[kept], probabilities.max(axis=1))
    order = np.concatenate([regions[kept], rest])
    chosen_as = np.concatenate([classes[kept], probabilities[rest].argmax(axis=1)])
    return Chosen(order, chosen_as, len(kept))


_SELECTIONS: dict[str, Callable[[Scored, DetectorConfig, float, float], Chosen]] = {
    "agnostic": _select_agnostic,
    "survivors": _select_survivors,
    "per_class": _select_pairs,
}


def _best_pairs(
    probabilities: FloatArray, num_wanted: int
) -> Iterator[tuple[float, IntArray, IntArray]]:
    """Yield the pairs above a floor that is lowered to 0; see `selection._best_pairs`."""
    best = np.sort(probabilities.max(axis=1))[::-1]
    floor = float(best[min(len(best), 2 * num_wanted) - 1]) if len(best) else 0.0
    while True:
        regions, classes = np.nonzero(probabilities >= np.float32(floor))
        if len(regions) > MOST_PAIRS:
            break
        yield floor, regions, classes
        if floor == 0.0 or len(regions) == probabilities.size:
            return
        floor = floor / 4 if floor > np.finfo(np.float32).tiny else 0.0
    regions, classes = np.nonzero(probabilities >= 0)
    yield 0.0, regions, classes


def _keep_pairs(
    candidates: Scored,
    config: DetectorConfig,
    regions: IntArray,
    classes: IntArray,
    threshold: float,
    offset: float,
) -> IntArray:
    """Return the indices of the pairs that survive the NMS of their class, best first."""
    scores = candidates.probabilities[regions, classes]
    boxes = _extend(candidates.boxes(config.nms_boxes, regions, classes), offset)
    kept = [
        part[nms(boxes[part], scores[part], threshold)]
        for part in (np.flatnonzero(classes == name) for name in np.unique(classes))
    ]
    survivors = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    return survivors[np.argsort(-scores[survivors], kind="stable")]


def _others(chosen: IntArray, scores: FloatArray) -> IntArray:
    """Return the candidates that are not selected, best score first."""
    order = np.argsort(-scores, kind="stable")
    return order[~np.isin(order, chosen)]


def _are_large(boxes: FloatArray, config: DetectorConfig, scale: float) -> IntArray:
    """Return a boolean `[boxes]`, True if both sides are long enough."""
    smallest = config.proposal_min_side * (scale if config.min_side_unit == "original" else 1.0)
    sides = boxes[:, 2:] - boxes[:, :2] + np.float32(config.side_offset)
    return np.asarray(((sides >= np.float32(smallest)) & (sides > 0)).all(axis=1))


def _extend(boxes: FloatArray, offset: float) -> FloatArray:
    """Extend boxes to the right and bottom, so that a side is x2 - x1 + offset."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] + np.float32(offset)], axis=1)


def _strict(threshold: float, ties: str) -> float:
    """Return a threshold for `iou > threshold` that also drops exact ties if asked to."""
    return math.nextafter(threshold, 0.0) if ties == "drop" else threshold
