"""Exports a model with its region extractor to a folder for a fast runtime, and compares both.

The folder holds ONNX graphs; `lxmert.exported` describes it and answers with it.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
)
from lxmert.files import atomic_path, check_absent, sha256, write_json, write_text
from lxmert.model.answers import answers_of
from lxmert.names import count
from lxmert.predict import score
from lxmert.regions.inference import make_fast
from lxmert.regions.single_image import CellExtractor
from lxmert.runtimes import Array, Graph, Precision, RuntimeName, installed, open_graph, supports
from lxmert.templates import fill
from lxmert.workflows.export_comparison import (
    MEANINGS,
    TOLERANCES,
    Calibration,
    check_tolerances,
    compare,
    out_of_tolerance,
    random_inputs,
)
from lxmert.workflows.export_source import Report, Source, read_source
from lxmert.workflows.graphs import export_detector, export_grid, export_model
from lxmert.workflows.quantizing import Kept, layer_names, quantize_folder

_PARTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("logits", "other answers"): (IMAGE_GRAPH, TEXT_GRAPH),
    ("other regions", "features"): (TRUNK_GRAPH, HEADS_GRAPH, CELLS_GRAPH),
}
"""Differences -> the graphs that they depend on, where a folder has them."""

_MOST_CALLS = 64
"""Calls of a graph that its ranges are measured with."""

_CARD = Path(__file__).with_name("export_card.md")


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
    check_absent(output)
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
        wrong = out_of_tolerance(manifest.differences, manifest.precision)
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
