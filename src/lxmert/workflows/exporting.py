"""Exports a model with its region extractor to a folder for a fast runtime, and compares both.

The folder holds ONNX graphs; `lxmert.exported` describes it and answers with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from lxmert.boxes import iou
from lxmert.data.image_folder import ImageFolder
from lxmert.data.store import RegionStore, is_finished
from lxmert.exported import (
    CELLS_GRAPH,
    HEADS_GRAPH,
    IMAGE_GRAPH,
    MANIFEST,
    TEXT_GRAPH,
    TOKENIZER,
    TRUNK_GRAPH,
    ExportedFile,
    ExportedModel,
    ExportManifest,
    is_exported,
)
from lxmert.files import atomic_path, sha256, write_json, write_text
from lxmert.hub import find_model, model_name
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import read_folder
from lxmert.model.loading import Heads, find_kind, load_heads
from lxmert.model.runtime import ScoringModel, TorchRuntime
from lxmert.names import count
from lxmert.predict import Runtime, score
from lxmert.processing import LxmertProcessor
from lxmert.regions.exported import ExportedDetector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import RegionExtractor
from lxmert.regions.inference import make_fast
from lxmert.regions.single_image import CellExtractor
from lxmert.runtimes import Array, Graph, Precision, RuntimeName, installed, open_graph, supports
from lxmert.schema import FloatArray, Regions
from lxmert.templates import fill
from lxmert.weight_files import weight_digests
from lxmert.workflows.graphs import export_detector, export_grid, export_model
from lxmert.workflows.quantizing import Kept, layer_names, quantize_folder

TOLERANCES: dict[Precision, dict[str, float]] = {
    "fp32": {"logits": 1e-4, "other answers": 0.0, "other regions": 0.01, "features": 1e-4},
    "bf16": {"logits": 0.05, "other answers": 0.05, "other regions": 0.05, "features": 1e-3},
    "int8": {"logits": 0.1, "other answers": 0.05, "other regions": 0.1, "features": 0.01},
}
"""Largest differences from the PyTorch model that an export may have; see `MEANINGS`."""

MEANINGS = {
    "logits": "root mean square of the difference of logits / that of the logits",
    "other answers": "share of texts with another best answer",
    "other regions": "share of detected regions without a counterpart of IoU 0.9",
    "features": "1 - smallest cosine of the features of the same boxes",
}
"""Difference -> what it measures."""

_PARTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("logits", "other answers"): (IMAGE_GRAPH, TEXT_GRAPH),
    ("other regions", "features"): (TRUNK_GRAPH, HEADS_GRAPH, CELLS_GRAPH),
}
"""Differences -> the graphs that they depend on, where a folder has them."""

_MOST_IMAGES = 64
"""Images of the calibration data that are used."""

_MOST_CALLS = 64
"""Calls of a graph that its ranges are measured with."""

_TEXTS = 4
"""Texts for each image, of words drawn at random."""

_EXAMPLE = Path(__file__).parents[1] / "examples" / "scene.png"
_CARD = Path(__file__).with_name("export_card.md")

Report = Callable[[str], None]
"""Called with the name of each step."""


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


@dataclass
class Calibration:
    """Images and regions to compare with, and to measure the ranges of int8 with.

    Attributes:
        images: image files; empty if a store is given.
        regions: the regions of the images, by the extractor of the PyTorch model.
        features: its features of the boxes of these regions, which may be those of proposals
            instead; empty if a store is given.
        logits: what the PyTorch model returns for texts of random words about these regions.
    """

    images: list[Path] = field(default_factory=list)
    regions: list[Regions] = field(default_factory=list)
    features: list[FloatArray] = field(default_factory=list)
    logits: list[FloatArray] = field(default_factory=list)


def export_folder(
    model: str | Path | None,
    output: Path,
    *,
    runtime: RuntimeName,
    precision: Precision = "fp32",
    calibrate: Path | None = None,
    finish: Callable[[Path, ExportManifest], None] = lambda folder, manifest: None,  # noqa: ARG005
    report: Report = lambda step: None,  # noqa: ARG005
) -> ExportManifest:
    """Export a model with its region extractor, and compare it with the PyTorch model.

    Args:
        model: folder or hub name; None means the bundled model.
        output: folder to write; it must not exist.
        runtime: library that will run it.
        precision: numeric precision.
        calibrate: image folder, or region store of the model's extractor, to compare
            with; None: the example image. For int8, the ranges of values are measured on it; with
            a store, the detector stays in fp32.
        finish: adds files to the finished folder, such as `web_page.write_page`.
        report: called before each step.

    Raises:
        FileExistsError: if the output exists.
        ModuleNotFoundError: if a library is missing.
        ValueError: if the model cannot be exported, the calibration data do not fit, or a
            difference is out of tolerance; nothing is written then.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists already: name another folder, or remove it")
    _check_runtime(runtime, precision)
    if precision == "int8" and calibrate is None:
        raise ValueError(
            "int8 needs data to measure the ranges of values with: add --calibrate with an image "
            "folder, or with a region store of the model's extractor"
        )
    source, calibration = read_source(model, calibrate, report)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as partial:
        partial.mkdir()
        report("graphs of the model")
        export_model(source.heads.answering, source.heads.matching, partial)
        report("graphs of the region extractor")
        if isinstance(source.extractor, CellExtractor):
            export_grid(source.extractor, partial)
        else:
            export_detector(make_fast(source.extractor.detector, "fp32"), partial)
        source.processor.reader.backend.save(str(partial / TOKENIZER))
        manifest = _describe(source, partial, runtime, precision)
        if precision == "int8":
            report("calibration")
            manifest = _quantize(partial, calibration, manifest, report)
        else:
            report("comparison")
            manifest = _compare(partial, calibration, manifest)
        check_tolerances(manifest.differences, precision)
        layers = manifest.layers_in_fp32 if precision == "int8" else None
        write_card(partial, source, runtime, precision, manifest.differences, calibration, layers)
        finish(partial, manifest)
    return manifest


