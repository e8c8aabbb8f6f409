"""Feature maps: sizes, the published geometry, and independence of the batch padding."""

import pytest
import torch
from torch.nn import functional

from lxmert.regions.backbone import (
    Backbone,
    BottleneckBlock,
    Stage,
    hide_padding,
    own_cells,
)
from lxmert.regions.configuration import DetectorConfig

SMALL_PUBLISHED = {
    "stem_width": 8,
    "stem_kernel": 7,
    "stem_pool": "ceil",
    "block": "bottleneck",
    "stage_depths": (1, 2, 2),
    "stage_inner_widths": (4, 6, 8),
    "stage_widths": (8, 12, 16),
    "stage_strides": (1, 2, 2),
    "norm": "frozen",
}


def make_backbone(seed=0, **settings):
    torch.manual_seed(seed)
    config = DetectorConfig(object_names=("cup",), **(SMALL_PUBLISHED | settings))
    backbone = Backbone(config).eval()
    for module in backbone.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(std=0.5)
            module.bias.data.normal_(std=0.5)
    return backbone


def chain(size, stem_pool):
    """Apply the strides and paddings of each layer to a line of pixels, with one channel."""
    line = torch.zeros(1, 1, 1, size)
    line = functional.conv2d(
        functional.pad(line, (3, 3)), torch.zeros(1, 1, 1, 7), stride=(1, 2)
    )  # 7x7, stride 2, pad 3
    if stem_pool == "ceil":
        line = functional.max_pool2d(line, (1, 3), (1, 2), ceil_mode=True)
    elif stem_pool == "padded":
        line = functional.max_pool2d(line, (1, 3), (1, 2), padding=(0, 1))
    for stride in (1, 2, 2):
        line = functional.conv2d(line, torch.zeros(1, 1, 1, 1), stride=(1, stride))
    return line.shape[3]


@pytest.mark.parametrize("stem_pool", ["ceil", "padded", "none"])
def test_sizes_of_the_map_follow_the_formula_for_every_image(stem_pool):
    backbone = make_backbone(stem_pool=stem_pool)
    sides = torch.arange(16, 1401)
    sizes = backbone.map_sizes(torch.stack([sides, sides.flip(0)], dim=1))
    expected = torch.tensor([chain(side, stem_pool) for side in sides.tolist()])
    assert torch.equal(sizes[:, 0], expected)
    assert torch.equal(sizes[:, 1], expected.flip(0))


def test_unpadded_pool_gives_other_sizes_than_a_sixteenth():
    sizes = make_backbone().map_sizes(torch.tensor([[600, 1000], [17, 16]]))
    assert sizes.tolist() == [[38, 63], [1, 1]]
    padded = make_backbone(stem_pool="padded").map_sizes(torch.tensor([[17, 17]]))
    assert padded.tolist() == [[2, 2]]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (16, 16), (61, 34)])
def test_map_has_the_size_of_the_formula(size):
    backbone = make_backbone()
    with torch.inference_mode():
        feature_map = backbone(torch.randn(1, 3, *size))
    rows, columns = backbone.map_sizes(torch.tensor([size]))[0].tolist()
    assert feature_map[:, :, :rows, :columns].isfinite().all()
    assert (feature_map[:, :, rows:] == 0).all()
    assert (feature_map[:, :, :, columns:] == 0).all()


@pytest.mark.parametrize("stem_pool", ["ceil", "padded", "none"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@torch.inference_mode()
def test_each_image_of_a_padded_batch_has_the_map_that_it_has_alone(block, stem_pool):
    backbone = make_backbone(block=block, stem_pool=stem_pool)
    sizes = torch.tensor([[33, 70], [64, 41], [50, 16], [64, 70]])
    images = [torch.randn(1, 3, *size) for size in sizes.tolist()]
    batch = torch.zeros(len(images), 3, 64, 70)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[2], : image.shape[3]] = image[0]
    joined, leaking = backbone(batch, sizes), backbone(batch)
    worst = 0.0
    for index, image in enumerate(images):
        alone = backbone(image)[0]
        rows, columns = backbone.map_sizes(sizes)[index].tolist()
        own = joined[index, :, :rows, :columns]
        torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-5)
        assert (joined[index, :, rows:] == 0).all()
        assert (joined[index, :, :, columns:] == 0).all()
        worst = max(worst, (leaking[index, :, :rows, :columns] - alone).abs().max().item())
    assert (
        worst > 0.01
    )  # without the mask, padding has an effect: otherwise this test could not fail


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_own_cells_are_the_upper_left_corner(rows):
    mask = own_cells(torch.tensor([[rows, 3], [5, 4]]), 5, 4)
    assert mask[0].sum() == rows * 3
    assert mask[0, :rows, :3].all()
    assert mask[1].all()
    values = torch.full((2, 3, 5, 4), 3.25)
    assert hide_padding(values, torch.tensor([[rows, 3], [5, 4]])).sum() == 3.25 * 3 * (
        rows * 3 + 20
    )


def test_bottleneck_has_its_stride_in_the_first_convolution():
    torch.manual_seed(1)
    block = BottleneckBlock(4, 3, 6, stride=2, dilation=1, norm="frozen").eval()
    inputs = torch.randn(1, 4, 9, 8)
    skipped = inputs.clone()
    skipped[:, :, 1::2] = -8.0  # rows that a 1x1 convolution of stride 2 never reads
    assert torch.equal(block(inputs), block(skipped))
    assert block.conv1.stride == block.shortcut.stride == (2, 2)
    assert block.conv2.stride == (1, 1)


def test_frozen_norm_is_the_formula():
    block = BottleneckBlock(4, 3, 4, stride=1, dilation=1, norm="frozen")
    norm = block.conv1.norm
    norm.running_var.fill_(0.25)
    norm.running_mean.fill_(3.25)
    norm.weight.fill_(2.0)
    norm.bias.fill_(-8.0)
    inputs = torch.randn(1, 3, 2, 2)
    expected = (inputs - 3.25) / (0.25 + 1e-5) ** 0.5 * 2.0 - 8.0
    torch.testing.assert_close(norm(inputs), expected)


def test_dilated_stage_is_four_stages_on_every_second_cell():
    """A dilation of 2 at stride 1 keeps the 14x14 cells apart as four grids of 7x7."""
    torch.manual_seed(2)
    config = DetectorConfig(object_names=("cup",), **SMALL_PUBLISHED)
    dilated = Stage(config, (6, 4, 8), depth=3, stride=1, dilation=2).eval()
    plain = Stage(config, (6, 4, 8), depth=3, stride=1).eval()
    plain.load_state_dict(dilated.state_dict())
    inputs = torch.randn(2, 6, 14, 14)
    outputs = dilated(inputs)
    assert outputs.shape == (2, 8, 14, 14)
    for row in (0, 1):
        for column in (0, 1):
            torch.testing.assert_close(
                outputs[:, :, row::2, column::2], plain(inputs[:, :, row::2, column::2])
            )


def test_values_do_not_explode_in_random_weights_of_the_published_depth():
    """With unit gains the map of 30 random blocks reached 1e8, and no proposal survived."""
    backbone = make_backbone(stage_depths=(3, 4, 23))
    feature_map = backbone(60 * torch.randn(1, 3, 64, 64))
    assert 0.01 < feature_map.abs().max() < 1e4
