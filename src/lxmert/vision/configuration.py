"""What a detector is made of, how it reads a picture and which regions it hands over."""

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lxmert.vision.presets import PRESETS

CONFIG_NAME = "config.json"
MODEL_TYPE = "lxmert-detector"
PRESET_GROUP = "attribute"
"""Name of the one attribute group of the published detector."""

# A file leaves such a field out while it has its default: a setting that did not exist when a
# detector was trained must not change its fingerprint, which names all stores made with it.
_LATER: dict[str, Any] = {"later": True}


@dataclass(frozen=True)
class DetectorConfig:
    """Everything but the weights of a region detector; saved as `config.json` beside them.

    The defaults are the small detector for pictures of about 160 pixels with objects of 10-40
    pixels; `preset` gives the published one. Sides, anchor sizes and widths of boxes are pixels of
    the resized picture.

    Attributes:
        object_names: name of each object class; the class id is the position.
        attribute_groups: name of a group -> its attributes, at most one of which is named for an
            object, such as `{"color": ("red", "blue"), "size": ("small", "large")}`. An attribute
            id is the position in the list of all groups, one after the other. May be empty.
        stem_width: channels after the first convolution, which has stride 2.
        stem_kernel: its side.
        stem_pool: max-pool 3x3 with stride 2 after it: "ceil" has no padding and counts the last,
            incomplete window; "padded" has padding 1 and shifts the map by half a cell.
        block: "basic" is two 3x3 convolutions, the first with the stride; "bottleneck" is 1x1, 3x3
            and 1x1, the first with the stride.
        stage_depths: blocks in each of `res2`, `res3`, `res4`.
        stage_inner_widths: channels between the convolutions of a block, by stage.
        stage_widths: channels of each stage's output; the last is the width of the feature map.
        stage_strides: stride of the first block of each stage.
        norm: "batch" is trained; "frozen" keeps stored statistics, for training on few images.
        anchor_sizes: square root of an anchor's area.
        anchor_ratios: height / width of an anchor.
        anchor_rounding: whether sides are rounded at a size of one cell and then multiplied.
        anchor_offset: where in its cell an anchor has its centre: 0.5 in the middle, 0 in the
            corner.
        anchors_stored: whether the weights bring the anchors of a cell, offset included.
        proposal_width: channels inside the proposal head; absent: those of the feature map.
        proposal_candidates: boxes per image that enter NMS; absent: 6 for each proposal.
        proposals: proposals per image that the head looks at, after NMS.
        proposal_min_side: a proposal thinner than this is dropped,
        min_side_unit: in pixels of the resized or of the original picture,
        min_side_when: before the candidates are counted off or after.
        proposal_nms_threshold: IoU from which of two proposals the weaker is dropped.
        nms_ties: whether an IoU of exactly the threshold drops the weaker box, in every NMS.
        side_offset: added to x2 - x1 for the side of a box; 1 where coordinates name pixels. NMS
            among regions takes it in pixels of the original picture.
        clip_margin: boxes are cut at this distance inside the right and lower border.
        max_log_scale: limit of the logarithm of a box's growth; absent: none.
        pooling: "align" interpolates a proposal's cells, "pool" takes the maximum of rounded ones.
        pooled_size: cells per side of the grid that a proposal is pooled to.
        head_depth: blocks of `res5`.
        head_stride: stride of its first block,
        head_dilation: dilation of its 3x3 convolutions.
        head_inner_width: channels between the convolutions of a block of `res5`.
        feature_dim: channels after `res5`: the length of a region's feature.
        class_specific_boxes: whether each class moves a box in its own way.
        embedding_dim: length of the embedding of the class that the attribute head reads.
        embed_background: whether that class may be the background.
        attribute_dim: width of the attribute head's hidden layer.
        attribute_none: whether each group has a last class "none of these", which takes part in
            the probabilities ("counted") or is left out of them ("ignored").
        anchor_samples: anchors per image that the proposal losses look at.
        region_samples: proposals per image that the head's losses look at.
        shorter_side: a picture is resized so that its shorter side has this length,
        longer_side: unless its longer side would exceed this one.
        round_before_limit: whether that side is rounded before it is compared with its limit.
        size_rounding: how the half of a pixel is rounded.
        resize: bilinear; "antialias" and "scale" step by the true scale, with and without
            averaging what is skipped; "size" and "pillow" by the quotient of the rounded sizes,
            without and with averaging, the latter in whole grey levels.
        channel_order: order of the channels that the weights expect.
        pixel_mean: subtracted from values in 0-255, in `channel_order`.
        pixel_std: what the difference is divided by.
        selection: "agnostic" runs NMS once, each candidate scored by its best class; "survivors"
            runs NMS for each class and scores a candidate by the best class in which it survived;
            "per_class" does so and takes a candidate once for each such class.
        nms_boxes: boxes that this NMS compares.
        output_boxes: boxes that are handed over.
        features_from: "box" looks again at the boxes that are handed over; "proposal" keeps the
            feature of the proposal that each grew from.
        num_regions: regions handed over at most.
        min_regions: with fewer, the next threshold of `nms_ladder` is tried.
        fill_up: whether the best of the rest are taken if that does not help.
        score_threshold: regions are handed over from this class probability on.
        nms_threshold: of two regions that overlap by more than this IoU the weaker is dropped.
        nms_ladder: thresholds that follow it.
    """

    object_names: tuple[str, ...]
    attribute_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stem_width: int = 24
    stem_kernel: int = field(default=3, metadata=_LATER)
    stem_pool: Literal["none", "ceil", "padded"] = field(default="none", metadata=_LATER)
    block: Literal["basic", "bottleneck"] = field(default="basic", metadata=_LATER)
    stage_depths: tuple[int, ...] = (1, 1, 2)
    stage_inner_widths: tuple[int, ...] = (32, 64, 128)
    stage_widths: tuple[int, ...] = (32, 64, 128)
    stage_strides: tuple[int, ...] = (2, 2, 1)
    norm: Literal["batch", "frozen"] = "batch"
    anchor_sizes: tuple[float, ...] = (13.0, 20.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_rounding: bool = field(default=False, metadata=_LATER)
    anchor_offset: float = field(default=0.5, metadata=_LATER)
    anchors_stored: bool = field(default=False, metadata=_LATER)
    proposal_width: int | None = field(default=None, metadata=_LATER)
    proposal_candidates: int | None = field(default=None, metadata=_LATER)
    proposals: int = 64
    proposal_min_side: float = field(default=2.0, metadata=_LATER)
    min_side_unit: Literal["resized", "original"] = field(default="resized", metadata=_LATER)
    min_side_when: Literal["before", "after"] = field(default="after", metadata=_LATER)
    proposal_nms_threshold: float = field(default=0.7, metadata=_LATER)
    nms_ties: Literal["keep", "drop"] = field(default="keep", metadata=_LATER)
    side_offset: float = field(default=0.0, metadata=_LATER)
    clip_margin: float = field(default=0.0, metadata=_LATER)
    # A delta beyond Fast R-CNN's limit would overflow exp.
    max_log_scale: float | None = field(default=math.log(1000.0 / 16), metadata=_LATER)
    pooling: Literal["align", "pool"] = field(default="align", metadata=_LATER)
    pooled_size: int = 6
    head_depth: int = 2
    head_stride: int = field(default=2, metadata=_LATER)
    head_dilation: int = field(default=1, metadata=_LATER)
    head_inner_width: int = 128
    feature_dim: int = 256
    class_specific_boxes: bool = field(default=False, metadata=_LATER)
    embedding_dim: int = 32
    embed_background: bool = field(default=False, metadata=_LATER)
    attribute_dim: int = 128
    attribute_none: Literal["absent", "counted", "ignored"] = field(
        default="absent", metadata=_LATER
    )
    anchor_samples: int = 128
    region_samples: int = 32
    shorter_side: int = 160
    longer_side: int = 320
    round_before_limit: bool = field(default=False, metadata=_LATER)
    size_rounding: Literal["half_even", "half_up"] = field(default="half_even", metadata=_LATER)
    resize: Literal["antialias", "scale", "size", "pillow"] = field(
        default="antialias", metadata=_LATER
    )
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    selection: Literal["agnostic", "survivors", "per_class"] = field(
        default="agnostic", metadata=_LATER
    )
    nms_boxes: Literal["proposal", "refined"] = field(default="refined", metadata=_LATER)
    output_boxes: Literal["proposal", "refined"] = field(default="refined", metadata=_LATER)
    features_from: Literal["box", "proposal"] = field(default="box", metadata=_LATER)
    num_regions: int = 36
    min_regions: int = field(default=0, metadata=_LATER)
    fill_up: bool = field(default=False, metadata=_LATER)
    score_threshold: float = 0.1
    nms_threshold: float = 0.5
    nms_ladder: tuple[float, ...] = field(default=(), metadata=_LATER)

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("object_names is empty; a detector needs at least one class.")
        stages = {
            name: len(getattr(self, name))
            for name in ("stage_depths", "stage_inner_widths", "stage_widths", "stage_strides")
        }
        if set(stages.values()) != {3}:
            raise ValueError(f"Got {stages} values; res2, res3 and res4 need three of each.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(repr(choice) for choice in choices)
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}.")
        if not 0 <= self.min_regions <= self.num_regions:
            raise ValueError(
                f"min_regions is {self.min_regions}; expected 0 to num_regions, "
                f"which is {self.num_regions}."
            )
        if self.shorter_side > self.longer_side:
            raise ValueError(
                f"shorter_side {self.shorter_side} exceeds longer_side {self.longer_side}."
            )

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """All attributes, group after group."""
        return tuple(name for names in self.attribute_groups.values() for name in names)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Number of attributes in each group."""
        return tuple(len(names) for names in self.attribute_groups.values())

    @property
    def stride(self) -> int:
        """Pixels per cell of the feature map."""
        return math.prod(self.stage_strides) * (2 if self.stem_pool == "none" else 4)

    @property
    def nms_thresholds(self) -> tuple[float, ...]:
        """The thresholds of the NMS among regions, in the order in which they are tried."""
        return (self.nms_threshold, *self.nms_ladder)

    @classmethod
    def preset(
        cls, name: str, *, object_names: Sequence[str], attribute_names: Sequence[str] = ()
    ) -> "DetectorConfig":
        """Return the published ResNet-101 detector as one of three programs ran it.

        Args:
            name: "caffe", which wrote the features that LXMERT was trained on, "detectron2" or
                "hf"; `dataclasses.replace` changes single settings of the result.
            object_names: names of its classes, 1600 for the published weights.
            attribute_names: names of its attributes, 400 for the published weights.

        Raises:
            ValueError: for another name.
        """
        if name not in PRESETS:
            raise ValueError(f"Got the preset {name!r}; expected one of {', '.join(PRESETS)}.")
        groups = {PRESET_GROUP: tuple(attribute_names)} if attribute_names else {}
        return cls(object_names=tuple(object_names), attribute_groups=groups, **PRESETS[name])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, with the type of model in front."""
        values = {
            entry.name: getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if not ("later" in entry.metadata and getattr(self, entry.name) == entry.default)
        }
        values["attribute_groups"] = {
            group: list(names) for group, names in self.attribute_groups.items()
        }
        return {"model_type": MODEL_TYPE} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DetectorConfig":
        """Build a configuration from `to_dict`'s result.

        Raises:
            ValueError: for another type of model, an unknown or a missing key.
        """
        values = dict(values)
        model_type = values.pop("model_type", None)
        if model_type != MODEL_TYPE:
            raise ValueError(
                f"model_type is {model_type!r}; expected {MODEL_TYPE!r}, a folder that "
                "`lxmert train` wrote for a detection recipe."
            )
        for name in values:
            if name not in _field_names():
                near = difflib.get_close_matches(name, _field_names(), n=1, cutoff=0.0)[0]
                raise ValueError(f"Unknown detector setting {name!r}; the nearest is {near!r}.")
        if "object_names" not in values:
            raise ValueError("object_names is missing; list the names of the object classes.")
        groups = values.pop("attribute_groups", {})
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(
            **fields, attribute_groups={group: tuple(names) for group, names in groups.items()}
        )

    @classmethod
    def from_json(cls, path: Path) -> "DetectorConfig":
        """Read a configuration from a `config.json`."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}); expected JSON: copy it again from where the "
                "detector was trained."
            ) from error
        return cls.from_dict(values)


def _field_names() -> list[str]:
    return [entry.name for entry in dataclasses.fields(DetectorConfig)]


_CHOICES: dict[str, tuple[Any, ...]] = {
    name: typing.get_args(kind)
    for name, kind in typing.get_type_hints(DetectorConfig).items()
    if typing.get_origin(kind) is Literal
}
"""Field -> the values that it may have."""
