"""Presets of the published Visual Genome detector, one for each program that runs it.

The weights are the same; preprocessing and region selection differ. `caffe` is the program that
wrote the features LXMERT was trained on; `detectron2` and `hf` are ports with other features.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_NETWORK: dict[str, Any] = {
    "stem_width": 64,
    "stem_kernel": 7,
    "stem_pool": "ceil",
    "block": "bottleneck",
    "stage_depths": (3, 4, 23),
    "stage_inner_widths": (64, 128, 256),
    "stage_widths": (256, 512, 1024),
    "stage_strides": (1, 2, 2),
    "norm": "frozen",
    "anchor_sizes": (64.0, 128.0, 256.0, 512.0),
    "anchor_ratios": (0.5, 1.0, 2.0),
    "anchors_stored": True,
    "proposal_width": 512,
    "proposal_candidates": 6000,
    "proposals": 300,
    "proposal_nms_threshold": 0.7,
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
    "pixel_mean": (102.9801, 115.9465, 122.7717),
    "pixel_std": (1.0, 1.0, 1.0),
    "features_from": "proposal",
    "num_regions": 36,
    "min_regions": 36,
}

_PORTS: dict[str, Any] = {
    "anchor_offset": 0.0,
    "proposal_min_side": 0.0,
    "shorter_side": 800,
    "longer_side": 1333,
    "size_rounding": "half_up",
    "attribute_none": "ignored",
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "caffe": {
            **_NETWORK,
            "anchor_rounding": True,
            "proposal_min_side": 16.0,
            "min_side_unit": "original",
            "min_side_when": "before",
            "nms_ties": "drop",
            "side_offset": 1.0,
            "clip_margin": 1.0,
            "max_log_scale": None,
            "attribute_none": "counted",
            "channel_order": "BGR",
            "shorter_side": 600,
            "longer_side": 1000,
            "size_rounding": "half_even",
            "round_before_limit": True,
            "resize": "scale",
            "selection": "survivors",
            "nms_boxes": "proposal",
            "output_boxes": "proposal",
            "nms_threshold": 0.3,
            "score_threshold": 0.2,
            "fill_up": True,
        },
        "detectron2": {
            **_NETWORK,
            **_PORTS,
            "channel_order": "BGR",
            "resize": "pillow",
            "selection": "per_class",
            "nms_threshold": 0.5,
            "nms_ladder": (0.6, 0.7, 0.8, 0.9),
            "score_threshold": 0.2,
        },
        "hf": {
            **_NETWORK,
            **_PORTS,
            # It intended BGR and used it for images from URLs, but used RGB for local files.
            "channel_order": "RGB",
            "resize": "size",
            "selection": "agnostic",
            "nms_threshold": 0.5,
            "nms_ladder": (0.6, 0.7),
            "score_threshold": 0.0,
            "fill_up": True,
        },
    }
)
"""Preset -> fields of `DetectorConfig` that differ from the small detector's."""