def read_source(
    model: str | Path | None, calibrate: Path | None, report: Report
) -> tuple[Source, Calibration]:
    """Load a model, and call it on the data that its export is compared with."""
    source = _load(find_model(model))
    report("regions and answers of the PyTorch model")
    return source, _read_calibration(source, calibrate)


def _quantize(
    folder: Path, calibration: Calibration, manifest: ExportManifest, report: Report
) -> ExportManifest:
    """Quantize the graphs; layers stay in fp32 until the differences are within tolerance."""
    write_json(folder / MANIFEST, manifest.to_dict())
    calls = record_calls(folder, calibration)
    graphs = [path.name for path in sorted(folder.glob("*.onnx"))]
    exact = {name: tuple(layer_names(folder / name)) for name in graphs if name not in calls}

    def find_wrong(kept: Kept) -> list[tuple[str, ...]]:
        nonlocal manifest
        number = sum(map(len, kept.values()))
        report(f"comparison, {count(number, 'layer')} in fp32" if number else "comparison")
        current = manifest.replace(layers_in_fp32={**kept, **exact}, files=_list_files(folder))
        manifest = _compare(folder, calibration, current)
        wrong = _out_of_tolerance(manifest.differences, manifest.precision)
        return [
            tuple(graph for graph in graphs if graph in calls)
            for names, graphs in _PARTS.items()
            if any(name in wrong for name in names)
        ]

    quantize_folder(folder, calls, find_wrong, report=report)
    return manifest


