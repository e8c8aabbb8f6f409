"""Detector configuration: architecture, preprocessing and region selection."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from lxmert.records import LATER, Count, Items, NonNegative, Number, Positive, Record, Share
from lxmert.regions.presets import PRESETS

CONFIG_NAME = "config.json"
MODEL_TYPE: Literal["lxmert-detector"] = "lxmert-detector"
PRESET_GROUP = "attribute"
"""Name of the one attribute group of the published detector."""

# The ranges reject impossible values before memory is allocated.
_Width = Annotated[int, Field(ge=1, le=65_536)]
_Depth = Annotated[int, Field(ge=1, le=256)]
_Step = Annotated[int, Field(ge=1, le=64)]
_Side = Annotated[int, Field(ge=1, le=10_000)]
_Regions = Annotated[int, Field(ge=1, le=10_000)]
_three = Field(min_length=3, max_length=3)
_some = Field(min_length=1)


class DetectorConfig(Record):
    """Configuration of a region detector; saved as `config.json` next to the weights.

    The defaults describe the small detector for images of about 160 pixels with objects of 10-40
    pixels; `preset` returns the published one. Sides, anchor sizes and widths of boxes are in
    pixels of the resized image.

    Attributes:
        model_type: kind of extractor.
        object_names: name of each object class; the class id is the position.
        attribute_groups: name of a group -> its attributes, which exclude each other, such as
            `{"color": ("red", "blue"), "size": ("small", "large")}`. An attribute id is the
            position in the concatenated list of all groups. May be empty.
        stem_width: channels after the first convolution, which has stride 2.
        stem_kernel: kernel size of the first convolution.
        stem_pool: 3x3 max-pooling with stride 2 after it: "ceil" has no padding and includes the
            last, incomplete window; "padded" has padding 1 and shifts the map by half a cell.
        block: "basic" is two 3x3 convolutions, the first with the stride; "bottleneck" is 1x1, 3x3
            and 1x1, the first with the stride.
        stage_depths: blocks in each of `res2`, `res3`, `res4`.
        stage_inner_widths: channels between the convolutions of a block, by stage.
        stage_widths: channels of each stage's output; the last is the width of the feature map.
        stage_strides: stride of the first block of each stage.
        norm: "batch" is trained; "frozen" keeps the stored statistics, for training on few images.
        anchor_sizes: square root of an anchor's area.
        anchor_ratios: height / width of an anchor.
        anchor_rounding: whether sides are rounded at the size of one cell and then multiplied.
        anchor_offset: center of an anchor in its cell: 0.5 is the middle, 0 the corner.
        anchors_stored: whether the weights contain the anchors of a cell, including the offset.
        proposal_width: channels inside the proposal head. None: those of the feature map.
        proposal_candidates: boxes per image that enter NMS. None: 6 for each proposal.
        proposals: proposals per image after NMS, which the head describes.
        proposal_min_side: proposals with a shorter side are dropped.
        min_side_unit: whether that side is in pixels of the "resized" or of the "original" image.
        min_side_when: whether they are dropped "before" or "after" the candidates are selected.
        proposal_nms_threshold: of two proposals with a higher IoU, the weaker is dropped.
        nms_ties: whether an IoU exactly at the threshold drops the weaker box, in every NMS.
        side_offset: added to x2 - x1 to get the side of a box; 1 if coordinates are pixel indices.
            The NMS among regions uses it in pixels of the original image.
        clip_margin: boxes are clipped at this distance inside the right and lower borders.
        max_log_scale: maximum log of a box's growth factor. None: no limit.
        pooling: "align" interpolates the cells of a proposal, "pool" takes the maximum of rounded
            cells.
        pooled_size: cells per side of the grid that a proposal is pooled to.
        head_depth: blocks of `res5`.
        head_stride: stride of the first block of `res5`.
        head_dilation: dilation of the 3x3 convolutions of `res5`.
        head_inner_width: channels between the convolutions of a block of `res5`.
        feature_dim: channels after `res5`, the length of a region's feature.
        class_specific_boxes: whether boxes are refined separately for each class.
        embedding_dim: length of the class embedding that the attribute head reads.
        embed_background: whether that class may be the background.
        attribute_dim: width of the attribute head's hidden layer.
        attribute_none: whether each group has an additional last class "none of these", which is
            included in the probabilities ("counted") or excluded from them ("ignored").
        anchor_samples: anchors per image in the proposal losses.
        region_samples: proposals per image in the losses of the head.
        shorter_side: length of the shorter side after resizing, unless the longer side exceeds
            `longer_side`.
        longer_side: maximum length of the longer side after resizing.
        round_before_limit: whether the longer side is rounded before it is compared with its limit.
        size_rounding: how half pixels are rounded.
        resize: bilinear interpolation. "antialias" and "scale" use the exact scale, with and
            without antialiasing; "size" and "pillow" use the ratio of the rounded sizes, without
            and with antialiasing, and "pillow" rounds to integer gray levels.
        channel_order: channel order that the weights expect.
        pixel_mean: subtracted from values in 0-255, in `channel_order`.
        pixel_std: divisor after the subtraction.
        selection: "agnostic" runs NMS once, with each candidate scored by its best class;
            "survivors" runs NMS for each class and scores a candidate by the best class in which it
            survived; "per_class" does the same but returns a candidate once for each such class.
        nms_boxes: boxes that this NMS compares.
        output_boxes: boxes that are returned.
        features_from: "box" computes features for the returned boxes; "proposal" keeps the features
            of the proposals that the boxes were refined from.
        num_regions: maximum number of returned regions.
        min_regions: if fewer regions are found, the next threshold of `nms_ladder` is tried.
        fill_up: whether to add the best remaining candidates if there are still too few.
        score_threshold: minimum class probability of a region.
        nms_threshold: of two regions with a higher IoU, the weaker is dropped.
        nms_ladder: NMS thresholds to try after `nms_threshold`.
    """

    model_type: Literal["lxmert-detector"] = MODEL_TYPE
    object_names: Annotated[Items[str], _some]
    attribute_groups: Mapping[str, Annotated[Items[str], _some]] = Field(default_factory=dict)
    stem_width: _Width = 24
    stem_kernel: Annotated[_Step, LATER] = 3
    stem_pool: Annotated[Literal["none", "ceil", "padded"], LATER] = "none"
    block: Annotated[Literal["basic", "bottleneck"], LATER] = "basic"
    stage_depths: Annotated[Items[_Depth], _three] = (1, 1, 2)
    stage_inner_widths: Annotated[Items[_Width], _three] = (32, 64, 128)
    stage_widths: Annotated[Items[_Width], _three] = (32, 64, 128)
    stage_strides: Annotated[Items[_Step], _three] = (2, 2, 1)
    norm: Literal["batch", "frozen"] = "batch"
    anchor_sizes: Annotated[Items[Positive], _some] = (13.0, 20.0, 32.0)
    anchor_ratios: Annotated[Items[Positive], _some] = (0.5, 1.0, 2.0)
    anchor_rounding: Annotated[bool, LATER] = False
    anchor_offset: Annotated[Share, LATER] = 0.5
    anchors_stored: Annotated[bool, LATER] = False
    proposal_width: Annotated[_Width | None, LATER] = None
    proposal_candidates: Annotated[Count | None, LATER] = None
    proposals: _Regions = 64
    proposal_min_side: Annotated[NonNegative, LATER] = 2.0
    min_side_unit: Annotated[Literal["resized", "original"], LATER] = "resized"
    min_side_when: Annotated[Literal["before", "after"], LATER] = "after"
    proposal_nms_threshold: Annotated[Share, LATER] = 0.7
    nms_ties: Annotated[Literal["keep", "drop"], LATER] = "keep"
    side_offset: Annotated[NonNegative, LATER] = 0.0
    clip_margin: Annotated[NonNegative, LATER] = 0.0
    # A delta beyond Fast R-CNN's limit would overflow exp.
    max_log_scale: Annotated[Positive | None, LATER] = math.log(1000.0 / 16)
    pooling: Annotated[Literal["align", "pool"], LATER] = "align"
    pooled_size: _Step = 6
    head_depth: _Depth = 2
    head_stride: Annotated[_Step, LATER] = 2
    head_dilation: Annotated[_Step, LATER] = 1
    head_inner_width: _Width = 128
    feature_dim: _Width = 256
    class_specific_boxes: Annotated[bool, LATER] = False
    embedding_dim: _Width = 32
    embed_background: Annotated[bool, LATER] = False
    attribute_dim: _Width = 128
    attribute_none: Annotated[Literal["absent", "counted", "ignored"], LATER] = "absent"
    anchor_samples: Count = 128
    region_samples: Count = 32
    shorter_side: _Side = 160
    longer_side: _Side = 320
    round_before_limit: Annotated[bool, LATER] = False
    size_rounding: Annotated[Literal["half_even", "half_up"], LATER] = "half_even"
    resize: Annotated[Literal["antialias", "scale", "size", "pillow"], LATER] = "antialias"
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_mean: Annotated[Items[Number], _three] = (123.675, 116.28, 103.53)
    pixel_std: Annotated[Items[Positive], _three] = (58.395, 57.12, 57.375)
    selection: Annotated[Literal["agnostic", "survivors", "per_class"], LATER] = "agnostic"
    nms_boxes: Annotated[Literal["proposal", "refined"], LATER] = "refined"
    output_boxes: Annotated[Literal["proposal", "refined"], LATER] = "refined"
    features_from: Annotated[Literal["box", "proposal"], LATER] = "box"
    num_regions: _Regions = 36
    min_regions: Annotated[int, Field(ge=0), LATER] = 0
    fill_up: Annotated[bool, LATER] = False
    score_threshold: Share = 0.1
    nms_threshold: Share = 0.5
    nms_ladder: Annotated[Items[Share], LATER] = ()

    def problems(self) -> Iterator[str]:
        """Yield the inconsistencies between fields."""
        if self.min_regions > self.num_regions:
            yield (
                f"min_regions: got {self.min_regions}, expected at most num_regions, "
                f"which is {self.num_regions}"
            )
        if self.shorter_side > self.longer_side:
            yield f"shorter_side: {self.shorter_side} exceeds longer_side {self.longer_side}"

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """All attributes, concatenated by group."""
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
    def region_bytes(self) -> float:
        """Bytes of the activations of a region in the head: its input, and three maps."""
        inputs = self.pooled_size**2 * self.stage_widths[-1]
        outputs = (self.pooled_size / self.head_stride) ** 2 * self.feature_dim
        return 4 * (inputs + 3 * outputs)

    @property
    def nms_thresholds(self) -> tuple[float, ...]:
        """NMS thresholds for regions, in the order in which they are tried."""
        return (self.nms_threshold, *self.nms_ladder)

    def check_limits(self, num_regions: int | tuple[int, int]) -> tuple[int, int]:
        """Return the minimum and maximum number of regions, given as one number or as both.

        Raises:
            ValueError: if there cannot be so many.
        """
        limits = (num_regions, num_regions) if isinstance(num_regions, int) else num_regions
        most = self.proposals
        if not 0 <= limits[0] <= limits[1] <= most or limits[1] == 0:
            raise ValueError(
                f"num_regions is {num_regions}; expected a number from 1 to {most} (the number of "
                f"proposals), or (minimum, maximum) such as (10, {most})"
            )
        return limits

    @classmethod
    def preset(
        cls, name: str, *, object_names: Sequence[str], attribute_names: Sequence[str] = ()
    ) -> "DetectorConfig":
        """Return the configuration of the published ResNet-101 detector as one program ran it.

        Args:
            name: "caffe" (the program that wrote the features that LXMERT was trained on),
                "detectron2" or "hf". Use `replace` to change single fields of the result.
            object_names: class names, 1600 for the published weights.
            attribute_names: attribute names, 400 for the published weights.

        Raises:
            ValueError: for another name.
        """
        if name not in PRESETS:
            raise ValueError(f"the preset is {name!r}; expected one of {', '.join(PRESETS)}")
        groups = {PRESET_GROUP: tuple(attribute_names)} if attribute_names else {}
        return cls(object_names=tuple(object_names), attribute_groups=groups, **PRESETS[name])
