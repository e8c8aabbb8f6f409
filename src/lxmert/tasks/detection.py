"""Object detection with attributes: training and evaluation of the region detector."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lxmert import boxes as box_arithmetic
from lxmert.data.coco import DetectionRecord, DetectionSplit, Names, read_coco
from lxmert.images import Pixels
from lxmert.records import Items, Probability, Record
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import LOSSES, Detections, Detector
from lxmert.regions.extract import save_detector
from lxmert.regions.padding import pad_batch
from lxmert.regions.preprocess import (
    Prepared,
    load_image,
    plan_batches,
    prepare,
)
from lxmert.schema import FloatArray
from lxmert.tasks.average_precision import Found, PrecisionMeter, Truth
from lxmert.tasks.inputs import FilePath
from lxmert.tasks.task import Batch

ENOUGH_VISIBLE = 0.4
"""Minimum visible share of an object in evaluation; training uses all objects."""

FOUND_IOU = 0.5
_MAX_COLOR = 0.6
"""Maximum share of color in a desaturated image; above it, colors could still be recognized."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Luma weights of red, green and blue. Source: ITU-R BT.601."""
EVALUATION_BATCH = 16


class DetectionData(Record):
    """The `[data]` table.

    Attributes:
        train: COCO-format JSON file of the training images.
        valid: the same for the validation images; categories and attributes are matched by name.
        images: folder to which the file names in both are relative; absent: the folder `images`
            next to each file.
        desaturate: share of the training images that are desaturated by a random amount, so that
            classes are recognized by shape, also in colors that are not in the training data.
        color_group: attribute group without targets in desaturated images.
    """

    train: FilePath
    valid: FilePath
    images: FilePath | None = None
    desaturate: Probability = 0.0
    color_group: str | None = None

    def read(self, path: Path, known: Names | None = None) -> DetectionSplit:
        """Read one of the two files; `known` as for `read_coco`."""
        folder = self.images or path.parent / "images"
        return read_coco(path, image_folder=folder, known=known)


_DEFAULTS = DetectorConfig(object_names=("object",))


class DetectorSettings(Record):
    """The `[model]` table; `DetectorConfig` documents the fields."""

    stage_depths: Items[int] = _DEFAULTS.stage_depths
    stage_inner_widths: Items[int] = _DEFAULTS.stage_inner_widths
    stage_widths: Items[int] = _DEFAULTS.stage_widths
    anchor_sizes: Items[float] = _DEFAULTS.anchor_sizes
    feature_dim: int = _DEFAULTS.feature_dim
    shorter_side: int = _DEFAULTS.shorter_side
    longer_side: int = _DEFAULTS.longer_side
    num_regions: int = _DEFAULTS.num_regions
    score_threshold: float = _DEFAULTS.score_threshold
    nms_threshold: float = _DEFAULTS.nms_threshold


class DetectionSettings(Record):
    """The tables of a detection recipe."""

    data: DetectionData
    model: DetectorSettings = DetectorSettings()


@dataclass(frozen=True)
class DetectionExample:
    """A training image, ready for collation.

    Attributes:
        image: the resized image, possibly mirrored or desaturated.
        boxes: `[objects, 4]` float32 in pixels of the resized image.
        object_ids: `[objects]`.
        attribute_ids: `[objects, groups]`, -1 unknown.
    """

    image: Prepared
    boxes: Tensor
    object_ids: Tensor
    attribute_ids: Tensor


