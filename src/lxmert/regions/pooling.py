"""Pools boxes from feature maps by maximum (RoIPool) or interpolation (RoIAlign)."""

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_pool  # type: ignore[import-untyped]


def pool_regions(feature_map: Tensor, boxes: Tensor, images: Tensor, *, size: int) -> Tensor:
    """Pool the maximum of cells, as `torchvision.ops.roi_pool`: rounded corners, both inclusive.

    The padding of a map needs no mask if it is 0 and the values of the map are not negative.

    Args:
        feature_map: `[batch, channels, rows, columns]` float32, preferably contiguous.
        boxes: `[regions, 4]` float32, in cells of the map.
        images: `[regions]`, position in the batch of each box's image.
        size: cells per side of the pooled grid.

    Returns:
        `[regions, channels, size, size]` float32.
    """
    rois = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)
    pooled: Tensor = roi_pool(feature_map, rois, size, 1.0)
    return pooled


def align_regions(
    feature_map: Tensor, boxes: Tensor, images: Tensor, *, size: int, map_sizes: Tensor
) -> Tensor:
    """Interpolate cells, as `torchvision.ops.roi_align(sampling_ratio=1, aligned=True)`.

    Each pooled cell is a weighted sum of four rows of the map, computed by an embedding bag. On a
    CPU this is 3-8 times as fast as torchvision's kernel (forward and backward together), and it
    keeps bfloat16 and the channels-last layout.

    Args:
        feature_map: `[batch, channels, rows, columns]`.
        boxes: `[regions, 4]` float32, in cells of the map.
        images: `[regions]`, position in the batch of each box's image.
        size: cells per side of the pooled grid.
        map_sizes: `[batch, 2]`, rows and columns of each image's map without padding.

    Returns:
        `[regions, channels, size, size]`, channels last.
    """
    channels, rows, columns = feature_map.shape[1:]
    steps = (torch.arange(size, dtype=boxes.dtype, device=boxes.device) + 0.5) / size
    corners, sides = boxes[:, :2] - 0.5, boxes[:, 2:] - boxes[:, :2]  # cell centers are at 0.5
    points = corners[:, :, None] + sides[:, :, None] * steps  # [regions, 2, size]
    limits = map_sizes[images]  # [regions, 2]
    x, x_weights = _neighbors(points[:, 0], limits[:, 1:])
    y, y_weights = _neighbors(points[:, 1], limits[:, :1])
    # [regions, size (y), size (x), 2 (y), 2 (x)]
    places = y[:, :, None, :, None] * columns + x[:, None, :, None, :]
    places = places + (images * rows * columns)[:, None, None, None, None]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    table = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)  # [batch x rows x columns, ...]
    pooled = functional.embedding_bag(
        places.reshape(-1, 4),
        table,
        mode="sum",
        per_sample_weights=weights.reshape(-1, 4).to(table.dtype),
    )
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _neighbors(points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two cells around each point and their weights, `[..., 2]` each."""
    inside = (points >= -1) & (points <= lengths)
    last = lengths - 1
    points = torch.minimum(points.clamp(min=0), last.to(points.dtype))
    lower = points.floor()
    share = points - lower
    first = lower.long()
    cells = torch.stack([first, torch.minimum(first + 1, last)], dim=-1)
    return cells, torch.stack([1 - share, share], dim=-1) * inside[..., None]
