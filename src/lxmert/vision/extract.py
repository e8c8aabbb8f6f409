"""Pictures in, regions out: the trained detector with its preprocessing, as one object."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lxmert.schema import Regions
from lxmert.vision.configuration import CONFIG_NAME, DetectorConfig
from lxmert.vision.detector import Description, Detections, Detector
from lxmert.vision.preprocess import (
    ImageInput,
    Prepared,
    group_by_size,
    load_image,
    pad_batch,
    prepare,
)
from lxmert.vision.selection import whole_image

WEIGHTS_NAME = "model.safetensors"


class RegionExtractor:
    """Finds and describes the regions of pictures.

    Args:
        detector: the trained detector; it is put into evaluation mode.
        device: where to compute, such as "cpu" or "cuda".
        precision: "fp32", or "bf16" for convolutions in half the time with features that differ
            by about 1 %. Boxes and probabilities are float32 either way.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.detector = detector.eval().to(device=device)
        self.detector.to(memory_format=torch.channels_last)
        self.device = torch.device(device)
        self.precision = precision

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> "RegionExtractor":
        """Load a folder that `save_pretrained` or a detection run wrote.

        Raises:
            FileNotFoundError: if `config.json` or `model.safetensors` is missing.
            ValueError: if the weights do not fit the configuration.
        """
        folder = Path(folder)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"Got the folder {str(folder)!r}, which has no {name}; expected a detector: "
                    "train one with `lxmert train` and a detection recipe, or check the path."
                )
        detector = Detector(DetectorConfig.from_json(folder / CONFIG_NAME))
        try:
            detector.load_state_dict(load_file(folder / WEIGHTS_NAME))
        except SafetensorError as error:
            raise ValueError(
                f"{str(folder / WEIGHTS_NAME)!r} is damaged ({error}); expected safetensors: copy "
                "it again from where the detector was trained."
            ) from error
        except RuntimeError as error:
            raise ValueError(
                f"The weights in {str(folder / WEIGHTS_NAME)!r} do not fit the {CONFIG_NAME} "
                f"beside them; expected both from one `save_pretrained`: {error}"
            ) from error
        return cls(detector, device=device, precision=precision)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, then `config.json`, each under its name only when whole."""
        save_detector(self.detector, Path(folder))

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class, by id."""
        return self.detector.config.object_names

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Name of each attribute, by id."""
        return self.detector.config.attribute_names

    @property
    def fingerprint(self) -> str:
        """Hash of configuration and weights: equal for extractors that see the same."""
        digest = hashlib.sha256(json.dumps(self.detector.config.to_dict()).encode())
        for name, values in sorted(_weights(self.detector).items()):
            digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
            digest.update(values.numpy().tobytes())
        return digest.hexdigest()[:16]

    def __call__(
        self,
        images: Sequence[ImageInput],
        *,
        boxes: Sequence[npt.ArrayLike] | None = None,
    ) -> list[Regions]:
        """Return the regions of each picture.

        Args:
            images: pictures of any kind that `load_image` reads, of any sizes.
            boxes: `[boxes, 4]` for each picture, `(x1, y1, x2, y2)` in its pixels: describe
                these, in this order, instead of looking for regions. Absent: look for them.

        Raises:
            FileNotFoundError: if a path names no file.
            ValueError: if a picture cannot be read, or boxes are missing, empty or outside.
        """
        if isinstance(images, str | bytes | Path):
            raise ValueError(
                f"Got one {type(images).__name__}; expected a list of pictures: write "
                "extractor([picture])[0]."
            )
        if boxes is not None and len(boxes) != len(images):
            raise ValueError(
                f"Got {len(images)} pictures and boxes for {len(boxes)}; expected one array of "
                "boxes for each picture."
            )
        pictures = [prepare(load_image(image), self.detector.config) for image in images]
        given = (
            None
            if boxes is None
            else [
                _check_boxes(part, picture.image_size)
                for part, picture in zip(boxes, pictures, strict=True)
            ]
        )
        regions: dict[int, Regions] = {}
        for indices in group_by_size(pictures):
            group = [pictures[index] for index in indices]
            found = (
                self._find(group)
                if given is None
                else self._describe(group, [given[index] for index in indices])
            )
            regions.update(zip(indices, found, strict=True))
        return [regions[index] for index in range(len(pictures))]

    def stream(
        self, images: Iterable[tuple[str, ImageInput]], *, batch_size: int = 16
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the regions of one picture after the other, in order.

        Args:
            images: pairs of image id and picture; read lazily.
            batch_size: pictures that are computed together; changes nothing but the speed.
        """
        pairs = iter(images)
        while batch := list(islice(pairs, batch_size)):
            found = self([image for _, image in batch])
            for (image_id, _), regions in zip(batch, found, strict=True):
                yield image_id, regions

    @torch.inference_mode()
    def _find(self, pictures: Sequence[Prepared]) -> list[Regions]:
        """Look for the regions of pictures of one size."""
        pixel_values, image_sizes = pad_batch(pictures)
        with self._autocast():
            detections = self.detector.detect(
                pixel_values.to(self.device), image_sizes.to(self.device)
            )
        return [
            _to_regions(_unscale(found, picture), found.description, picture, found.found)
            for found, picture in zip(detections, pictures, strict=True)
        ]

    @torch.inference_mode()
    def _describe(
        self, pictures: Sequence[Prepared], boxes: Sequence[npt.NDArray[np.float32]]
    ) -> list[Regions]:
        """Describe given boxes of pictures of one size."""
        pixel_values, _ = pad_batch(pictures)
        scaled = [
            torch.from_numpy(part * np.float32(picture.scale)).to(self.device)
            for part, picture in zip(boxes, pictures, strict=True)
        ]
        with self._autocast():
            descriptions = self.detector.describe(pixel_values.to(self.device), scaled)
        return [
            _to_regions(part, description, picture, True)
            for part, description, picture in zip(boxes, descriptions, pictures, strict=True)
        ]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )


