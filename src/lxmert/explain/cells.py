"""Detects regions that are grid cells, whose names are drawn inside them."""

import numpy as np

from lxmert.schema import FloatArray


def are_cells(boxes: FloatArray, image_size: tuple[int, int]) -> bool:
    """Return whether boxes are all cells of a grid of at least two, in any order.

    Args:
        boxes: `[regions, 4]` in pixels.
        image_size: (height, width) of their image.
    """
    height, width = image_size
    rows, columns = np.unique(boxes[:, 1]), np.unique(boxes[:, 0])
    if len(boxes) < 2 or len(boxes) != len(rows) * len(columns):
        return False
    top, left = np.meshgrid(rows, columns, indexing="ij")
    ends = np.append(rows[1:], height), np.append(columns[1:], width)
    bottom, right = np.meshgrid(*ends, indexing="ij")
    grid = np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
    ordered = boxes[np.lexsort((boxes[:, 0], boxes[:, 1]))]
    return bool(np.allclose(ordered, grid, atol=0.5))
