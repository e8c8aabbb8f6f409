"""Anchors of the small detector by formula, of the published one by the numbers of its authors."""

import pytest
import torch

from lxmert.regions.anchors import AnchorGenerator, make_anchors, make_cell_anchors
from lxmert.regions.configuration import DetectorConfig

# Printed in the source of Faster R-CNN for ratios 0.5, 1, 2 (outer) and scales 8, 16, 32; both
# corners name pixels.
FASTER_RCNN = [
    [-84, -40, 99, 55],
    [-176, -88, 191, 103],
    [-360, -184, 375, 199],
    [-56, -56, 71, 71],
    [-120, -120, 135, 135],
    [-248, -248, 263, 263],
    [-36, -80, 51, 95],
    [-80, -168, 95, 183],
    [-168, -344, 183, 359],
]


def preset(name):
    return DetectorConfig.preset(name, object_names=("cup",))


def test_cell_anchors_have_the_area_and_ratio_asked_for():
    anchors = make_cell_anchors((13.0, 20.0), (0.5, 1.0, 2.0))
    sides = anchors[:, 2:] - anchors[:, :2]
    assert sides.prod(1).sqrt().tolist() == pytest.approx([13.0] * 3 + [20.0] * 3)
    assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx([0.5, 1.0, 2.0] * 2)
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])


def test_anchors_stand_in_the_middle_of_their_cells_row_by_row():
    cell = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-3.0, -3.0, 3.0, 3.0]])
    anchors = make_anchors(cell, 2, 3, 8)
    expected = [
        (column * 8 + 4 + x, row * 8 + 4 + y)
        for row in range(2)
        for column in range(3)
        for x, y in ((-1, -2), (-3, -3))
    ]
    assert [tuple(anchor) for anchor in anchors[:, :2].tolist()] == expected


def test_anchors_of_the_original_are_the_printed_ones():
    anchors = AnchorGenerator(preset("caffe"))(1, 1).view(4, 3, 4)  # sizes outer, ratios inner
    smallest = anchors[0] - torch.tensor([0, 0, 1, 1])
    assert smallest.tolist() == [[-38, -16, 53, 31], [-24, -24, 39, 39], [-14, -36, 29, 51]]
    larger = (anchors[1:] - torch.tensor([0, 0, 1, 1])).transpose(0, 1).reshape(-1, 4)
    assert larger.tolist() == FASTER_RCNN


def test_anchors_of_the_ports_stand_in_the_corner_of_their_cells():
    anchors = AnchorGenerator(preset("detectron2"))(2, 2)
    torch.testing.assert_close(anchors[:12, :2], -anchors[:12, 2:])
    sides = anchors[:12, 2:] - anchors[:12, :2]
    expected = [64] * 3 + [128] * 3 + [256] * 3 + [512] * 3
    assert sides.prod(dim=1).sqrt().tolist() == pytest.approx(expected)
    torch.testing.assert_close(anchors[36:], anchors[:12] + 16)


def test_anchors_of_the_weights_are_used_with_a_warning_if_they_are_others():
    generator = AnchorGenerator(preset("caffe"))
    state = generator.state_dict()
    assert list(state) == ["cell_anchors.0"]
    shuffled = {"cell_anchors.0": state["cell_anchors.0"].flip(0)}  # another order is no other set
    generator.load_state_dict(shuffled)
    torch.testing.assert_close(generator(1, 1), shuffled["cell_anchors.0"])
    others = {"cell_anchors.0": state["cell_anchors.0"] + 3.25}
    with pytest.warns(
        UserWarning, match="weights contain anchors .* the anchors of the weights are used"
    ):
        generator.load_state_dict(others)
    torch.testing.assert_close(generator(1, 1), others["cell_anchors.0"])


def test_small_detector_keeps_its_anchors_out_of_its_files():
    assert AnchorGenerator(DetectorConfig(object_names=("cup",))).state_dict() == {}
