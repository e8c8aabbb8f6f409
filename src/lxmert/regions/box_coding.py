"""Box arithmetic on tensors: box coding, clipping and overlaps.

Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def encode_boxes(boxes: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Encode boxes as deltas from reference boxes (Girshick et al. 2014, appendix C).

    Args:
        boxes: `[..., 4]`.
        references: `[..., 4]`, none of them empty.
        weights: factors of the deltas `(x, y, width, height)`.

    Returns:
        `[..., 4]` deltas; `decode_boxes` is the inverse.
    """
    centers, sides = _to_centers(boxes)
    reference_centers, reference_sides = _to_centers(references)
    shifts = (centers - reference_centers) / reference_sides
    scales = torch.log(sides.clamp(min=1e-3) / reference_sides)
    return torch.cat([shifts, scales], dim=-1) * boxes.new_tensor(weights)


def decode_boxes(
    deltas: Tensor, references: Tensor, weights: Sequence[float], *, max_log_scale: float | None
) -> Tensor:
    """Apply deltas to reference boxes: the inverse of `encode_boxes`.

    Args:
        deltas: `[..., 4]`.
        references: `[..., 4]`.
        weights: as for `encode_boxes`.
        max_log_scale: maximum log of the growth factor. None: no limit.

    Returns:
        `[..., 4]` boxes.
    """
    deltas = deltas.float() / references.new_tensor(weights)
    centers, sides = _to_centers(references)
    centers = centers + deltas[..., :2] * sides
    limit = math.inf if max_log_scale is None else max_log_scale
    sides = sides * torch.exp(deltas[..., 2:].clamp(max=limit))
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=-1)


def clip_boxes(boxes: Tensor, image_sizes: Tensor, *, margin: float = 0.0) -> Tensor:
    """Clip boxes to their images.

    Args:
        boxes: `[batch, boxes, 4]`.
        image_sizes: `[batch, 2]`, (height, width) in pixels.
        margin: distance of the clipping limit from the right and lower borders.
    """
    limits = image_sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype) - margin  # [batch, 1, 4]
    return torch.minimum(boxes.clamp(min=0), limits)


def extend_boxes(boxes: Tensor, offset: Tensor | float) -> Tensor:
    """Extend boxes `[..., 4]` to the right and bottom, so that a side is x2 - x1 + offset."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + offset], dim=-1)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of each pair: `[..., n, 4]`, `[batch, m, 4]` -> `[batch, n, m]`."""
    first, second = first.unsqueeze(-2), second.unsqueeze(-3)
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return overlap / (area - overlap).clamp(min=torch.finfo(torch.float32).tiny)


def _to_centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Convert `[..., 4]` corners to centers `[..., 2]` and sides `[..., 2]`."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
