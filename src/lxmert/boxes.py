"""Box arithmetic on `[..., 4]` arrays of `(x1, y1, x2, y2)` in absolute pixels: pure functions."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floating = npt.NDArray[np.floating[Any]]


def from_xywh(boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Convert `(x, y, width, height)` boxes, as in COCO files, to corner boxes."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def area(boxes: Floating) -> Floating:
    """Return the area of each box in square pixels; 0 if its corners are in the wrong order."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def clip(boxes: Floating, image_size: tuple[int, int]) -> Floating:
    """Clip boxes to an image of `(height, width)` pixels."""
    height, width = image_size
    limits = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.minimum(np.maximum(boxes, 0), limits)


def normalize(boxes: Floating, image_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Scale boxes to `[0, 1]` by the image's `(height, width)`, the form that the model reads."""
    height, width = image_size
    scaled = boxes / np.array([width, height, width, height], dtype=np.float32)
    return np.clip(scaled, 0, 1).astype(np.float32)


def are_valid(
    boxes: Floating,
    image_size: tuple[float, float] = (math.inf, math.inf),
    *,
    share: float = 0.0,
    pixels: float = 0.0,
    allow_empty: bool = True,
) -> npt.NDArray[np.bool_]:
    """Return for each box whether it lies inside its image with its corners in order.

    Args:
        boxes: `[..., 4]`; a box with a NaN is not valid.
        image_size: `(height, width)` in the unit of the boxes; absent: no upper limit.
        share: how far a box may exceed the image, as a share of the image's sides.
        pixels: how far it may exceed the image, in the unit of the boxes; added to `share`.
        allow_empty: whether a box without an area is valid.
    """
    height, width = image_size
    limits = np.array([width, height, width, height], dtype=np.float32)
    margin = pixels + share * limits if share else pixels
    inside = ((boxes >= -margin) & (boxes <= limits + margin)).all(axis=-1)
    low, high = boxes[..., :2], boxes[..., 2:]
    ordered = (high >= low if allow_empty else high > low).all(axis=-1)
    return np.asarray(inside & ordered)


def iou(first: Floating, second: Floating) -> Floating:
    """Return the IoU of each pair: `[n, 4]`, `[m, 4]` -> `[n, m]`; 0 where both are empty."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = area(np.concatenate([top_left, bottom_right], axis=-1))
    union = area(first)[:, None] + area(second)[None, :] - overlap
    return np.asarray(overlap / np.maximum(union, np.finfo(np.float32).tiny))
