"""Region extractor of torchvision detectors: detections are the regions, fc7 is the feature."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torchvision  # type: ignore[import-untyped]
from pydantic import Field
from torch import Tensor, nn

from lxmert.records import Items, Record, Share
from lxmert.regions.checkpoints import read_torchvision
from lxmert.regions.folders import load_state, load_weights, read_config
from lxmert.regions.single_image import SingleImageExtractor
from lxmert.schema import Regions

TORCHVISION_TYPE: Literal["torchvision-detector"] = "torchvision-detector"

_Side = Annotated[int, Field(ge=1, le=10_000)]


class _Defaults(NamedTuple):
    """Settings with which torchvision builds a detector for its published weights."""

    shorter_side: int
    longer_side: int
    norm_epsilon: float


DETECTORS: dict[str, _Defaults] = {
    # These weights were trained without a batch-norm epsilon; torchvision sets it to 0 for them.
    "fasterrcnn_resnet50_fpn": _Defaults(800, 1333, 0.0),
    "fasterrcnn_resnet50_fpn_v2": _Defaults(800, 1333, 1e-5),
    "fasterrcnn_mobilenet_v3_large_fpn": _Defaults(800, 1333, 1e-5),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _Defaults(320, 640, 1e-5),
}
"""Supported torchvision detectors; others do not compute a feature vector per region."""


class TorchvisionConfig(Record):
    """Configuration of a torchvision detector; saved as `config.json` next to the weights.

    Attributes:
        model_type: kind of extractor.
        model: a key of `DETECTORS`.
        object_names: class names without background, by torchvision's label minus 1.
        num_regions: maximum number of regions of an image, by score.
        score_threshold: minimum score of a detection.
        nms_threshold: of two detections of a class with a higher IoU, the weaker is dropped.
        shorter_side: length of the shorter side after resizing, unless the longer side exceeds
            `longer_side`.
        longer_side: maximum length of the longer side after resizing.
        norm_epsilon: epsilon of the batch norms.
    """

    model_type: Literal["torchvision-detector"] = TORCHVISION_TYPE
    model: str
    object_names: Annotated[Items[str], Field(min_length=1)]
    num_regions: Annotated[int, Field(ge=1, le=10_000)]
    score_threshold: Share
    nms_threshold: Share
    shorter_side: _Side
    longer_side: _Side
    norm_epsilon: Share

    def problems(self) -> Iterator[str]:
        """Yield the inconsistencies between fields."""
        if self.model not in DETECTORS:
            yield _unknown(self.model)
        if self.shorter_side > self.longer_side:
            yield f"shorter_side: {self.shorter_side} exceeds longer_side {self.longer_side}"


class TorchvisionExtractor(SingleImageExtractor):
    """A torchvision Faster R-CNN: images in, detections out.

    Args:
        model: the network that `config` describes; it is put into evaluation mode.
        config: the configuration of the network.
        device: where to compute.
    """

    recognizes = True
    config: TorchvisionConfig

    def __init__(self, model: nn.Module, config: TorchvisionConfig, *, device: str = "cpu") -> None:
        super().__init__(model.requires_grad_(requires_grad=False), config, device=device)

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        *,
        weights: str | Path | None = None,
        object_names: Sequence[str] | None = None,
        num_regions: int = 36,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        shorter_side: int | None = None,
        longer_side: int | None = None,
        device: str = "cpu",
    ) -> "TorchvisionExtractor":
        """Build a torchvision detector.

        Args:
            name: a key of `DETECTORS`.
            weights: a weights file; "DEFAULT" downloads the weights that torchvision recommends.
                None: random weights.
            object_names: class names without background. None: COCO's, for torchvision's own
                weights.
            num_regions: maximum number of regions of an image.
            score_threshold: minimum score of a detection.
            nms_threshold: of two detections of a class with a higher IoU, the weaker is dropped.
            shorter_side: of the resized image. None: torchvision's.
            longer_side: limit of the longer side. None: torchvision's.
            device: where to compute.

        Raises:
            ValueError: if the detector is unknown, or the weights do not fit.
        """
        defaults = _defaults(name)
        recommended = torchvision.models.get_model_weights(name).DEFAULT
        config = TorchvisionConfig(
            model=name,
            object_names=tuple(object_names or recommended.meta["categories"][1:]),
            num_regions=num_regions,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            shorter_side=shorter_side or defaults.shorter_side,
            longer_side=longer_side or defaults.longer_side,
            norm_epsilon=defaults.norm_epsilon,
        )
        model = _build(config)
        if weights is not None:
            misfit = (
                f"the weights {weights} do not fit a {name} with {len(config.object_names)} "
                "classes beside the background: pass its classes as object_names=[...]"
            )
            load_state(model, read_torchvision(recommended, weights), misfit)
        return cls(model, config, device=device)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str = "cpu") -> "TorchvisionExtractor":
        """Load a folder written by `save_pretrained`.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the configuration or the weights do not belong to this kind of extractor.
        """
        config = read_config(Path(path), TorchvisionConfig)
        model = _build(config)
        load_weights(Path(path), model)
        return cls(model, config, device=device)

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class, by id; torchvision's labels are larger by 1."""
        return self.config.object_names

    @property
    def feature_dim(self) -> int:
        """Length of a region's feature."""
        width: int = self.network.roi_heads.box_predictor.cls_score.in_features
        return width

    def _extract(self, image: npt.NDArray[np.uint8]) -> Regions:
        """Return the regions of one image; the padding of a batch would change them."""
        model = self.network
        values = torch.tensor(image).permute(2, 0, 1).float() / 255
        resized, _ = model.transform([self._widen(values).to(self.device)])
        maps = model.backbone(resized.tensors)
        proposals, _ = model.rpn(resized, maps)
        (detections,), _ = model.roi_heads(maps, proposals, resized.image_sizes)
        ((height, width),) = resized.image_sizes
        boxes, scores, ids = (detections[key] for key in ("boxes", "scores", "labels"))
        found = len(boxes) > 0
        if not found:
            boxes = boxes.new_tensor([[0, 0, width, height]])
        features = model.roi_heads.box_head(
            model.roi_heads.box_roi_pool(maps, [boxes], resized.image_sizes)
        )
        if not found:
            logits, _ = model.roi_heads.box_predictor(features)
            scores, ids = logits.softmax(-1)[:, 1:].max(-1)
            ids = ids + 1
        sides = np.array([width, height, width, height], dtype=np.float32)
        return _to_regions(boxes.cpu().numpy() / sides, features, scores, ids - 1, image, found)

    def _widen(self, values: Tensor) -> Tensor:
        """Stretch an image `[3, height, width]` that resizing would leave without a pixel."""
        shorter, longer = sorted(values.shape[1:])
        scale = min(self.config.shorter_side / shorter, self.config.longer_side / longer)
        least = math.ceil(1 / scale)
        if shorter >= least:
            return values
        size = [max(side, least) for side in values.shape[1:]]
        return nn.functional.interpolate(values[None], size=size, mode="nearest")[0]