def record_calls(folder: Path, calibration: Calibration) -> dict[str, list[dict[str, Array]]]:
    """Return what the graphs of a folder are called with for calibration data, by file name."""
    calls: dict[str, list[dict[str, Array]]] = {}

    def open_recorded(path: Path, *arguments: Any, **settings: Any) -> Graph:
        graph, made = open_graph(path, *arguments, **settings), calls.setdefault(path.name, [])

        def run(inputs: Mapping[str, Array]) -> list[Array]:
            made.append(dict(inputs))
            return graph(inputs)

        return run

    exported = ExportedModel(folder, opener=open_recorded)
    runtime = exported.answering or exported.matching
    assert runtime is not None
    for text, seen in random_inputs(exported.tokenizer, calibration.regions):
        score(runtime, text, seen)
    if calibration.images:
        exported.extractor(calibration.images)
    # Evenly spaced, so that every image is among them.
    return {name: made[:: -(-len(made) // _MOST_CALLS)] for name, made in calls.items()}


def _compare(folder: Path, calibration: Calibration, manifest: ExportManifest) -> ExportManifest:
    """Write the manifest, without which the folder cannot be opened, and add the differences."""
    write_json(folder / MANIFEST, manifest.to_dict())
    differences = compare(folder, calibration)
    manifest = manifest.replace(differences=differences)
    write_json(folder / MANIFEST, manifest.to_dict())
    return manifest


def compare(folder: Path, calibration: Calibration) -> dict[str, float]:
    """Measure how much an exported folder differs from the PyTorch model; see `MEANINGS`."""
    exported = ExportedModel(folder)
    runtime = exported.answering or exported.matching
    assert runtime is not None
    return compare_parts(runtime, exported.tokenizer, lambda: exported.extractor, calibration)


def compare_parts(
    runtime: Runtime,
    tokenizer: Tokenizer,
    open_extractor: Callable[[], RegionExtractor],
    calibration: Calibration,
) -> dict[str, float]:
    """Like `compare`, for the parts of a model; the extractor is opened if there are images."""
    inputs = random_inputs(tokenizer, calibration.regions)
    found = [score(runtime, text, seen) for text, seen in inputs]
    differences = compare_logits(np.concatenate(calibration.logits), np.concatenate(found))
    if calibration.images:
        differences |= compare_extractors(open_extractor(), calibration)
    return {name: float(f"{value:.3g}") for name, value in differences.items()}


def compare_logits(expected: FloatArray, found: FloatArray) -> dict[str, float]:
    """Compare logits `[texts, classes]` of two runtimes for the same texts."""
    return {
        "logits": float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())),
        "other answers": float((found.argmax(axis=1) != expected.argmax(axis=1)).mean()),
    }


def random_inputs(
    tokenizer: Tokenizer, regions: Sequence[Regions]
) -> Iterator[tuple[dict[str, np.ndarray], list[list[Regions]]]]:
    """Yield texts of random words, `_TEXTS` for each image, with the regions of their images."""
    from lxmert.data.arrays import text_arrays
    from lxmert.data.encoding import padding_id

    generator = np.random.default_rng(2019)
    special = {padding_id(tokenizer), *tokenizer.encode("").ids}
    words = np.array([i for i in range(tokenizer.get_vocab_size()) if i not in special])
    first, last = tokenizer.encode("").ids
    for start in range(0, len(regions), 8):
        seen = [[found] for found in regions[start : start + 8] for _ in range(_TEXTS)]
        lengths = generator.integers(3, 10, len(seen))
        sentences = [np.array([first, *generator.choice(words, n), last]) for n in lengths]
        yield text_arrays(sentences, pad_id=padding_id(tokenizer)), seen


def compare_extractors(extractor: RegionExtractor, calibration: Calibration) -> dict[str, float]:
    """Compare an extractor with that of the PyTorch model: features of the same boxes or cells.

    Of a detector, also the regions that it finds.
    """
    described = _describe_regions(extractor, calibration.images, calibration.regions)
    differences = {"features": _distance(calibration.features, described)}
    if extractor.recognizes:
        pairs = zip(calibration.regions, extractor(calibration.images), strict=True)
        alone = [iou(one.boxes, other.boxes).max(axis=1) < 0.9 for one, other in pairs]
        differences["other regions"] = float(np.concatenate(alone).mean())
    return differences


def _describe_regions(
    extractor: RegionExtractor, images: Sequence[Path], regions: Sequence[Regions]
) -> list[FloatArray]:
    """Return the features of the boxes of known regions; cells of a grid are always the same."""
    if isinstance(extractor, DetectorExtractor):
        described = extractor(images, boxes=[each.boxes for each in regions])
    elif isinstance(extractor, ExportedDetector):
        pairs = zip(images, regions, strict=True)
        return [extractor.features(image, each.boxes) for image, each in pairs]
    else:
        described = extractor(images)
    return [each.features for each in described]


def _distance(expected: Sequence[FloatArray], found: Sequence[FloatArray]) -> float:
    """Return 1 - the smallest cosine between features of the same regions."""
    cosines = _cosines(np.concatenate(expected), np.concatenate(found))
    return float(np.maximum(0, 1 - cosines.min()))  # NaN, if one is, which built-in max would miss


def _cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(norms, 1e-12))


