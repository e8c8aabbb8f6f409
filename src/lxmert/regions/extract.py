"""The region extractor of a trained detector: preprocessing, detection and description."""

import ctypes
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from lxmert.boxes import are_valid
from lxmert.devices import check_device, computes_bf16
from lxmert.regions.batching import check_list
from lxmert.regions.configuration import CONFIG_NAME, DetectorConfig
from lxmert.regions.configured import ConfiguredExtractor
from lxmert.regions.detector import Detections, Detector
from lxmert.regions.folders import WEIGHTS_NAME, fingerprint_of, load_folder, save_folder
from lxmert.regions.heads import Description
from lxmert.regions.inference import (
    Precision,
    changes_weights,
    computing,
    make_fast,
    optimize,
)
from lxmert.regions.padding import pad_batch
from lxmert.regions.preprocess import (
    ImageInput,
    Prepared,
    load_image,
    plan_batches,
    prepare,
)
from lxmert.regions.published import PUBLISHED_NAMES, load_published_detector
from lxmert.regions.selection import whole_image
from lxmert.regions.threads import map_parts
from lxmert.schema import Regions

_logger = logging.getLogger(__name__)


class DetectorExtractor(ConfiguredExtractor):
    """Detects and describes the regions of images.

    Args:
        detector: the trained detector. It is put into evaluation mode and its weights are copied;
            create another extractor after further training.
        device: where to compute, such as "cpu" or "cuda".
        precision: "fp32"; "bf16" for faster convolutions, with features that differ by less than
            1%; "exact" for bit-identical results in any batch. Boxes and probabilities are always
            float32.
        folder: folder that the detector was read from, which saves memory: the weights are then
            changed in place, and `detector` reads them again. None: they are copied.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
        folder: Path | None = None,
    ) -> None:
        detector.eval().to(device=check_device(device))
        self.config, self._folder = detector.config, folder
        self._fingerprint: str | None = None
        self._detector: Detector | None = detector
        if folder is None or not changes_weights(detector, precision):
            exact = precision == "exact"
            detector.to(memory_format=torch.contiguous_format if exact else torch.channels_last)
            self._optimized: Detector | None = make_fast(detector, precision)
        else:
            self._fingerprint, self._detector = self.fingerprint, None
            self._optimized = optimize(detector, precision)
        self.device = torch.device(device)
        self.precision = precision
        if precision == "bf16" and not computes_bf16(self.device.type):
            _logger.warning("this processor has no instructions for bf16: fp32 is faster")

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> "DetectorExtractor":
        """Load a saved detector or the published detector.

        Args:
            path: a folder written by `save_pretrained` or a detection run; or a file or folder of
                the published detector, which is used with the preset "caffe" and the names found by
                `load_published_detector`.
            device: as for the class.
            precision: as for the class.

        Raises:
            FileNotFoundError: if `config.json` or `model.safetensors` is missing.
            ValueError: if the weights are damaged or do not fit the configuration.
        """
        folder = find_folder(Path(path))
        if folder is None:
            return cls(load_published_detector(path), device=device, precision=precision)
        detector = load_folder(folder, DetectorConfig, Detector)
        return cls(detector, device=device, precision=precision, folder=folder)

    @property
    def detector(self) -> Detector:
        """The detector; one from a folder is read again, as inference needs a copy only."""
        if self._detector is None:
            self._detector = self._load().to(memory_format=torch.channels_last)
        return self._detector

    def release(self) -> None:
        """Free the memory of a detector that was read from a folder, until its next use."""
        if self._folder is not None and self._detector is None:
            self._optimized = None
            _return_memory()

    @property
    def _fast(self) -> Detector:
        """The detector that finds regions."""
        if self._optimized is None:
            self._optimized = optimize(self._load(), self.precision)
        return self._optimized

    def _load(self) -> Detector:
        """Read the detector from its folder."""
        assert self._folder is not None
        return load_folder(self._folder, DetectorConfig, Detector).eval().to(self.device)

    def to(self, device: str | torch.device) -> Self:
        """Move the extractor to a device, and return it."""
        if self._detector is not None:
            self._detector.to(device)
        if self._optimized is not None:
            self._optimized.to(device)
        self.device = torch.device(device)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, then `config.json`, each atomically."""
        save_detector(self.detector, Path(folder))

    @property
    def fingerprint(self) -> str:
        """Hash of configuration and weights; extractors with equal hashes return equal regions."""
        return self._fingerprint or fingerprint_of(self.detector.config.to_dict(), self.detector)

    def __call__(
        self,
        images: Sequence[ImageInput],
        *,
        boxes: Sequence[npt.ArrayLike] | None = None,
        num_regions: int | tuple[int, int] | None = None,
    ) -> list[Regions]:
        """Return the regions of each image.

        Args:
            images: images of any kind that `load_image` reads, of any sizes.
            boxes: `[boxes, 4]` for each image, `(x1, y1, x2, y2)` in its pixels: describe these
                boxes, in this order, instead of detecting regions. None: detect regions.
            num_regions: number of regions, or (minimum, maximum); there are fewer if the detector
                proposes fewer. None: as configured.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if an image cannot be read, boxes are missing, empty or outside of the
                image, or `num_regions` is out of range.
        """
        limits = None if num_regions is None else self.config.check_limits(num_regions)
        check_list(images)
        if boxes is not None and len(boxes) != len(images):
            raise ValueError(
                f"got {len(images)} images and boxes for {len(boxes)}; expected one array of "
                "boxes for each image"
            )
        prepared = [prepare(load_image(image), self.config) for image in images]
        given = (
            None
            if boxes is None
            else [
                _check_boxes(part, prepared_image.image_size)
                for part, prepared_image in zip(boxes, prepared, strict=True)
            ]
        )
        regions: dict[int, Regions] = {}
        for indices in plan_batches(prepared):
            group = [prepared[index] for index in indices]
            found = (
                self._find_all(group, limits)
                if given is None
                else self._describe(group, [given[index] for index in indices])
            )
            regions.update(zip(indices, found, strict=True))
        return [regions[index] for index in range(len(prepared))]

    def _find_all(
        self, images: Sequence[Prepared], limits: tuple[int, int] | None
    ) -> list[Regions]:
        """Detect the regions of images that fit into one batch, on CPUs by several threads."""
        find = partial(self._find, limits=limits)
        # "exact" changes settings of PyTorch that all threads share.
        if self.device.type == "cpu" and self.precision != "exact":
            return map_parts(find, images)
        return find(images)

    @torch.inference_mode()
    def _find(self, images: Sequence[Prepared], limits: tuple[int, int] | None) -> list[Regions]:
        """Detect the regions of images that fit into one batch."""
        pixel_values, image_sizes = pad_batch(images)
        scales = torch.tensor([image.scale for image in images])
        with computing(self.precision):
            detections = self._fast.detect(
                pixel_values.to(self.device),
                image_sizes.to(self.device),
                scales=scales.to(self.device),
                num_regions=limits,
            )
        return [
            _to_regions(_unscale(found, image), found.description, image, found.found)
            for found, image in zip(detections, images, strict=True)
        ]

    @torch.inference_mode()
    def _describe(
        self, images: Sequence[Prepared], boxes: Sequence[npt.NDArray[np.float32]]
    ) -> list[Regions]:
        """Describe given boxes of images that fit into one batch."""
        pixel_values, image_sizes = pad_batch(images)
        scaled = [
            torch.from_numpy(part * image.box_scale).to(self.device)
            for part, image in zip(boxes, images, strict=True)
        ]
        with computing(self.precision):
            descriptions = self._fast.describe(
                pixel_values.to(self.device), scaled, image_sizes.to(self.device)
            )
        return [
            _to_regions(part, description, image, True)
            for part, description, image in zip(boxes, descriptions, images, strict=True)
        ]


