"""Chooses which candidate boxes of one image become its regions: pure functions."""

import torch
from torch import Tensor
from torchvision.ops import nms  # type: ignore[import-untyped]


def select_regions(
    boxes: Tensor,
    scores: Tensor,
    *,
    nms_threshold: float,
    score_threshold: float,
    num_regions: int,
) -> Tensor:
    """Choose the best boxes that do not show the same thing twice, whatever their class.

    Args:
        boxes: `[candidates, 4]` float32.
        scores: `[candidates]`, probability of the best class.
        nms_threshold: a box that overlaps a better one by more than this IoU is dropped.
        score_threshold: boxes below this score are dropped.
        num_regions: how many boxes to keep at most.

    Returns:
        `[kept]`, indices of the kept boxes, best score first; empty if none is good enough.
    """
    good = torch.nonzero(scores >= score_threshold).squeeze(1)
    kept = nms(boxes[good], scores[good], nms_threshold)
    return good[kept[:num_regions]]


def whole_image(image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box of the image, which stands in where nothing was found."""
    height, width = image_size
    return (0.0, 0.0, float(width), float(height))
