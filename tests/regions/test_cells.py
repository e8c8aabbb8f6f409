"""Grid cells: their boxes and labels."""

import numpy as np
import pytest

from lxmert.data.arrays import normalize_boxes
from lxmert.regions.cells import CellLayout, cell_boxes, cell_labels, cells_of_boxes


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (7, 7), (5, 1), (49, 61)])
def test_cells_are_those_of_two_loops(rows, columns):
    expected = [
        (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    boxes = cell_boxes(rows, columns)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, np.float32(expected), rtol=1e-6)


def test_cells_cover_the_image_exactly_for_every_count():
    """Bug: x + 1 / count is above 1 for some counts in float32, and such a box was rejected."""
    generator = np.random.default_rng(0)
    for count in range(1, 65):
        boxes = cell_boxes(count, 3)
        assert (boxes[:, 3].max(), boxes[:, 1].min()) == (1, 0)
        borders = boxes.reshape(count, 3, 4)
        assert (borders[1:, :, 1] == borders[:-1, :, 3]).all()
        height, width = generator.integers(1, 5000, 2).tolist()
        layout = CellLayout(height=count, width=3, rows=count, columns=3, feature_dim=2)
        regions = layout.regions(np.zeros((count * 3, 2), np.float32), (height, width))
        assert regions.boxes.max() <= max(height, width)
        assert normalize_boxes(regions, name="an image").shape == (count * 3, 4)


def test_cells_are_called_by_row_and_column_in_any_order():
    boxes = cell_boxes(3, 4) * np.float32([330, 77, 330, 77])
    labels = [f"cell {row},{column}" for row in (1, 2, 3) for column in (1, 2, 3, 4)]
    assert cell_labels(boxes) == labels
    order = np.random.default_rng(1).permutation(12)
    assert cell_labels(boxes[order]) == [labels[index] for index in order]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 1, 1), {0, 1, 2, 3, 4, 5}),
        ((0, 0, 1 / 3, 0.5), {0}),
        ((0.1, 0, 0.6, 0.5), {0, 1}),  # 70 and 80% of the cells
        ((0.2, 0, 0.6, 0.5), {1}),  # 40 and 80%
        ((0.4, 0.6, 0.42, 0.62), {4}),  # far smaller than a cell
        ((0.3, 0.3, 0.3, 0.9), set()),  # no area, such as outside of a shifted image
    ],
)
def test_boxes_are_shown_by_cells_that_share_half(box, expected):
    shown = cells_of_boxes(np.array([box], np.float32), 2, 3)
    assert set(np.flatnonzero(shown).tolist()) == expected


def test_cells_of_several_boxes_are_those_of_each():
    boxes = np.random.default_rng(4).random((5, 4), np.float32)
    boxes = np.concatenate([np.sort(boxes[:, ::2]), np.sort(boxes[:, 1::2])], 1)[:, [0, 2, 1, 3]]
    each = [cells_of_boxes(box[None], 4, 5) for box in boxes]
    np.testing.assert_array_equal(cells_of_boxes(boxes, 4, 5), np.any(each, axis=0))
    assert not cells_of_boxes(boxes[:0], 4, 5).any()