def save_detector(detector: Detector, folder: Path) -> None:
    """Write `model.safetensors`, then `config.json`, each atomically."""
    save_folder(folder, detector.config.to_dict(), detector)


def find_folder(path: Path) -> Path | None:
    """Return the folder of a saved extractor; None for the published detector's files."""
    if path.name in (WEIGHTS_NAME, CONFIG_NAME):
        return path.parent
    published = not (path / CONFIG_NAME).is_file() and any(
        (path / name).is_file() for name in PUBLISHED_NAMES
    )
    return None if path.is_file() or published else path


def _return_memory() -> None:
    """Give freed memory back to the system; glibc keeps it."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _check_boxes(boxes: npt.ArrayLike, image_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the boxes as `[boxes, 4]` float32; raise `ValueError` for invalid boxes."""
    array = np.asarray(boxes, dtype=np.float32)
    height, width = image_size
    shaped = array.ndim == 2 and array.shape[1] == 4 and len(array) > 0
    if not shaped or not are_valid(array, image_size, allow_empty=False).all():
        raise ValueError(
            f"got boxes {np.array2string(array, threshold=8)}; expected [boxes, 4] with "
            f"0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}: pass corners in pixels of "
            "the upright image, and omit images without boxes"
        )
    return array


def _unscale(detections: Detections, image: Prepared) -> npt.NDArray[np.float32]:
    """Map boxes from the resized image to the original image."""
    full = np.array([whole_image(image.image_size)], dtype=np.float32)
    if not detections.found:
        return full
    boxes = detections.boxes.float().cpu().numpy() / image.box_scale
    return np.minimum(boxes, np.tile(full[:, 2:], 2))


def _to_regions(
    boxes: npt.NDArray[np.float32], description: Description, image: Prepared, found: bool
) -> Regions:
    described = {name: values.cpu().numpy() for name, values in vars(description).items()}
    columns = {"boxes": boxes, **described}
    return Regions.of_columns(columns, image_size=image.image_size, found=found)
