"""Regions that are the cells of a feature map of the whole image.

Cells are ordered row by row, each row from left to right.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.boxes import area
from lxmert.schema import FloatArray, Regions

CELL_NAMES = ("cell",)
"""Object names of grid regions: a single class, because nothing is recognized in a cell."""


def cell_boxes(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Return the boxes of all cells, `[cells, 4]` float32 `(x1, y1, x2, y2)` in `[0, 1]`."""
    # Neighboring cells share exactly the same border, and the last border is exactly 1.
    y = torch.arange(rows + 1, device=device, dtype=torch.float32) / rows
    x = torch.arange(columns + 1, device=device, dtype=torch.float32) / columns
    top, left = torch.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = torch.meshgrid(y[1:], x[1:], indexing="ij")
    # [rows, columns, 4] -> [cells, 4]
    return torch.stack([left, top, right, bottom], dim=-1).flatten(0, 1)


def cells_of_boxes(boxes: FloatArray, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return which cells show the content of boxes.

    A cell does if it shares at least half of its area, or of that of a box.

    Args:
        boxes: `[boxes, 4]` `(x1, y1, x2, y2)` in `[0, 1]`.
        rows: number of rows of cells.
        columns: number of columns.

    Returns:
        `[cells]`.
    """
    cells = cell_boxes(rows, columns).numpy()[:, None]  # [cells, 1, 4]
    shared = np.concatenate(
        [np.maximum(cells[..., :2], boxes[:, :2]), np.minimum(cells[..., 2:], boxes[:, 2:])], -1
    )
    least = np.minimum(area(boxes), 1 / (rows * columns)) / 2
    return np.asarray(((area(shared) >= least) & (least > 0)).any(axis=1))


def cell_regions(features: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Regions:
    """Return the cells of one image as regions, in pixels of the image.

    Args:
        features: `[cells, feature_dim]`.
        boxes: `[cells, 4]` in `[0, 1]`, as `cell_boxes` returns them.
        image_size: (height, width) of the image.
    """
    height, width = image_size
    count = len(features)
    return Regions(
        boxes=boxes.cpu().numpy() * np.array([width, height, width, height], dtype=np.float32),
        features=features.float().cpu().numpy(),
        image_size=(height, width),
        object_ids=np.zeros(count, dtype=np.int64),
        object_scores=np.ones(count, dtype=np.float32),
        attribute_ids=np.zeros((count, 0), dtype=np.int64),
        attribute_scores=np.zeros((count, 0), dtype=np.float32),
    )


def cell_labels(boxes: FloatArray) -> list[str]:
    """Name each cell by its row and column, counted from 1: `cell 3,5`.

    Args:
        boxes: `[cells, 4]`, all cells of an image in any order and any unit.
    """
    rows = np.unique(boxes[:, 1], return_inverse=True)[1]
    columns = np.unique(boxes[:, 0], return_inverse=True)[1]
    return [f"cell {row + 1},{column + 1}" for row, column in zip(rows, columns, strict=True)]
