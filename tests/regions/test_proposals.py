"""Matching, sampling and the selection of proposals, compared with plain loops."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from lxmert.regions import proposals as rpn
from lxmert.regions.anchors import make_anchors, make_cell_anchors
from lxmert.regions.box_coding import clip_boxes, decode_boxes
from lxmert.regions.configuration import DetectorConfig


def random_boxes(*shape, side=100.0):
    corners = torch.rand(*shape, 2) * side
    return torch.cat([corners, corners + 1 + torch.rand(*shape, 2) * side / 2], dim=-1)


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
    cell = make_cell_anchors((13.0, 20.0, 32.0), (0.5, 1.0, 2.0))
    anchors = make_anchors(cell, 12, 12, 8)
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
    anchors = make_anchors(make_cell_anchors((32.0,), (1.0,)), 4, 4, 8)
    boxes = torch.tensor([[[3.0, 3.0, 5.0, 5.0]]])
    labels, _ = rpn.match_anchors(anchors, boxes, torch.ones(1, 1, dtype=torch.bool))
    assert (labels == 1).any()


def test_without_objects_all_is_background():
    anchors = make_anchors(make_cell_anchors((16.0,), (1.0,)), 4, 4, 8)
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


def make_generator(seed=7, **settings):
    torch.manual_seed(seed)
    config = DetectorConfig(
        object_names=("cup",), stage_widths=(8, 8, 8), **({"proposals": 10} | settings)
    )
    generator = rpn.ProposalGenerator(config)
    for layer in (generator.rpn_head.objectness_logits, generator.rpn_head.anchor_deltas):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return generator


CAFFE = {
    "min_side_unit": "original",
    "min_side_when": "before",
    "proposal_min_side": 9.0,
    "nms_ties": "drop",
    "side_offset": 1.0,
    "clip_margin": 1.0,
    "max_log_scale": None,
    "proposal_candidates": 45,
}


def propose_slowly(generator, feature_map, image, size, scale):
    """Propose boxes by the published steps for one image, box by box."""
    config = generator.config
    logits, deltas = (part[image] for part in generator.rpn_head(feature_map))
    anchors = make_anchors(generator.anchor_generator.cell_anchors.get_buffer("0"), 6, 7, 8)
    boxes = decode_boxes(deltas, anchors, (1, 1, 1, 1), max_log_scale=config.max_log_scale)
    boxes = clip_boxes(boxes[None], torch.tensor([size]), margin=config.clip_margin)[0]
    smallest = config.proposal_min_side * (scale if config.min_side_unit == "original" else 1)
    sides = boxes[:, 2:] - boxes[:, :2] + config.side_offset
    large = (sides >= smallest).all(dim=1) & (sides > 0).all(dim=1)
    order = logits.argsort(descending=True).tolist()
    most = config.proposal_candidates or 6 * config.proposals
    if config.min_side_when == "before":
        order = [index for index in order if large[index]][:most]
    else:
        order = [index for index in order[:most] if large[index]]
    kept = []
    for index in order:
        box = boxes[index] + torch.tensor([0, 0, 1, 1]) * config.side_offset
        others = [boxes[j] + torch.tensor([0, 0, 1, 1]) * config.side_offset for j in kept]
        overlaps = [box_iou(box[None], other[None]).item() for other in others]
        if all(overlap <= config.proposal_nms_threshold for overlap in overlaps):
            kept.append(index)
    return boxes[kept[: config.proposals]].detach()


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, CAFFE, {"proposal_min_side": 0.0}])
@pytest.mark.parametrize("seed", range(2))
def test_proposals_are_the_best_anchors_after_nms(settings, seed):
    generator = make_generator(seed, **settings)
    feature_map = torch.randn(3, 8, 6, 7)
    sizes, scales = [(48, 56), (40, 56), (48, 30)], [0.5, 1.0, 2.25]
    found = generator(feature_map, torch.tensor(sizes), None, scales=torch.tensor(scales))
    assert found.losses == {}
    for image in range(3):
        expected = propose_slowly(generator, feature_map, image, sizes[image], scales[image])
        assert int(found.mask[image].sum()) == len(expected)
        torch.testing.assert_close(found.boxes[image, : len(expected)], expected)
        assert (found.boxes[image, len(expected) :] == 0).all()


@pytest.mark.parametrize(
    "name", ["min_side_unit", "min_side_when", "side_offset", "clip_margin", "proposal_min_side"]
)
def test_each_setting_of_the_original_changes_the_proposals(name):
    """Otherwise both sides of the comparison above could ignore a setting."""
    feature_map = torch.randn(4, 8, 6, 7, generator=torch.Generator().manual_seed(8))
    sizes, scales = torch.tensor([[48, 56]] * 4), torch.tensor([2.25] * 4)
    reference = make_generator(**CAFFE)(feature_map, sizes, None, scales=scales).boxes
    assert (reference.amax(dim=(0, 1))[2:] <= torch.tensor([55, 47])).all()
    changed = {key: value for key, value in CAFFE.items() if key != name}
    other = make_generator(**changed)(feature_map, sizes, None, scales=scales).boxes
    assert not torch.equal(other, reference)


def test_anchors_in_the_padding_of_a_map_propose_nothing():
    generator = make_generator(proposals=400)
    feature_map = torch.randn(1, 8, 6, 7)
    generator.rpn_head.anchor_deltas.weight.data.zero_()  # so that anchors stay in their cells
    found = generator(feature_map, torch.tensor([[48, 56]]), None, map_sizes=torch.tensor([[3, 4]]))
    boxes = found.boxes[found.mask]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert 0 < len(boxes) <= 3 * 4 * 9
    assert (centers[:, 0] < 4 * 8).all()
    assert (centers[:, 1] < 3 * 8).all()


def test_an_overlap_of_exactly_the_threshold_is_a_tie():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0]])  # IoU 0.5
    scores = torch.tensor([0.75, 0.5])
    assert rpn.nms(boxes, scores, rpn.strict_threshold(0.5, "keep")).tolist() == [0, 1]
    assert rpn.nms(boxes, scores, rpn.strict_threshold(0.5, "drop")).tolist() == [0]


def test_more_anchors_than_candidates_or_fewer_is_no_difference_of_kind():
    for candidates in (1, 6 * 7 * 9, 5000):
        generator = make_generator(proposal_candidates=candidates)
        found = generator(torch.randn(2, 8, 6, 7), torch.tensor([[48, 56]] * 2), None)
        assert found.boxes.shape == (2, 10, 4)
        assert (found.mask.sum(dim=1) >= 1).all()


def test_no_proposal_is_a_result():
    generator = make_generator(proposal_min_side=1e6)
    found = generator(torch.randn(2, 8, 6, 7), torch.tensor([[48, 56]] * 2), None)
    assert not found.mask.any()


def test_head_may_be_narrower_than_the_map():
    config = DetectorConfig(object_names=("cup",)).replace(proposal_width=5)
    head = rpn.ProposalGenerator(config).rpn_head
    assert head.conv.weight.shape == (5, 128, 3, 3)
    assert math.prod(head.anchor_deltas.weight.shape) == 4 * 9 * 5
