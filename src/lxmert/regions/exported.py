"""Exported region extractors, detectors and grids: graphs for the network, NumPy around them.

Each image is computed alone, so that it needs no padding; heads run on a limited number of boxes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Self

import numpy as np

from lxmert.images import Pixels
from lxmert.records import Items, Number, Record
from lxmert.regions.batching import check_list, stream_regions
from lxmert.regions.cells import CELL_NAMES, CellLayout
from lxmert.regions.choosing import (
    REGION_WEIGHTS,
    decode,
    extend,
    place_anchors,
    propose,
)
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.configured import ConfiguredExtractor
from lxmert.regions.preprocess import ImageInput, Prepared, load_image, prepare
from lxmert.regions.selection import Candidates, select_regions
from lxmert.runtimes import Array, Graph
from lxmert.schema import FloatArray, IntArray, Regions

SMALLEST_INPUT = 3
"""Pixels per side that the first layers need."""

_CHUNK_BYTES = 68_000_000
"""Memory limit for the pooled regions of one call and the maps after them."""


class ExportedDetectorConfig(Record):
    """What an exported detector needs in addition to its graphs; saved as `extractor.json`.

    Attributes:
        detector: configuration of the detector.
        cell_anchors: `(x1, y1, x2, y2)` of each anchor of a cell.
        anchor_offset: position of the anchors' origin in the cell, as a share of its side.
    """

    detector: DetectorConfig
    cell_anchors: Items[Items[Number]]
    anchor_offset: Number


class _Exported:
    """What all exported extractors refuse.

    Attributes:
        fingerprint: that of the extractor it was exported from.
        precision: numeric precision of the graphs.
    """

    fingerprint: str
    precision: str

    def to(self, device: object) -> Self:
        """Return the extractor itself; raise `ValueError` for another device than the CPU."""
        if str(device) != "cpu":
            raise ValueError(
                f"device is {str(device)!r}, but an exported extractor computes on the CPU: omit it"
            )
        return self

    def save_pretrained(self, folder: object) -> None:
        """Raise `ValueError`: the exported folder is copied as a whole instead."""
        raise ValueError(
            f"an exported extractor cannot be saved in {folder}: copy the folder of the exported "
            "model, or use the extractor of the model that it was exported from"
        )


class ExportedGrid(_Exported):
    """Describes the cells of images without PyTorch.

    Attributes:
        layout: how images are divided into cells.
    """

    recognizes = False
    object_names: tuple[str, ...] = CELL_NAMES
    attribute_names: tuple[str, ...] = ()
    attribute_groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(
        self, layout: CellLayout, network: Graph, *, fingerprint: str, precision: str
    ) -> None:
        """Combine the graph with its configuration.

        Args:
            layout: how images are divided into cells.
            network: `pixels` `[1, height, width, 3]` uint8 to features `[1, cells, feature_dim]`.
            fingerprint: that of the grid extractor.
            precision: numeric precision of the graph.
        """
        self.layout = layout
        self.fingerprint = fingerprint
        self.precision = precision
        self._network = network

    @property
    def feature_dim(self) -> int:
        """Length of a cell's feature."""
        return self.layout.feature_dim

    def __call__(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the cells of each image row by row; errors as for `GridExtractor`."""
        check_list(images)
        return [self._describe(load_image(image)) for image in images]

    def stream(
        self, images: Iterable[tuple[str, ImageInput]], *, batch_size: int = 16
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the image id and regions of each (id, image) pair in order."""
        return stream_regions(self, images, batch_size)

    def _describe(self, pixels: Pixels) -> Regions:
        (features,) = self._network({"pixels": self.layout.stretch(pixels)[None]})
        return self.layout.regions(features[0], pixels.shape[:2])


class ExportedDetector(_Exported, ConfiguredExtractor):
    """Detects and describes the regions of images without PyTorch."""

    def __init__(
        self,
        config: ExportedDetectorConfig,
        trunk: Graph,
        heads: Graph,
        *,
        fingerprint: str,
        precision: str,
    ) -> None:
        """Combine the graphs with their configuration.

        Args:
            config: the configuration.
            trunk: `pixel_values` `[1, 3, height, width]` to the feature map, the logits
                `[1, anchors]` and the deltas `[1, anchors, 4]` of the proposals.
            heads: `feature_map` and `boxes` `[regions, 4]` in its cells to features, probabilities,
                deltas `[regions, classes or 1, 4]`, attribute ids and attribute scores.
            fingerprint: that of the detector.
            precision: numeric precision of the graphs.
        """
        self.config = config.detector
        self.fingerprint = fingerprint
        self.precision = precision
        self._trunk, self._heads = trunk, heads
        self._cell_anchors = np.asarray(config.cell_anchors, np.float32)
        self._anchor_offset = config.anchor_offset

    def __call__(
        self, images: Sequence[ImageInput], *, num_regions: int | tuple[int, int] | None = None
    ) -> list[Regions]:
        """Return the regions of each image; arguments and errors as for `DetectorExtractor`."""
        check_list(images)
        config = self.config
        if num_regions is not None:
            low, high = config.check_limits(num_regions)
            config = config.replace(min_regions=low, num_regions=high)
        return [self._find(prepare(load_image(image), config), config) for image in images]

    def features(self, image: ImageInput, boxes: FloatArray) -> FloatArray:
        """Return the features `[boxes, dim]` of boxes `[boxes, 4]` in pixels of an image."""
        prepared = prepare(load_image(image), self.config)
        feature_map, _, _ = self._trunk({"pixel_values": _with_margin(prepared)})
        features: FloatArray = self.describe(feature_map, boxes * prepared.box_scale)[0]
        return features

    def describe(self, feature_map: FloatArray, boxes: FloatArray) -> list[Array]:
        """Run the heads on boxes `[regions, 4]` of the resized image, at least one, in chunks."""
        config = self.config
        cells = boxes / np.float32(config.stride)
        if config.pooling == "pool":
            # RoIPool rounds corners. A runtime that computes in bfloat16 rounds its input before,
            # which keeps whole numbers up to 256.
            cells = np.floor(cells + np.float32(0.5))
        chunk = max(1, int(_CHUNK_BYTES / config.region_bytes))
        parts = [
            self._heads({"feature_map": feature_map, "boxes": cells[start : start + chunk]})
            for start in range(0, len(cells), chunk)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _find(self, image: Prepared, config: DetectorConfig) -> Regions:
        """Detect the regions of one image."""
        feature_map, logits, deltas = self._trunk({"pixel_values": _with_margin(image)})
        rows, columns = feature_map.shape[2:]
        anchors = place_anchors(
            self._cell_anchors, rows, columns, stride=config.stride, offset=self._anchor_offset
        )
        proposals = propose(logits[0], deltas[0], anchors, config, image.scaled_size, image.scale)
        height, width = image.scaled_size
        boxes = np.array([[0, 0, width, height]], np.float32)
        found, object_ids = False, np.zeros(0, np.int64)
        outputs: list[Array] = []
        if len(proposals):
            outputs = self.describe(feature_map, proposals)
            kept, classes, chosen = _select(outputs, proposals, config, image)
            if len(kept):
                found, boxes, object_ids = True, chosen, classes
                outputs = [values[kept] for values in outputs]
        if config.features_from == "box" or not found:
            outputs = self.describe(feature_map, boxes)
            object_ids = outputs[1][:, :-1].argmax(axis=1)
        return _to_regions(outputs, boxes, object_ids, image, found=found)


def _select(
    outputs: list[Array],
    proposals: FloatArray,
    config: DetectorConfig,
    image: Prepared,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the kept proposals, their classes, and their boxes in the resized image."""
    probabilities, deltas = outputs[1], outputs[2]

    def refine(regions: IntArray, classes: IntArray) -> FloatArray:
        chosen = deltas[regions, classes if config.class_specific_boxes else 0]
        references = extend(proposals[regions], config.side_offset)
        return decode(chosen, references, REGION_WEIGHTS, config, image.scaled_size)

    candidates = Candidates(probabilities[:, :-1], proposals, refine)
    choice = select_regions(candidates, config, offset=config.side_offset * image.scale)
    boxes = candidates.boxes(config.output_boxes, choice.candidates, choice.classes)
    return choice.candidates, choice.classes, boxes


def _with_margin(image: Prepared) -> FloatArray:
    """Return the pixels `[1, 3, height, width]`, padded to the smallest input."""
    missing = [max(0, SMALLEST_INPUT - side) for side in image.scaled_size]
    margins = ((0, 0), (0, missing[0]), (0, missing[1]))
    return np.pad(image.pixel_values, margins)[None] if any(missing) else image.pixel_values[None]


def _to_regions(
    outputs: list[Array],
    boxes: FloatArray,
    object_ids: IntArray,
    image: Prepared,
    *,
    found: bool,
) -> Regions:
    """Map boxes to the original image, and name what the heads returned."""
    features, probabilities, _, attribute_ids, attribute_scores = outputs
    height, width = image.image_size
    limits = np.array([width, height, width, height], np.float32)
    whole = np.array([[0, 0, width, height]], np.float32)
    scaled = np.minimum(boxes / image.box_scale, limits) if found else whole
    columns = {
        "boxes": scaled,
        "features": features,
        "object_ids": object_ids,
        "object_scores": probabilities[np.arange(len(boxes)), object_ids],
        "attribute_ids": attribute_ids,
        "attribute_scores": attribute_scores,
    }
    return Regions.of_columns(columns, image_size=image.image_size, found=found)
