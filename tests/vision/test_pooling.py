"""Pooling by look-up is RoIAlign."""

import pytest
import torch
from torchvision.ops import roi_align

from lxmert.vision.pooling import align_regions


def random_boxes(count, rows, columns):
    """Boxes of all sorts: inside, across the border, far outside, thinner than a cell."""
    corners = torch.rand(count, 2) * torch.tensor([columns + 6, rows + 6]) - 3
    return torch.cat([corners, corners + torch.rand(count, 2) ** 2 * 9], dim=1)


@pytest.mark.parametrize(("rows", "columns", "size"), [(7, 9, 6), (1, 12, 3), (5, 1, 2), (1, 1, 4)])
def test_output_and_gradient_are_those_of_torchvision(rows, columns, size):
    torch.manual_seed(4)
    feature_map = torch.randn(3, 5, rows, columns, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(200, rows, columns).double()
    images = torch.arange(200) % 3
    ours = align_regions(feature_map, boxes, images, size=size)
    rois = torch.cat([images[:, None].double(), boxes], dim=1)
    theirs = roi_align(feature_map, rois, size, 1.0, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), feature_map)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), feature_map)
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=0)


def test_no_boxes_give_an_empty_result():
    pooled = align_regions(
        torch.randn(2, 5, 4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), size=6
    )
    assert pooled.shape == (0, 5, 6, 6)
