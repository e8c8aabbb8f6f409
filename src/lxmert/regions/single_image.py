"""Bases of extractors that compute the regions of one image at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lxmert.devices import check_device
from lxmert.regions.batching import check_list, stream_regions
from lxmert.regions.cells import CELL_NAMES, CellLayout
from lxmert.regions.folders import fingerprint_of, save_folder
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import Regions


class SingleImageExtractor(ABC):
    """An extractor of regions without attributes, in fp32; batches would change the last bits.

    Attributes:
        network: the network, in evaluation mode.
        device: where to compute.
    """

    attribute_names: tuple[str, ...] = ()
    attribute_groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    precision = "fp32"

    def __init__(self, network: nn.Module, config: Any, *, device: str = "cpu") -> None:
        """Put a network into evaluation mode, on a device.

        Args:
            network: the network that `config` describes.
            config: the record that is saved as `config.json`.
            device: where to compute.
        """
        self.network: Any = network.eval().to(check_device(device))
        self.config = config
        self.device = torch.device(device)

    def to(self, device: str | torch.device) -> Self:
        """Move the extractor to a device, and return it."""
        self.network.to(device)
        self.device = torch.device(device)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, then `config.json`, each atomically."""
        save_folder(Path(folder), self.config.to_dict(), self.network)

    @property
    def fingerprint(self) -> str:
        """Hash of configuration and weights; extractors with equal hashes return equal regions."""
        return fingerprint_of(self.config.to_dict(), self.network)

    def __call__(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of each image: grid cells row by row, or detections, best first.

        An image without detections is one region.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if an image cannot be read.
        """
        check_list(images)
        with torch.inference_mode():
            return [self._extract(load_image(image)) for image in images]

    def stream(
        self, images: Iterable[tuple[str, ImageInput]], *, batch_size: int = 16
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the image id and regions of each (id, image) pair in order."""
        return stream_regions(self, images, batch_size)

    @abstractmethod
    def _extract(self, image: npt.NDArray[np.uint8]) -> Regions:
        """Return the regions of one image `[height, width, 3]`."""


class CellExtractor(SingleImageExtractor):
    """An extractor whose regions are the cells of images that are stretched to one size.

    Attributes:
        layout: how images are divided into cells; set by subclasses.
    """

    recognizes = False
    object_names: tuple[str, ...] = CELL_NAMES
    layout: CellLayout

    @abstractmethod
    def describe(self, pixels: Tensor) -> Tensor:
        """Return the features `[batch, cells, feature_dim]` of stretched images.

        Args:
            pixels: `[batch, height, width, 3]` uint8 RGB.
        """

    @property
    def feature_dim(self) -> int:
        """Length of a cell's feature."""
        return self.layout.feature_dim

    def _extract(self, image: npt.NDArray[np.uint8]) -> Regions:
        layout = self.layout
        pixels = torch.tensor(layout.stretch(image)[None])
        features = self.describe(pixels.to(self.device))[0]
        return layout.regions(features.float().cpu().numpy(), image.shape[:2])
