"""Proposes boxes with NumPy, for detectors that run outside of PyTorch.

The rules are those of `proposals`, which needs PyTorch; the tests compare them.
Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized image. For equal scores the first
candidate always ranks higher.
"""

import math

import numpy as np

from lxmert.boxes import iou
from lxmert.regions.configuration import DetectorConfig
from lxmert.schema import FloatArray, IntArray

ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # Fast R-CNN's: deltas of unit variance
CANDIDATES_PER_PROPOSAL = 6  # boxes that enter NMS per returned proposal


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
    threshold = strict_threshold(config.proposal_nms_threshold, config.nms_ties)
    best = nms(extend(boxes, config.side_offset), logits[kept], threshold, most=config.proposals)
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


def _are_large(boxes: FloatArray, config: DetectorConfig, scale: float) -> IntArray:
    """Return a boolean `[boxes]`, True if both sides are long enough."""
    smallest = config.proposal_min_side * (scale if config.min_side_unit == "original" else 1.0)
    sides = boxes[:, 2:] - boxes[:, :2] + np.float32(config.side_offset)
    return np.asarray(((sides >= np.float32(smallest)) & (sides > 0)).all(axis=1))


def extend(boxes: FloatArray, offset: float) -> FloatArray:
    """Extend boxes to the right and bottom, so that a side is x2 - x1 + offset."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] + np.float32(offset)], axis=1)


def strict_threshold(threshold: float, ties: str) -> float:
    """Return a threshold for `iou > threshold` that also drops exact ties if asked to."""
    return math.nextafter(threshold, 0.0) if ties == "drop" else threshold
