"""What a detector is made of, how it reads a picture and which regions it hands over."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CONFIG_NAME = "config.json"
MODEL_TYPE = "lxmert-detector"


@dataclass(frozen=True)
class DetectorConfig:
    """Everything but the weights of a region detector; saved as `config.json` beside them.

    The defaults are the small detector for pictures of about 160 pixels with objects of 10-40
    pixels. Sides, anchor sizes and widths of boxes are pixels of the resized picture.

    Attributes:
        object_names: name of each object class; the class id is the position.
        attribute_groups: name of a group -> its attributes, exactly one of which an object has,
            such as `{"color": ("red", "blue"), "size": ("small", "large")}`. An attribute id is
            the position in the list of all groups, one after the other. May be empty.
        stem_width: channels after the first convolution, which has stride 2.
        stage_depths: blocks in each of `res2`, `res3`, `res4`.
        stage_inner_widths: channels between the two convolutions of a block, by stage.
        stage_widths: channels of each stage's output; the last is the width of the feature map.
        stage_strides: stride of the first block of each stage.
        norm: "batch" is trained; "frozen" keeps stored statistics, for training on few images.
        anchor_sizes: square root of an anchor's area.
        anchor_ratios: height / width of an anchor.
        proposals: proposals per image that the head looks at, after NMS.
        pooled_size: cells per side of the grid that a proposal is pooled to.
        head_depth: blocks of `res5`, the first with stride 2.
        head_inner_width: channels between the two convolutions of a block of `res5`.
        feature_dim: channels after `res5`: the length of a region's feature.
        embedding_dim: length of the embedding of the class that the attribute head reads.
        attribute_dim: width of the attribute head's hidden layer.
        anchor_samples: anchors per image that the proposal losses look at.
        region_samples: proposals per image that the head's losses look at.
        shorter_side: a picture is resized so that its shorter side has this length,
        longer_side: unless its longer side would exceed this one.
        channel_order: order of the channels that the weights expect.
        pixel_mean: subtracted from values in 0-255, in `channel_order`.
        pixel_std: what the difference is divided by.
        num_regions: regions handed over at most.
        score_threshold: regions are handed over from this class probability on.
        nms_threshold: of two regions that overlap by more than this IoU the weaker is dropped.
    """

    object_names: tuple[str, ...]
    attribute_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stem_width: int = 24
    stage_depths: tuple[int, ...] = (1, 1, 2)
    stage_inner_widths: tuple[int, ...] = (32, 64, 128)
    stage_widths: tuple[int, ...] = (32, 64, 128)
    stage_strides: tuple[int, ...] = (2, 2, 1)
    norm: Literal["batch", "frozen"] = "batch"
    anchor_sizes: tuple[float, ...] = (13.0, 20.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 64
    pooled_size: int = 6
    head_depth: int = 2
    head_inner_width: int = 128
    feature_dim: int = 256
    embedding_dim: int = 32
    attribute_dim: int = 128
    anchor_samples: int = 128
    region_samples: int = 32
    shorter_side: int = 160
    longer_side: int = 320
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    num_regions: int = 36
    score_threshold: float = 0.1
    nms_threshold: float = 0.5

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("object_names is empty; a detector needs at least one class.")
        stages = {
            name: len(getattr(self, name))
            for name in ("stage_depths", "stage_inner_widths", "stage_widths", "stage_strides")
        }
        if set(stages.values()) != {3}:
            raise ValueError(f"Got {stages} values; res2, res3 and res4 need three of each.")
        if self.norm not in ("batch", "frozen"):
            raise ValueError(f"norm is {self.norm!r}; expected 'batch' or 'frozen'.")
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel_order is {self.channel_order!r}; expected 'RGB' or 'BGR'.")
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
        product = 2
        for stride in self.stage_strides:
            product *= stride
        return product

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, with the type of model in front."""
        values = {name: getattr(self, name) for name in _field_names()}
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
