"""What all eyes have in common, and which there are: images in, regions out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

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
    """An extractor of regions: all that a processor, a store and a task need of one.

    Regions of one extractor mean nothing to a model that was trained on those of another, however
    well the shapes fit: stores and models keep the fingerprint, and refuse any other.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of configuration and weights: equal for extractors that see the same."""
        ...

    @property
    def precision(self) -> str:
        """How it computes, as a store says in its header."""
        ...

    @property
    def feature_dim(self) -> int:
        """Length of a region's feature."""
        ...

    @property
    def recognises(self) -> bool:
        """Whether regions are objects with names; otherwise they are the cells of a grid."""
        ...

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class, by id; at least one."""
        ...

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Name of each attribute, by id; empty where none are seen."""
        ...

    @property
    def attribute_groups(self) -> Mapping[str, tuple[str, ...]]:
        """The attributes by group; `Regions.attribute_ids` has a column for each."""
        ...

    def __call__(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of each image, in their order."""
        ...

    def stream(
        self, images: Iterable[tuple[str, ImageInput]], *, batch_size: int = ...
    ) -> Iterator[tuple[str, Regions]]:
        """Yield the regions of one image after the other, in order, from (id, image) pairs."""
        ...

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `load_extractor` reads."""
        ...


class _Loader(Protocol):
    def from_pretrained(self, path: str | Path, *, device: str) -> RegionExtractor: ...


EXTRACTORS: dict[str, _Loader] = {
    MODEL_TYPE: DetectorExtractor,
    TORCHVISION_TYPE: TorchvisionExtractor,
    BACKBONE_GRID_TYPE: BackboneGridExtractor,
    GRID_TYPE: GridExtractor,
}
"""`model_type` in an extractor's `config.json` -> its class."""


def load_extractor(
    path: str | Path, *, device: str = "cpu", precision: Precision = "fp32"
) -> RegionExtractor:
    """Load an extractor of any kind.

    Args:
        path: a folder that an extractor's `save_pretrained` or a detection run wrote, or a file or
            folder of the published detector, as `DetectorExtractor.from_pretrained` reads it.
        device: where to compute, such as "cpu" or "cuda".
        precision: of a `DetectorExtractor`; the others know "fp32" only.

    Raises:
        FileNotFoundError: if there is nothing, or a file is missing.
        ValueError: if it is nothing that is known, or damaged.
    """
    check_device(device)
    folder = find_folder(Path(path))
    if folder is None:
        return DetectorExtractor.from_pretrained(path, device=device, precision=precision)
    model_type = read_type(folder)
    if model_type not in EXTRACTORS:
        raise ValueError(
            f"{folder / CONFIG_NAME} is of model_type {model_type!r}; expected eyes, one of "
            f"{', '.join(map(repr, EXTRACTORS))}: name the folder of an extractor, or a file of "
            "the published detector."
        )
    if model_type == MODEL_TYPE:
        return DetectorExtractor.from_pretrained(folder, device=device, precision=precision)
    if precision != "fp32":
        raise ValueError(
            f"precision is {precision!r}, but eyes of model_type {model_type!r} compute in 'fp32' "
            "only: leave it out."
        )
    return EXTRACTORS[model_type].from_pretrained(folder, device=device)