class DetectionTask:
    """Faster R-CNN on images with boxes, classes and attributes.

    Args:
        settings: the tables of the recipe.
        seed: seed of mirroring and desaturation; initial weights and the sampling of anchors and
            regions use torch's global generator.
    """

    settings_type: ClassVar[type[Record]] = DetectionSettings
    best_metric = "mean_score"

    model: nn.Module
    loss_weights: Mapping[str, float]

    def __init__(self, settings: DetectionSettings, *, seed: int) -> None:
        data = settings.data
        self.seed = seed
        self.train = data.read(data.train)
        names = Names(self.train.object_names, self.train.attribute_groups)
        self.valid = data.read(data.valid, names)
        groups = list(self.train.attribute_groups)
        if data.color_group is not None and data.color_group not in groups:
            raise ValueError(
                f"data.color_group is {data.color_group!r}; expected one of the attribute groups "
                f"of {data.train}: {', '.join(groups) or 'there are none'}"
            )
        self.desaturate = data.desaturate
        self.color_group = None if data.color_group is None else groups.index(data.color_group)
        self.config = DetectorConfig(
            object_names=self.train.object_names,
            attribute_groups=self.train.attribute_groups,
            **dict(settings.model),
        )
        self.detector = Detector(self.config)
        self.detector.to(memory_format=torch.channels_last)
        self.model = self.detector
        losses = LOSSES if self.config.attribute_groups else LOSSES[:-1]
        self.loss_weights = dict.fromkeys(losses, 1.0)

    def __len__(self) -> int:
        return len(self.train.records)

    def example(self, index: int, epoch: int) -> DetectionExample:
        """Read training image `index`, randomly mirrored and desaturated."""
        record = self.train.records[index]
        pixels = _load(record)
        boxes, attribute_ids = record.boxes, record.attribute_ids
        generator = np.random.default_rng((self.seed, epoch, index))
        if generator.random() < 0.5:
            pixels, boxes = mirror(pixels, boxes)
        if generator.random() < self.desaturate:
            pixels = desaturate(pixels, generator.random() * _MAX_COLOR)
            if self.color_group is not None:
                attribute_ids = attribute_ids.copy()
                attribute_ids[:, self.color_group] = -1
        image = prepare(pixels, self.config)
        return DetectionExample(
            image=image,
            boxes=torch.from_numpy(boxes * image.box_scale),
            object_ids=torch.from_numpy(record.object_ids),
            attribute_ids=torch.from_numpy(attribute_ids),
        )

    def collate(self, examples: Sequence[DetectionExample]) -> Batch:
        """Batch examples; the keys are the arguments of `Detector.forward`."""
        pixel_values, image_sizes = pad_batch([example.image for example in examples])
        # At least one object slot, so that no tensor of a batch without objects is empty.
        slots = max(1, *(len(example.boxes) for example in examples))
        groups = len(self.config.attribute_groups)
        boxes = torch.zeros(len(examples), slots, 4)
        boxes[..., 2:] = 1.0  # padding boxes have an area, to avoid NaN
        object_ids = torch.full((len(examples), slots), -1)
        attribute_ids = torch.full((len(examples), slots, groups), -1)
        for row, example in enumerate(examples):
            count = len(example.boxes)
            boxes[row, :count] = example.boxes
            object_ids[row, :count] = example.object_ids
            attribute_ids[row, :count] = example.attribute_ids
        targets = {"boxes": boxes, "object_ids": object_ids, "attribute_ids": attribute_ids}
        return {"pixel_values": pixel_values, "image_sizes": image_sizes, "targets": targets}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Return the number of images for each objective: each loss is a mean per image."""
        return dict.fromkeys(self.loss_weights, float(len(batch["pixel_values"])))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return each loss summed over images."""
        losses: dict[str, Tensor] = model(**batch)
        return losses

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Score the detector on the validation images; see `score_detector`."""
        training = self.detector.training
        try:
            return score_detector(self.detector, self.valid.records[:limit], device=device)
        finally:
            self.detector.train(training)

    def save(self, folder: Path) -> None:
        """Write a folder for `DetectorExtractor.from_pretrained`."""
        save_detector(self.detector, folder)


def score_detector(
    detector: Detector,
    records: Sequence[DetectionRecord],
    *,
    device: str,
    by_class: bool = False,
) -> dict[str, float]:
    """Compare the detections of a detector with the annotated objects of images.

    Args:
        detector: the detector; set to evaluation mode.
        records: the annotated images.
        device: where to compute.
        by_class: whether to return the average precision of each class.

    Returns:
        map_50: average precision at IoU 0.5 by COCO's rules, averaged over the classes that have
            objects; all regions count, without score threshold, with their class and score.
        map_50_95: the same averaged over IoU 0.5, 0.55 .. 0.95.
        ap_50 (class): the average precision of one class at IoU 0.5, with `by_class`.
        recall: recall of objects by the returned regions at IoU 0.5.
        recall_all: the same without score threshold.
        object: accuracy of the class of the region with the largest overlap with each object.
        attribute_(group): the same for the attribute of each group, if annotated.
        num_regions: regions returned per image.
        mean_score: mean of recall, object and all attributes.
    """
    detector.eval().to(device)
    metrics = DetectionMetrics(detector.config)
    for start in range(0, len(records), EVALUATION_BATCH):
        part = records[start : start + EVALUATION_BATCH]
        for record, found in zip(part, _detect(detector, part, device), strict=True):
            metrics.add(record, found)
    return metrics.result(by_class=by_class)


@torch.inference_mode()
def _detect(
    detector: Detector, records: Sequence[DetectionRecord], device: str
) -> list[tuple[Detections, FloatArray]]:
    """Detect regions without score threshold; return them with boxes in original pixels."""
    images = [prepare(_load(record), detector.config) for record in records]
    found: dict[int, tuple[Detections, FloatArray]] = {}
    for indices in plan_batches(images):
        pixel_values, image_sizes = pad_batch([images[index] for index in indices])
        scales = torch.tensor([images[index].scale for index in indices])
        detections = detector.detect(
            pixel_values.to(device),
            image_sizes.to(device),
            scales=scales.to(device),
            score_threshold=0.0,
        )
        for index, detected in zip(indices, detections, strict=True):
            boxes = detected.boxes / torch.from_numpy(images[index].box_scale).to(device)
            found[index] = (detected, boxes.cpu().numpy())
    return [found[index] for index in range(len(records))]


class DetectionMetrics:
    """Accumulates counts over the objects of all scored images."""

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.right: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.images = 0
        self.regions = 0
        self.precision = PrecisionMeter(len(config.object_names))

    def add(self, record: DetectionRecord, found: tuple[Detections, FloatArray]) -> None:
        """Compare the regions of one image, with boxes in its pixels, with its objects."""
        detections, boxes = found
        output = detections.ranking.cpu().numpy() >= self.config.score_threshold
        self.images += 1
        self.regions += max(
            1, int(output.sum())
        )  # an image without regions returns one region of the full image
        asked = record.visible >= ENOUGH_VISIBLE
        self._add_precision(record, ~asked, found)
        iou = box_arithmetic.iou(record.boxes[asked], boxes)
        self._count("recall_all", (iou > FOUND_IOU).any(axis=1))
        iou = iou * output
        self._count("recall", (iou > FOUND_IOU).any(axis=1))
        nearest, overlaps = iou.argmax(axis=1), iou.max(axis=1) > 0
        description = detections.description
        objects = description.object_ids.cpu().numpy()[nearest]
        self._count("object", overlaps & (objects == record.object_ids[asked]))
        for group, name in enumerate(self.config.attribute_groups):
            wanted = record.attribute_ids[asked, group]
            named = description.attribute_ids[:, group].cpu().numpy()[nearest]
            self._count(f"attribute_{name}", (overlaps & (named == wanted))[wanted >= 0])

    def _add_precision(
        self,
        record: DetectionRecord,
        optional: npt.NDArray[np.bool_],
        found: tuple[Detections, FloatArray],
    ) -> None:
        """Add the regions of one image to the average precision; none if nothing was found."""
        detections, boxes = found
        regions = slice(None) if detections.found else slice(0)
        ids = detections.description.object_ids.cpu().numpy()[regions]
        scores = detections.description.object_scores.cpu().numpy()[regions]
        self.precision.add(
            Truth(record.boxes, record.object_ids, optional), Found(boxes[regions], ids, scores)
        )

    def result(self, *, by_class: bool) -> dict[str, float]:
        """Return the rates by name."""
        rates = {name: self.right[name] / max(1, asked) for name, asked in self.asked.items()}
        scores = [rate for name, rate in rates.items() if name != "recall_all"]
        rates |= {
            "num_regions": self.regions / max(1, self.images),
            "mean_score": sum(scores) / max(1, len(scores)),
        }
        return rates | self._precisions(by_class=by_class)

    def _precisions(self, *, by_class: bool) -> dict[str, float]:
        """Return the average precisions by name."""
        precisions = self.precision.result()
        known = ~np.isnan(precisions[0])
        means = precisions[:, known].mean(axis=1) if known.any() else np.zeros(len(precisions))
        names = self.config.object_names if by_class else ()
        by_name = {
            f"ap_50 {name}": float(value)
            for name, value in zip(names, precisions[0], strict=False)
            if not np.isnan(value)
        }
        return {"map_50": float(means[0]), "map_50_95": float(means.mean()), **by_name}

    def _count(self, name: str, right: npt.ArrayLike) -> None:
        self.right[name] += int(np.sum(right))
        self.asked[name] += np.size(right)


def mirror(pixels: Pixels, boxes: FloatArray) -> tuple[Pixels, FloatArray]:
    """Mirror an image `[height, width, 3]` and its boxes `[objects, 4]` horizontally."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(pixels[:, ::-1]), mirrored


def desaturate(pixels: Pixels, color: float) -> Pixels:
    """Keep a share `color` of the saturation of an image `[height, width, 3]`."""
    gray = pixels @ _LUMA
    desaturated = gray[..., None] + color * (pixels - gray[..., None])
    return np.asarray(desaturated.round().clip(0, 255), dtype=np.uint8)


def _load(record: DetectionRecord) -> Pixels:
    """Read an image and check its size against the annotations."""
    pixels = load_image(record.image_path)
    if pixels.shape[:2] != record.image_size:
        raise ValueError(
            f"{record.image_path} has {pixels.shape[:2]} pixels (height, width) after EXIF "
            f"rotation; expected {record.image_size} as annotated: correct `height` and `width` "
            "in the annotations, or replace the image"
        )
    return pixels
