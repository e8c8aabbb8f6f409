"""Box arithmetic on `[..., 4]` arrays of `(x1, y1, x2, y2)` in absolute pixels: pure functions."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floating = npt.NDArray[np.floating[Any]]


def from_xywh(boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Turn `(x, y, width, height)` boxes, as in COCO files, into corner boxes."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def area(boxes: Floating) -> Floating:
    """Return the area of each box in square pixels; 0 for a box turned inside out."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def clip(boxes: Floating, image_size: tuple[int, int]) -> Floating:
    """Cut boxes at the borders of an image of `(height, width)` pixels."""
    height, width = image_size
    limits = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.minimum(np.maximum(boxes, 0), limits)


def normalize(boxes: Floating, image_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Scale boxes to `[0, 1]` by the image's `(height, width)`, the form that the model reads."""
    height, width = image_size
    scaled = boxes / np.array([width, height, width, height], dtype=np.float32)
    return np.clip(scaled, 0, 1).astype(np.float32)


def iou(first: Floating, second: Floating) -> Floating:
    """Return the IoU of each pair: `[n, 4]`, `[m, 4]` -> `[n, m]`; 0 where both are empty."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = area(np.concatenate([top_left, bottom_right], axis=-1))
    union = area(first)[:, None] + area(second)[None, :] - overlap
    return np.asarray(overlap / np.maximum(union, np.finfo(np.float32).tiny))
