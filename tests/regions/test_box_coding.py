"""Box coding, clipping and overlaps, against formulas."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from lxmert.regions.box_coding import clip_boxes, decode_boxes, encode_boxes, pairwise_iou


def random_boxes(*shape, side=100.0):
    corners = torch.rand(*shape, 2) * side
    return torch.cat([corners, corners + 1 + torch.rand(*shape, 2) * side / 2], dim=-1)


def test_deltas_follow_the_formulas():
    box, reference = torch.tensor([10.0, 20.0, 30.0, 80.0]), torch.tensor([0.0, 10.0, 10.0, 30.0])
    deltas = encode_boxes(box, reference, (10.0, 10.0, 5.0, 5.0))
    expected = [10 * 15 / 10, 10 * 30 / 20, 5 * math.log(2), 5 * math.log(3)]
    assert deltas.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decoding_undoes_encoding(weights):
    torch.manual_seed(1)
    boxes, references = random_boxes(5, 300), random_boxes(5, 300)
    deltas = encode_boxes(boxes, references, weights)
    torch.testing.assert_close(
        decode_boxes(deltas, references, weights, max_log_scale=None), boxes, atol=1e-3, rtol=1e-5
    )


def test_wild_deltas_give_finite_boxes():
    deltas = torch.tensor([[0.0, 0.0, 500.0, 500.0]])
    assert decode_boxes(deltas, random_boxes(1), (1, 1, 1, 1), max_log_scale=4.0).isfinite().all()


def test_growth_is_limited_only_where_it_is_asked_for():
    deltas, reference = torch.tensor([[0.0, 0.0, 6.0, 1.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    limited = decode_boxes(deltas, reference, (1, 1, 1, 1), max_log_scale=3.25)[0]
    free = decode_boxes(deltas, reference, (1, 1, 1, 1), max_log_scale=None)[0]
    assert (limited[2] - limited[0]).item() == pytest.approx(2 * math.exp(3.25))
    assert (free[2] - free[0]).item() == pytest.approx(2 * math.exp(6))
    assert (free[3] - free[1]).item() == pytest.approx(2 * math.exp(1))


def test_margin_keeps_boxes_off_the_right_and_lower_border():
    boxes = torch.tensor([[[-5.0, -6.0, 70.0, 90.0]]])
    clipped = clip_boxes(boxes, torch.tensor([[40, 60]]), margin=1.0)
    assert clipped.tolist() == [[[0, 0, 59, 39]]]


def test_clipping_uses_each_images_own_size():
    boxes = torch.tensor([-5.0, -6.0, 70.0, 90.0]).expand(2, 1, 4)
    clipped = clip_boxes(boxes, torch.tensor([[40, 60], [80, 100]]))
    assert clipped[:, 0].tolist() == [[0, 0, 60, 40], [0, 0, 70, 80]]


def test_iou_is_torchvisions():
    torch.manual_seed(2)
    first, second = random_boxes(40), random_boxes(3, 7)
    expected = torch.stack([box_iou(first, part) for part in second])
    torch.testing.assert_close(pairwise_iou(first, second), expected)
