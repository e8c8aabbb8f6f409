"""Proposals in NumPy are those of PyTorch, for every rule of the configuration."""

import numpy as np
import pytest
import torch

from lxmert.regions import choosing
from lxmert.regions.box_coding import extend_boxes
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.proposals import ProposalGenerator

SMALL = DetectorConfig(object_names=("cup", "hat", "box"), num_regions=7)
PRESETS = [
    DetectorConfig.preset(name, object_names=tuple("abcde")).replace(
        stage_widths=(8, 8, 8), proposals=30, num_regions=9, min_regions=4
    )
    for name in ("caffe", "detectron2", "hf")
]
CONFIGS = [
    SMALL,
    SMALL.replace(score_threshold=0.9),
    SMALL.replace(min_regions=5, fill_up=True, nms_ladder=(0.7, 0.9), nms_ties="drop"),
    SMALL.replace(selection="per_class", score_threshold=0.05, max_log_scale=None),
    *PRESETS,
]


def draw_boxes(generator, number, side=150.0):
    corners = generator.random((number, 2)) * side
    sides = generator.random((number, 2)) * 60 + 3
    return np.concatenate([corners, np.minimum(corners + sides, side)], axis=1).astype(np.float32)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_proposed_as_by_torch(config, seed):
    torch.manual_seed(seed)
    proposer = ProposalGenerator(config).eval()
    feature_map = torch.randn(1, config.stage_widths[-1], 11, 13)
    size = (11 * config.stride - 3, 13 * config.stride - 5)
    with torch.no_grad():
        for parameter in proposer.parameters():
            parameter.normal_(std=0.2)
        logits, deltas = proposer.rpn_head(feature_map)
        expected = proposer(feature_map, torch.tensor([size]), None, scales=torch.tensor([1.25]))
    cells = proposer.anchor_generator
    anchors = choosing.place_anchors(
        cells.cell_anchors.get_buffer("0").numpy(),
        11,
        13,
        stride=config.stride,
        offset=cells.offset,
    )
    np.testing.assert_allclose(anchors, cells(11, 13), atol=1e-4)
    found = choosing.propose(logits[0].numpy(), deltas[0].numpy(), anchors, config, size, 1.25)
    wanted = expected.boxes[0][expected.mask[0]].numpy()
    assert len(wanted) > 3
    np.testing.assert_allclose(found, wanted, atol=1e-2)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_suppression_is_that_of_torchvision(threshold):
    from torchvision.ops import nms

    generator = np.random.default_rng(3)
    boxes = draw_boxes(generator, 200)
    scores = np.round(generator.random(200), 2).astype(np.float32)  # with ties
    order = torch.from_numpy(scores).argsort(descending=True, stable=True)
    expected = order[nms(torch.from_numpy(boxes)[order], torch.linspace(1, 0, 200), threshold)]
    np.testing.assert_array_equal(choosing.nms(boxes, scores, threshold), expected)
    assert choosing.nms(boxes, scores, threshold, most=5).tolist() == expected[:5].tolist()


def test_a_box_is_extended_as_by_torch():
    boxes = draw_boxes(np.random.default_rng(4), 3)
    expected = extend_boxes(torch.from_numpy(boxes), 1.5)
    np.testing.assert_array_equal(choosing.extend(boxes, 1.5), expected)
