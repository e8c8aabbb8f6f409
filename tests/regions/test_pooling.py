"""Interpolating pooling equals RoIAlign; maximum pooling equals the original's."""

import math

import pytest
import torch
from torchvision.ops import roi_align

from lxmert.regions.pooling import align_regions, pool_regions


def random_boxes(count, rows, columns):
    """Return boxes inside, across the border, far outside, and thinner than a cell."""
    corners = torch.rand(count, 2) * torch.tensor([columns + 6, rows + 6]) - 3
    return torch.cat([corners, corners + torch.rand(count, 2) ** 2 * 9], dim=1)


@pytest.mark.parametrize(("rows", "columns", "size"), [(7, 9, 6), (1, 12, 3), (5, 1, 2), (1, 1, 4)])
def test_output_and_gradient_are_those_of_torchvision(rows, columns, size):
    torch.manual_seed(4)
    feature_map = torch.randn(3, 5, rows, columns, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(200, rows, columns).double()
    images = torch.arange(200) % 3
    sizes = torch.tensor([[rows, columns]] * 3)
    ours = align_regions(feature_map, boxes, images, size=size, map_sizes=sizes)
    rois = torch.cat([images[:, None].double(), boxes], dim=1)
    theirs = roi_align(feature_map, rois, size, 1.0, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), feature_map)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), feature_map)
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=0)


def test_no_boxes_give_an_empty_result():
    pooled = align_regions(
        torch.randn(2, 5, 4, 4),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.long),
        size=6,
        map_sizes=torch.tensor([[4, 4]] * 2),
    )
    assert pooled.shape == (0, 5, 6, 6)
    none = pool_regions(
        torch.randn(2, 5, 4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), size=6
    )
    assert none.shape == (0, 5, 6, 6)


def pad(feature_map, rows, columns):
    return torch.nn.functional.pad(
        feature_map, (0, columns - feature_map.shape[3], 0, rows - feature_map.shape[2])
    )


def test_padding_of_a_map_changes_nothing():
    torch.manual_seed(6)
    small = torch.rand(1, 3, 5, 6)
    padded = torch.cat([pad(small, 8, 9), torch.rand(1, 3, 8, 9)])
    boxes, images = random_boxes(60, 5, 6), torch.zeros(60, dtype=torch.long)
    sizes = torch.tensor([[5, 6], [8, 9]])
    alone = align_regions(small, boxes, images, size=4, map_sizes=sizes[:1])
    joined = align_regions(padded, boxes, images, size=4, map_sizes=sizes)
    torch.testing.assert_close(alone, joined, atol=1e-6, rtol=0)
    assert torch.equal(
        pool_regions(small, boxes, images, size=4), pool_regions(padded, boxes, images, size=4)
    )


def pool_slowly(plane, box, size):
    """Pool as the original: round the corners, include both ends, take the maximum of each bin."""
    x1, y1, x2, y2 = (math.floor(value + 0.5) for value in box)
    height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    pooled = torch.zeros(size, size)
    for row in range(size):
        for column in range(size):
            top, bottom = row * height // size + y1, -(-(row + 1) * height // size) + y1
            left, right = column * width // size + x1, -(-(column + 1) * width // size) + x1
            cells = plane[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            pooled[row, column] = cells.max() if cells.numel() else 0.0
    return pooled


def test_maximum_is_taken_as_in_the_original():
    torch.manual_seed(7)
    feature_map = torch.rand(2, 1, 9, 12)
    boxes = torch.rand(30, 4) * torch.tensor([12.0, 9.0, 12.0, 9.0])
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), boxes[:, 2:]], dim=1)
    images = torch.arange(30) % 2
    pooled = pool_regions(feature_map, boxes, images, size=14)
    for index in range(30):
        expected = pool_slowly(feature_map[images[index], 0], boxes[index].tolist(), 14)
        torch.testing.assert_close(pooled[index, 0], expected)