def save_detector(detector: Detector, folder: Path) -> None:
    """Write `model.safetensors`, then `config.json`, each under its name only when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS_NAME}.{os.getpid()}"
    save_file(_weights(detector), temporary)
    temporary.replace(folder / WEIGHTS_NAME)
    temporary = folder / f".{CONFIG_NAME}.{os.getpid()}"
    text = json.dumps(detector.config.to_dict(), indent=2)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / CONFIG_NAME)


def _weights(detector: Detector) -> dict[str, Tensor]:
    """Return the weights in the layout of files: on the CPU, contiguous."""
    return {
        name: values.detach().cpu().contiguous() for name, values in detector.state_dict().items()
    }


def _check_boxes(boxes: npt.ArrayLike, image_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the boxes as `[boxes, 4]` float32 if each lies within the picture."""
    array = np.asarray(boxes, dtype=np.float32)
    height, width = image_size
    limits = np.array([width, height, width, height], dtype=np.float32)
    valid = (
        array.ndim == 2
        and array.shape[1:] == (4,)
        and len(array) > 0
        and bool((array >= 0).all() and (array <= limits).all())
        and bool((array[:, 2:] > array[:, :2]).all())
    )
    if not valid:
        raise ValueError(
            f"Got boxes {np.array2string(array, threshold=8)}; expected [boxes, 4] with "
            f"0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}: give corners in pixels of "
            "the upright picture, and leave out pictures without boxes."
        )
    return array


def _unscale(detections: Detections, picture: Prepared) -> npt.NDArray[np.float32]:
    """Map boxes of the resized picture back to the original one."""
    whole = np.array([whole_image(picture.image_size)], dtype=np.float32)
    if not detections.found:
        return whole
    boxes = detections.boxes.float().cpu().numpy() / np.float32(picture.scale)
    return np.minimum(boxes, np.tile(whole[:, 2:], 2))


def _to_regions(
    boxes: npt.NDArray[np.float32], description: Description, picture: Prepared, found: bool
) -> Regions:
    return Regions(
        boxes=boxes,
        features=description.features.cpu().numpy(),
        image_size=picture.image_size,
        object_ids=description.object_ids.cpu().numpy(),
        object_scores=description.object_scores.cpu().numpy(),
        attribute_ids=description.attribute_ids.cpu().numpy().astype(np.int64),
        attribute_scores=description.attribute_scores.cpu().numpy(),
        found=found,
    )
