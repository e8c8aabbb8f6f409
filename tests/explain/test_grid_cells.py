"""Grid cells are distinguished from other regions that cover an image."""

import numpy as np
import pytest

from lxmert.explain.cells import are_cells
from lxmert.regions.cells import cell_boxes


@pytest.mark.parametrize("grid", [(7, 7), (1, 2), (5, 3)])
def test_cells_of_any_grid_in_any_order_are_cells(grid: tuple[int, int]) -> None:
    boxes = cell_boxes(*grid) * np.array([101, 67, 101, 67], dtype=np.float32)
    assert are_cells(boxes[::-1], (67, 101))
    assert not are_cells(boxes[1:], (67, 101))
    assert not are_cells(boxes, (67, 140))


@pytest.mark.parametrize(
    "boxes",
    [
        [[0, 0, 100, 60]],
        [[0, 0, 100, 60], [0, 0, 100, 60]],
        [[0, 0, 60, 60], [50, 0, 100, 60]],
        [[0, 0, 50, 60], [50, 30, 100, 60]],
    ],
)
def test_other_regions_are_not(boxes: list[list[float]]) -> None:
    assert not are_cells(np.array(boxes, dtype=np.float32), (60, 100))
    assert not are_cells(np.zeros((0, 4), dtype=np.float32), (60, 100))