def _check_runtime(runtime: RuntimeName, precision: Precision) -> None:
    """Check that the runtime is installed and computes with the precision."""
    if find_spec("onnxscript") is None:
        raise ModuleNotFoundError("exporting needs onnxscript: pip install lxmert[export]")
    if runtime not in installed():
        raise ModuleNotFoundError(f"{runtime} is not installed: pip install lxmert[{runtime}]")
    if precision == "int8" and "onnxruntime" not in installed():
        raise ModuleNotFoundError(
            "onnxruntime, which quantizes for either runtime, is not installed: pip install "
            "onnxruntime"
        )
    if not supports(runtime, precision):
        raise ValueError(
            f"{runtime} does not compute {precision} on this processor: choose another --precision "
            "or --runtime"
        )


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


def _read_calibration(source: Source, path: Path | None) -> Calibration:
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
    return Calibration(images, regions, _describe_regions(extractor, images, regions))


def _describe(
    source: Source, folder: Path, runtime: RuntimeName, precision: Precision
) -> ExportManifest:
    """Return the manifest of a folder, without differences."""
    answering = source.heads.answering
    return ExportManifest(
        runtime=runtime,
        precision=precision,
        source=source.name,
        weights=source.weights,
        answers=() if answering is None else answers_of(answering.config) or (),
        matches=source.heads.matching is not None,
        max_text_length=source.processor.config.max_text_length,
        fingerprint=source.extractor.fingerprint,
        differences={},
        tolerances=TOLERANCES[precision],
        files=_list_files(folder),
    )


def _list_files(folder: Path) -> dict[str, ExportedFile]:
    return {
        path.name: ExportedFile(size=path.stat().st_size, sha256=sha256(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def _out_of_tolerance(differences: Mapping[str, float], precision: Precision) -> dict[str, float]:
    """Return the differences that are larger than allowed."""
    allowed = TOLERANCES[precision]
    return {name: value for name, value in differences.items() if not value <= allowed[name]}


def check_tolerances(differences: Mapping[str, float], precision: Precision) -> None:
    """Raise `ValueError` naming all differences that are out of tolerance."""
    wrong = [
        f"{name} {value:.3g} (at most {TOLERANCES[precision][name]:g})"
        for name, value in _out_of_tolerance(differences, precision).items()
    ]
    if wrong:
        raise ValueError(
            f"the exported model differs too much from the PyTorch model: {', '.join(wrong)}; "
            "choose another --precision"
        )


def write_card(
    folder: Path,
    source: Source,
    runtime: str,
    precision: Precision,
    differences: Mapping[str, float],
    calibration: Calibration,
    layers: Kept | None = None,
) -> None:
    """Write the README of an exported folder.

    Args:
        folder: with all other files.
        source: what was exported.
        runtime: library that runs it.
        precision: numeric precision.
        differences: from the PyTorch model.
        calibration: what they were measured on.
        layers: those left in fp32, by graph; None: not a matter of this export.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    text = fill(
        _CARD,
        source=source.name,
        runtime=runtime,
        precision=precision,
        differences=differences,
        tolerances=TOLERANCES[precision],
        meanings=MEANINGS,
        layers=layers,
        size=size / 1e6,
        images=count(len(calibration.regions), "image"),
    )
    write_text(folder / "README.md", text)
