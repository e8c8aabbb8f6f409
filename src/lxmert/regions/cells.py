"""Regions that are the cells of a feature map of the whole image; needs no PyTorch.

Cells are ordered row by row, each row from left to right.
"""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from lxmert.boxes import area
from lxmert.images import Pixels
from lxmert.records import Record
from lxmert.schema import FloatArray, Regions

CELL_NAMES = ("cell",)
"""Object names of grid regions: a single class, because nothing is recognized in a cell."""

Interpolation = Literal["bilinear", "bicubic"]

_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_Count = Annotated[int, Field(ge=1)]


class CellLayout(Record):
    """How a grid extractor divides images into cells.

    Attributes:
        height: images are stretched to this height, regardless of their shape.
        width: images are stretched to this width.
        interpolation: with antialiasing.
        rows: number of rows of cells.
        columns: number of columns.
        feature_dim: length of a cell's feature.
    """

    height: _Count
    width: _Count
    interpolation: Interpolation = "bilinear"
    rows: _Count
    columns: _Count
    feature_dim: _Count

    def stretch(self, pixels: Pixels) -> Pixels:
        """Stretch an image `[height, width, 3]` to the size that the network reads."""
        resampling = _RESAMPLING[self.interpolation]
        resized = Image.fromarray(pixels).resize((self.width, self.height), resampling)
        return np.asarray(resized)

    def regions(self, features: FloatArray, image_size: tuple[int, int]) -> Regions:
        """Return the cells of one image as regions, in pixels of the image.

        Args:
            features: `[cells, feature_dim]`.
            image_size: (height, width) of the image.
        """
        height, width = image_size
        count = len(features)
        sides = np.array([width, height, width, height], dtype=np.float32)
        return Regions(
            boxes=cell_boxes(self.rows, self.columns) * sides,
            features=features,
            image_size=(height, width),
            object_ids=np.zeros(count, dtype=np.int64),
            object_scores=np.ones(count, dtype=np.float32),
            attribute_ids=np.zeros((count, 0), dtype=np.int64),
            attribute_scores=np.zeros((count, 0), dtype=np.float32),
        )


def cell_boxes(rows: int, columns: int) -> FloatArray:
    """Return the boxes of all cells, `[cells, 4]` float32 `(x1, y1, x2, y2)` in `[0, 1]`."""
    # Neighboring cells share exactly the same border, and the last border is exactly 1.
    y = np.arange(rows + 1, dtype=np.float32) / np.float32(rows)
    x = np.arange(columns + 1, dtype=np.float32) / np.float32(columns)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    # [rows, columns, 4] -> [cells, 4]
    return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)


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
    cells = cell_boxes(rows, columns)[:, None]  # [cells, 1, 4]
    shared = np.concatenate(
        [np.maximum(cells[..., :2], boxes[:, :2]), np.minimum(cells[..., 2:], boxes[:, 2:])], -1
    )
    least = np.minimum(area(boxes), 1 / (rows * columns)) / 2
    return np.asarray(((area(shared) >= least) & (least > 0)).any(axis=1))


def cell_labels(boxes: FloatArray) -> list[str]:
    """Name each cell by its row and column, counted from 1: `cell 3,5`.

    Args:
        boxes: `[cells, 4]`, all cells of an image in any order and any unit.
    """
    rows = np.unique(boxes[:, 1], return_inverse=True)[1]
    columns = np.unique(boxes[:, 0], return_inverse=True)[1]
    return [f"cell {row + 1},{column + 1}" for row, column in zip(rows, columns, strict=True)]
