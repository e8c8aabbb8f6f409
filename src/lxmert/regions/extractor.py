"""The region-extractor protocol and its registry."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import torch

from lxmert.devices import check_device
from lxmert.regions.backbone_grid import BACKBONE_GRID_TYPE, BackboneGridExtractor
from lxmert.regions.configuration import CONFIG_NAME, MODEL_TYPE
from lxmert.regions.extract import DetectorExtractor, find_folder
from lxmert.regions.folders import read_type
from lxmert.regions.grid import GRID_TYPE, GridExtractor
from lxmert.regions.inference import Precision
from lxmert.regions.preprocess import ImageInput
from lxmert.regions.torchvision_detector import TORCHVISION_TYPE, TorchvisionExtractor
from lxmert.schema import Regions


class RegionExtractor(Protocol):
    """A region extractor, as used by processors, region stores and tasks.

    A model only understands regions of the extractor it was trained with, even if the shapes of
    others fit: stores and models keep the fingerprint and reject any other.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of configuration and weights; extractors with equal hashes return equal regions."""
        ...

    @property
    def precision(self) -> str:
        """Numeric precision, as recorded in the header of a region store."""
        ...

    @property
    def feature_dim(self) -> int:
        """Length of a region's feature."""
        ...

    @property
    def recognizes(self) -> bool:
        """Whether regions are named objects; otherwise they are grid cells."""
        ...

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class, by id; at least one."""
        ...

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Name of each attribute, by id; empty if the extractor predicts no attributes."""
        ...

    @property
    def attribute_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Attribute names by group; `Regions.attribute_ids` has one column per group."""
        ...

    def __call__(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of each image, in order."""
        ...

    def stream(
        self, images: Iterable[tuple[str, ImageInput]], *, batch_size: int = ...
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the image id and regions of each (id, image) pair in order."""
        ...

    def to(self, device: str | torch.device) -> Self:
        """Move the extractor to a device, and return it."""
        ...

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `load_extractor` can read."""
        ...


class _Loader(Protocol):
    def from_pretrained(self, path: str | Path, *, device: str) -> RegionExtractor: ...


EXTRACTORS: dict[str, _Loader] = {
    MODEL_TYPE: DetectorExtractor,
    TORCHVISION_TYPE: TorchvisionExtractor,
    BACKBONE_GRID_TYPE: BackboneGridExtractor,
    GRID_TYPE: GridExtractor,
}
"""`model_type` in `config.json` -> extractor class."""


def load_extractor(
    path: str | Path, *, device: str = "cpu", precision: Precision = "fp32"
) -> RegionExtractor:
    """Load a region extractor of any kind.

    Args:
        path: a folder written by `save_pretrained` or a detection run, or a file or folder of the
            published detector, as for `DetectorExtractor.from_pretrained`.
        device: where to compute, such as "cpu" or "cuda".
        precision: for a `DetectorExtractor`; other extractors only support "fp32".

    Raises:
        FileNotFoundError: if the path or a file in it does not exist.
        ValueError: if the extractor is of an unknown kind or damaged.
    """
    check_device(device)
    folder = find_folder(Path(path))
    if folder is None:
        return DetectorExtractor.from_pretrained(path, device=device, precision=precision)
    model_type = read_type(folder)
    if model_type not in EXTRACTORS:
        raise ValueError(
            f"{folder / CONFIG_NAME} has model_type {model_type!r}; expected a region extractor, "
            f"one of {', '.join(map(repr, EXTRACTORS))}: pass the folder of an extractor, or a "
            "file of the published detector"
        )
    if model_type == MODEL_TYPE:
        return DetectorExtractor.from_pretrained(folder, device=device, precision=precision)
    if precision != "fp32":
        raise ValueError(
            f"precision is {precision!r}, but an extractor of model_type {model_type!r} supports "
            "'fp32' only: omit the option"
        )
    return EXTRACTORS[model_type].from_pretrained(folder, device=device)