def _defaults(name: str) -> _Defaults:
    """Return the default settings of a torchvision detector."""
    if name not in DETECTORS:
        raise ValueError(_unknown(name))
    return DETECTORS[name]


def _unknown(name: str) -> str:
    return (
        f"the detector is {name!r}; expected a torchvision detector with a feature vector per "
        f"region, one of {', '.join(DETECTORS)}"
    )


def _build(config: TorchvisionConfig) -> nn.Module:
    """Build a detector with random weights."""
    model: nn.Module = torchvision.models.get_model(
        config.model,
        weights=None,
        weights_backbone=None,
        num_classes=len(config.object_names) + 1,
        min_size=config.shorter_side,
        max_size=config.longer_side,
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_threshold,
        box_detections_per_img=config.num_regions,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = config.norm_epsilon
    return model


def _to_regions(
    boxes: npt.NDArray[np.float32],
    features: Tensor,
    scores: Tensor,
    object_ids: Tensor,
    image: npt.NDArray[np.uint8],
    found: bool,
) -> Regions:
    """Convert boxes `[regions, 4]` in `[0, 1]` and scores to regions in pixels of the image."""
    height, width = image.shape[:2]
    count = len(boxes)
    return Regions(
        boxes=boxes * np.array([width, height, width, height], dtype=np.float32),
        features=features.float().cpu().numpy(),
        image_size=(height, width),
        object_ids=object_ids.cpu().numpy().astype(np.int64),
        object_scores=scores.float().cpu().numpy(),
        attribute_ids=np.zeros((count, 0), dtype=np.int64),
        attribute_scores=np.zeros((count, 0), dtype=np.float32),
        found=found,
    )
