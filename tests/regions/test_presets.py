"""The published detector: the settings of its presets, and the names and shapes it loads."""

import math

import pytest
import torch

from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector

OBJECTS = [f"object {index}" for index in range(1600)]
ATTRIBUTES = [f"attribute {index}" for index in range(400)]
PRESETS = ("caffe", "detectron2", "hf")

# Written by hand: what each program did. One value stands for all three.
TABLE = {
    "stem_width": 64,
    "stem_kernel": 7,
    "stem_pool": "ceil",
    "block": "bottleneck",
    "stage_depths": (3, 4, 23),
    "stage_inner_widths": (64, 128, 256),
    "stage_widths": (256, 512, 1024),
    "stage_strides": (1, 2, 2),
    "norm": "frozen",
    "anchor_sizes": (64, 128, 256, 512),
    "anchor_ratios": (0.5, 1, 2),
    "anchor_rounding": [True, False, False],
    "anchor_offset": [0.5, 0, 0],
    "anchors_stored": True,
    "proposal_width": 512,
    "proposal_candidates": 6000,
    "proposals": 300,
    "proposal_min_side": [16, 0, 0],
    "min_side_unit": ["original", "resized", "resized"],
    "min_side_when": ["before", "after", "after"],
    "proposal_nms_threshold": 0.7,
    "nms_ties": ["drop", "keep", "keep"],
    "side_offset": [1, 0, 0],
    "clip_margin": [1, 0, 0],
    "max_log_scale": [None, math.log(62.5), math.log(62.5)],
    "pooling": "pool",
    "pooled_size": 14,
    "head_depth": 3,
    "head_stride": 1,
    "head_dilation": 2,
    "head_inner_width": 512,
    "feature_dim": 2048,
    "class_specific_boxes": True,
    "embedding_dim": 256,
    "embed_background": True,
    "attribute_dim": 512,
    "attribute_none": ["counted", "ignored", "ignored"],
    "shorter_side": [600, 800, 800],
    "longer_side": [1000, 1333, 1333],
    "round_before_limit": [True, False, False],
    "size_rounding": ["half_even", "half_up", "half_up"],
    "resize": ["scale", "pillow", "size"],
    "channel_order": ["BGR", "BGR", "RGB"],
    "pixel_mean": (102.9801, 115.9465, 122.7717),
    "pixel_std": (1, 1, 1),
    "selection": ["survivors", "per_class", "agnostic"],
    "nms_boxes": ["proposal", "refined", "refined"],
    "output_boxes": ["proposal", "refined", "refined"],
    "features_from": "proposal",
    "num_regions": 36,
    "min_regions": 36,
    "fill_up": [True, False, True],
    "score_threshold": [0.2, 0.2, 0],
    "nms_threshold": [0.3, 0.5, 0.5],
    "nms_ladder": [(), (0.6, 0.7, 0.8, 0.9), (0.6, 0.7)],
}

# Settings of training, which the published detector has no part in.
UNLISTED = {"model_type", "object_names", "attribute_groups", "anchor_samples", "region_samples"}


def preset(name):
    return DetectorConfig.preset(name, object_names=OBJECTS, attribute_names=ATTRIBUTES)


def test_table_lists_every_setting():
    assert set(TABLE) | UNLISTED == set(DetectorConfig.model_fields)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_numbers_of_the_table(name):
    config = preset(name)
    for setting, values in TABLE.items():
        expected = values[PRESETS.index(name)] if isinstance(values, list) else values
        assert getattr(config, setting) == expected, setting
    assert config.stride == 16
    assert config.attribute_groups == {"attribute": tuple(ATTRIBUTES)}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_its_file(name):
    assert DetectorConfig.from_dict(preset(name).to_dict()) == preset(name)


def test_unknown_preset_is_named():
    with pytest.raises(ValueError, match="the preset is 'cafe'; expected one of caffe, detectron"):
        DetectorConfig.preset("cafe", object_names=("cup",))


def test_detector_without_attributes_is_a_preset_too():
    config = DetectorConfig.preset("caffe", object_names=("cup",))
    assert config.attribute_groups == {}


def block_shapes(name, inputs, inner, outputs, *, shortcut):
    convolutions = {
        "conv1": (inner, inputs, 1, 1),
        "conv2": (inner, inner, 3, 3),
        "conv3": (outputs, inner, 1, 1),
    }
    if shortcut:
        convolutions["shortcut"] = (outputs, inputs, 1, 1)
    return normed({f"{name}.{key}": shape for key, shape in convolutions.items()})


def normed(convolutions):
    norms = {
        f"{name}.norm.{part}": shape[:1]
        for name, shape in convolutions.items()
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    return {f"{name}.weight": shape for name, shape in convolutions.items()} | norms


def published_shapes():
    """Names of detectron2's file, and shapes from the layers of the published network."""
    shapes = normed({"backbone.stem.conv1": (64, 3, 7, 7)})
    stages = [
        ("backbone.res2", 3, 64, 64, 256),
        ("backbone.res3", 4, 256, 128, 512),
        ("backbone.res4", 23, 512, 256, 1024),
        ("roi_heads.res5", 3, 1024, 512, 2048),
    ]
    for name, depth, inputs, inner, outputs in stages:
        for index in range(depth):
            first = index == 0
            width = inputs if first else outputs
            shapes |= block_shapes(f"{name}.{index}", width, inner, outputs, shortcut=first)
    linear = {
        "proposal_generator.rpn_head.conv": (512, 1024, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (12, 512, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (48, 512, 1, 1),
        "roi_heads.box_predictor.cls_score": (1601, 2048),
        "roi_heads.box_predictor.bbox_pred": (6400, 2048),
        "roi_heads.box_predictor.fc_attr": (512, 2304),
        "roi_heads.box_predictor.attr_score": (401, 512),
    }
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes["roi_heads.box_predictor.cls_embedding.weight"] = (1601, 256)
    shapes["proposal_generator.anchor_generator.cell_anchors.0"] = (12, 4)
    return shapes


@pytest.mark.parametrize("name", PRESETS)
def test_state_has_the_names_and_shapes_of_the_published_files(name):
    with torch.device("meta"):
        state = Detector(preset(name)).state_dict()
    assert {name: tuple(values.shape) for name, values in state.items()} == published_shapes()
    assert len(state) == 536  # as counted in the published files
    assert sum(values.numel() for values in state.values()) == pytest.approx(65.5e6, rel=0.001)
