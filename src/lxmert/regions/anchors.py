"""Anchors: the reference boxes of the proposals, the same in every cell of the feature map.

Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized image.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.regions.configuration import DetectorConfig


def make_cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return `[sizes x ratios, 4]` anchors around the origin; size outer, ratio inner."""
    sides = [
        (size / math.sqrt(ratio), size * math.sqrt(ratio)) for size in sizes for ratio in ratios
    ]
    return _centered(sides)


def make_rounded_anchors(sizes: Sequence[float], ratios: Sequence[float], *, cell: int) -> Tensor:
    """Return anchors whose sides are multiples of the rounded anchor of one cell.

    The original Faster R-CNN code rounds the width of an anchor with the area of one cell, then
    its height, and multiplies both. Its corners are pixel indices; here the right and lower
    corners are larger by 1, so that a side is the difference of two corners.
    """
    sides = []
    for size in sizes:
        for ratio in ratios:
            width = round(math.sqrt(cell * cell / ratio))
            height = round(width * ratio)
            sides.append((width * size / cell, height * size / cell))
    return _centered(sides)


def make_anchors(
    cell_anchors: Tensor, rows: int, columns: int, stride: int, *, offset: float = 0.5
) -> Tensor:
    """Shift the cell anchors to every cell.

    Args:
        cell_anchors: `[shapes, 4]`.
        rows: cells of the map from top to bottom.
        columns: cells of the map from left to right.
        stride: pixels per cell.
        offset: position of the anchors' origin in the cell, as a share of the cell's side.

    Returns:
        `[rows x columns x shapes, 4]`.
    """
    device = cell_anchors.device
    y, x = torch.meshgrid(
        (torch.arange(rows, device=device) + offset) * stride,
        (torch.arange(columns, device=device) + offset) * stride,
        indexing="ij",
    )
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # [cells, 1, 4]
    return (shifts + cell_anchors).reshape(-1, 4)


class AnchorGenerator(nn.Module):
    """Places anchors on a feature map."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.offset = config.anchor_offset
        if config.anchor_rounding:
            anchors = make_rounded_anchors(
                config.anchor_sizes, config.anchor_ratios, cell=config.stride
            )
        else:
            anchors = make_cell_anchors(config.anchor_sizes, config.anchor_ratios)
        if config.anchors_stored:
            anchors, self.offset = anchors + config.anchor_offset * config.stride, 0.0
            self.register_load_state_dict_post_hook(_warn_about_other_anchors)  # type: ignore[no-untyped-call]
        self.configured = anchors
        # The published files store the anchors of the only feature map as `cell_anchors.0`.
        self.cell_anchors = nn.Module()
        self.cell_anchors.register_buffer("0", anchors.clone(), persistent=config.anchors_stored)

    @property
    def num_shapes(self) -> int:
        """Number of anchors in a cell."""
        return len(self.configured)

    def forward(self, rows: int, columns: int) -> Tensor:
        """Return `[rows x columns x shapes, 4]` anchors."""
        cell_anchors = self.cell_anchors.get_buffer("0")
        return make_anchors(cell_anchors, rows, columns, self.stride, offset=self.offset)


def _warn_about_other_anchors(generator: AnchorGenerator, _: Any) -> None:
    """Warn if the loaded anchors differ from the configured ones, regardless of order."""
    stored = generator.cell_anchors.get_buffer("0").cpu()
    distances = (stored[:, None] - generator.configured).abs().amax(dim=2)
    if distances.amin(dim=0).max() > 1e-3 or distances.amin(dim=1).max() > 1e-3:
        warnings.warn(
            f"the weights contain anchors {stored.tolist()}, but the configuration describes "
            f"{generator.configured.tolist()}: the anchors of the weights are used",
            stacklevel=2,
        )


def _centered(sides: Sequence[tuple[float, float]]) -> Tensor:
    """Return boxes with the given widths and heights, centered at the origin."""
    return torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides])
