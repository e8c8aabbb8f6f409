"""Loads the PyTorch model to export, and calls it on the data that its export is compared with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch import nn

from lxmert.data.image_folder import ImageFolder
from lxmert.data.store import RegionStore, is_finished
from lxmert.exported import is_exported
from lxmert.hub import find_model, model_name
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import read_folder
from lxmert.model.loading import Heads, find_kind, load_heads
from lxmert.model.runtime import ScoringModel, TorchRuntime
from lxmert.predict import score
from lxmert.processing import LxmertProcessor
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.single_image import CellExtractor
from lxmert.weight_files import weight_digests
from lxmert.workflows.export_comparison import Calibration, describe_regions, random_inputs

Report = Callable[[str], None]
"""Called with the name of each step."""

_MOST_IMAGES = 64
"""Images of the calibration data that are used."""

_EXAMPLE = Path(__file__).parents[1] / "examples" / "scene.png"


@dataclass(frozen=True)
class Source:
    """A loaded PyTorch model.

    Attributes:
        folder: its folder.
        name: for the manifest.
        weights: SHA-256 of its weight files.
        heads: the models that answer and match.
        processor: its processor.
        extractor: its region extractor, with which the export is compared.
    """

    folder: Path
    name: str
    weights: tuple[str, ...]
    heads: Heads
    processor: LxmertProcessor
    extractor: DetectorExtractor | CellExtractor

    @property
    def scoring(self) -> ScoringModel:
        """The model whose first head is compared."""
        model = self.heads.answering or self.heads.matching
        assert model is not None
        return model


def read_source(
    model: str | Path | None, calibrate: Path | None, report: Report
) -> tuple[Source, Calibration]:
    """Load a model, and call it on the data that its export is compared with."""
    source = _load(find_model(model))
    report("regions and answers of the PyTorch model")
    return source, _calibrate(source, calibrate)


def _load(folder: Path) -> Source:
    """Load the model to export; errors name what cannot be exported."""
    if is_exported(folder):
        raise ValueError(f"{folder} is an exported model already: name the model it came from")
    kind = find_kind(read_folder(folder, device="meta"))
    if kind not in ("answering", "pretraining", "retrieval"):
        raise ValueError(
            f"{folder} holds a model of the kind {kind!r}, expected one that answers questions or "
            "matches captions about one image: name another model"
        )
    processor = LxmertProcessor.from_folder(folder)
    if not isinstance(processor.extractor, DetectorExtractor | CellExtractor):
        raise ValueError(
            f"the region extractor of {folder} is a {type(processor.extractor).__name__}, expected "
            "a detector of LXMERT's or a grid: name another model"
        )
    heads = load_heads(folder)
    for head in (heads.answering, heads.matching):
        if head is not None:
            # The graphs compute in float32, also those of weights in half precision.
            nn.Module.float(head)
    weights = weight_digests(folder)
    source = Source(folder, model_name(folder), weights, heads, processor, processor.extractor)
    processor.check_fit(source.scoring.config, folder)
    if heads.answering is not None and answers_of(heads.answering.config) is None:
        if heads.matching is None:
            raise ValueError(f"{folder} does not name its answers: add them with `lxmert convert`")
        source = replace(source, heads=Heads(None, heads.matching))
    return source


def _calibrate(source: Source, path: Path | None) -> Calibration:
    """Read images, or the first regions of a store, and run the PyTorch model on them."""
    if path is not None and not path.is_dir():
        raise FileNotFoundError(
            f"{path} is neither an image folder nor a region store: check --calibrate"
        )
    if path is not None and is_finished(path):
        store: RegionStore = source.processor.open_store(path)
        names = islice(store.image_ids, _MOST_IMAGES)
        data = Calibration(regions=[store[name] for name in names])
    else:
        data = _extract(source.extractor, path)
    runtime = TorchRuntime(source.scoring)
    inputs = random_inputs(source.processor.reader.backend, data.regions)
    data.logits = [score(runtime, text, seen) for text, seen in inputs]
    return data


def _extract(extractor: DetectorExtractor | CellExtractor, path: Path | None) -> Calibration:
    """Return the regions of the first images of a folder; None: of the example image."""
    images = [_EXAMPLE]
    if path is not None:
        folder = ImageFolder(path)
        images = [path / name for name in islice(folder.names, _MOST_IMAGES)]
        if not images:
            raise ValueError(f"{path} has no image: name a folder of images or a region store")
    regions = extractor(images)
    return Calibration(images, regions, describe_regions(extractor, images, regions))
