"""Anchors, box coding, matching and sampling, against formulas and plain loops."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from lxmert.vision import proposals as rpn
from lxmert.vision.configuration import DetectorConfig


def random_boxes(*shape, side=100.0):
    corners = torch.rand(*shape, 2) * side
    return torch.cat([corners, corners + 1 + torch.rand(*shape, 2) * side / 2], dim=-1)


def test_cell_anchors_have_the_area_and_ratio_asked_for():
    anchors = rpn.make_cell_anchors((13.0, 20.0), (0.5, 1.0, 2.0))
    sides = anchors[:, 2:] - anchors[:, :2]
    assert sides.prod(1).sqrt().tolist() == pytest.approx([13.0] * 3 + [20.0] * 3)
    assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx([0.5, 1.0, 2.0] * 2)
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])


def test_anchors_stand_in_the_middle_of_their_cells_row_by_row():
    cell = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-3.0, -3.0, 3.0, 3.0]])
    anchors = rpn.make_anchors(cell, 2, 3, 8)
    expected = [
        (column * 8 + 4 + x, row * 8 + 4 + y)
        for row in range(2)
        for column in range(3)
        for x, y in ((-1, -2), (-3, -3))
    ]
    assert [tuple(anchor) for anchor in anchors[:, :2].tolist()] == expected


def test_deltas_follow_the_formulas():
    box, reference = torch.tensor([10.0, 20.0, 30.0, 80.0]), torch.tensor([0.0, 10.0, 10.0, 30.0])
    deltas = rpn.encode_boxes(box, reference, (10.0, 10.0, 5.0, 5.0))
    expected = [10 * 15 / 10, 10 * 30 / 20, 5 * math.log(2), 5 * math.log(3)]
    assert deltas.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [rpn.ANCHOR_WEIGHTS, rpn.REGION_WEIGHTS])
def test_decoding_undoes_encoding(weights):
    torch.manual_seed(1)
    boxes, references = random_boxes(5, 300), random_boxes(5, 300)
    deltas = rpn.encode_boxes(boxes, references, weights)
    torch.testing.assert_close(
        rpn.decode_boxes(deltas, references, weights), boxes, atol=1e-3, rtol=1e-5
    )


def test_wild_deltas_give_finite_boxes():
    deltas = torch.tensor([[0.0, 0.0, 500.0, 500.0]])
    assert rpn.decode_boxes(deltas, random_boxes(1), rpn.ANCHOR_WEIGHTS).isfinite().all()


def test_clipping_uses_each_images_own_size():
    boxes = torch.tensor([-5.0, -6.0, 70.0, 90.0]).expand(2, 1, 4)
    clipped = rpn.clip_boxes(boxes, torch.tensor([[40, 60], [80, 100]]))
    assert clipped[:, 0].tolist() == [[0, 0, 60, 40], [0, 0, 70, 80]]


def test_iou_is_torchvisions():
    torch.manual_seed(2)
    first, second = random_boxes(40), random_boxes(3, 7)
    expected = torch.stack([box_iou(first, part) for part in second])
    torch.testing.assert_close(rpn.pairwise_iou(first, second), expected)


def match_slowly(anchors, boxes):
    labels, matched = np.full(len(anchors), -1), np.zeros(len(anchors), dtype=int)
    iou = box_iou(anchors, boxes).numpy()
    for row, values in enumerate(iou):
        matched[row] = values.argmax()
        if values.max() < rpn.ANCHOR_IS_BACKGROUND:
            labels[row] = 0
        if values.max() >= rpn.ANCHOR_IS_OBJECT:
            labels[row] = 1
    for column in reversed(range(len(boxes))):  # the first object wins where two want an anchor
        best = iou[:, column].max()
        for row in range(len(anchors)):
            if best > 0 and iou[row, column] == best:
                labels[row], matched[row] = 1, column
    return labels, matched


def test_matching_is_the_slow_one_and_ignores_padding():
    torch.manual_seed(3)
    cell = rpn.make_cell_anchors((13.0, 20.0, 32.0), (0.5, 1.0, 2.0))
    anchors = rpn.make_anchors(cell, 12, 12, 8)
    boxes = random_boxes(6, 5, side=60.0)
    boxes[:, 3:] = torch.tensor([0.0, 0.0, 96.0, 96.0])  # padding must not attract anything
    real = torch.tensor([True, True, True, False, False]).expand(6, 5)
    labels, matched = rpn.match_anchors(anchors, boxes, real)
    for image in range(6):
        expected_labels, expected_matched = match_slowly(anchors, boxes[image, :3])
        np.testing.assert_array_equal(labels[image].numpy(), expected_labels)
        positive = expected_labels == 1
        np.testing.assert_array_equal(matched[image].numpy()[positive], expected_matched[positive])


def test_every_object_gets_an_anchor_however_small():
    anchors = rpn.make_anchors(rpn.make_cell_anchors((32.0,), (1.0,)), 4, 4, 8)
    boxes = torch.tensor([[[3.0, 3.0, 5.0, 5.0]]])
    labels, _ = rpn.match_anchors(anchors, boxes, torch.ones(1, 1, dtype=torch.bool))
    assert (labels == 1).any()


def test_without_objects_all_is_background():
    anchors = rpn.make_anchors(rpn.make_cell_anchors((16.0,), (1.0,)), 4, 4, 8)
    real = torch.zeros(2, 1, dtype=torch.bool)
    labels, _ = rpn.match_anchors(anchors, torch.zeros(2, 1, 4), real)
    assert (labels == 0).all()


def test_samples_are_objects_first_then_background_never_twice():
    torch.manual_seed(5)
    labels = torch.randint(-1, 2, (20, 50))
    labels[0], labels[1] = -1, 1
    labels[2] = torch.tensor([1] * 3 + [0] * 2 + [-1] * 45)
    indices, drawn = rpn.sample(labels, 16)
    assert indices.shape == drawn.shape == (20, 16)
    for row in range(20):
        real = drawn[row] != -1
        assert len(set(indices[row][real].tolist())) == int(real.sum())
        torch.testing.assert_close(labels[row][indices[row][real]], drawn[row][real])
        objects = min(8, int((labels[row] == 1).sum()))
        background = min(16 - objects, int((labels[row] == 0).sum()))
        assert drawn[row].tolist() == [1] * objects + [0] * background + [-1] * (
            16 - objects - background
        )


def test_sampling_follows_the_global_seed_and_reaches_every_candidate():
    labels = torch.zeros(1, 40, dtype=torch.long)
    torch.manual_seed(6)
    first = rpn.sample(labels, 8)[0]
    assert not torch.equal(first, rpn.sample(labels, 8)[0])
    torch.manual_seed(6)
    assert torch.equal(first, rpn.sample(labels, 8)[0])
    assert set(torch.cat([rpn.sample(labels, 8)[0] for _ in range(60)]).flatten().tolist()) == set(
        range(40)
    )


def test_proposals_are_the_best_anchors_after_nms():
    torch.manual_seed(7)
    config = DetectorConfig(object_names=("cup",), stage_widths=(8, 8, 8), proposals=10)
    generator = rpn.ProposalGenerator(config)
    for layer in (generator.rpn_head.objectness_logits, generator.rpn_head.anchor_deltas):
        torch.nn.init.normal_(layer.weight, std=0.5)
    feature_map, sizes = torch.randn(3, 8, 6, 7), torch.tensor([[48, 56], [40, 56], [48, 30]])
    found = generator(feature_map, sizes, None)
    logits, deltas = generator.rpn_head(feature_map)
    anchors = rpn.make_anchors(generator.cell_anchors, 6, 7, 8)
    assert found.losses == {}
    for image in range(3):
        kept: list[torch.Tensor] = []
        for index in logits[image].argsort(descending=True)[: 10 * rpn.CANDIDATES_PER_PROPOSAL]:
            box = rpn.decode_boxes(deltas[image, index], anchors[index], rpn.ANCHOR_WEIGHTS)
            box = rpn.clip_boxes(box[None, None], sizes[[image]])[0]
            large = ((box[:, 2:] - box[:, :2]) >= rpn.SMALLEST_SIDE).all()
            if large and all(box_iou(box, other).item() <= rpn.PROPOSAL_NMS for other in kept):
                kept.append(box)
        count = int(found.mask[image].sum())
        assert count == min(10, len(kept))
        torch.testing.assert_close(found.boxes[image, :count], torch.cat(kept[:10]).detach())
        assert (found.boxes[image, count:] == 0).all()
