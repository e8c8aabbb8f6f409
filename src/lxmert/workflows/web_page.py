"""Completes an exported folder to a static web page that answers in the browser, without a server.

The scripts in `page/` are the rules of `lxmert.regions.exported` and of BERT's tokenizer; a browser
test compares both with Python.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.data.corpus import Corpus
from lxmert.exported import CELLS_GRAPH, EXTRACTOR, TOKENIZER, ExportManifest
from lxmert.files import read_json_object, write_json
from lxmert.hub import BUNDLED_NAME
from lxmert.regions.choosing import CANDIDATES_PER_PROPOSAL
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.exported import ExportedDetectorConfig
from lxmert.regions.labels import adjective_order
from lxmert.workflows.examples import EXAMPLES

LIBRARY = Path("node_modules/onnxruntime-web")
"""Where npm installs ONNX Runtime Web, in the current folder."""

_LIBRARY_FILES = (
    "dist/ort.wasm.min.mjs",
    "dist/ort-wasm-simd-threaded.mjs",
    "dist/ort-wasm-simd-threaded.wasm",
)
_PAGE = Path(__file__).parent / "page"

_ONE_RULE = (
    "min_side_unit",
    "min_side_when",
    "nms_ties",
    "side_offset",
    "clip_margin",
    "class_specific_boxes",
    "round_before_limit",
    "size_rounding",
    "resize",
    "selection",
    "nms_boxes",
    "output_boxes",
    "features_from",
    "min_regions",
    "fill_up",
    "nms_ladder",
)
"""Settings of a detector of which the scripts know the default only."""

_READ = (
    "object_names",
    "stride",
    "proposals",
    "proposal_min_side",
    "proposal_nms_threshold",
    "max_log_scale",
    "shorter_side",
    "longer_side",
    "channel_order",
    "pixel_mean",
    "pixel_std",
    "num_regions",
    "score_threshold",
    "nms_threshold",
)
"""Settings that the scripts read."""

_TOKENIZER = {
    "normalizer": "BertNormalizer",
    "pre_tokenizer": "BertPreTokenizer",
    "model": "WordPiece",
}
"""Parts of a tokenizer and the kind of them that the scripts know."""


def check_library() -> None:
    """Raise `FileNotFoundError` if ONNX Runtime Web is not installed in the current folder."""
    missing = [name for name in _LIBRARY_FILES if not (LIBRARY / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--runtime web needs {LIBRARY / missing[0]}: install it in this folder with "
            "npm install onnxruntime-web"
        )


def write_page(folder: Path, manifest: ExportManifest) -> None:
    """Add scripts, library, examples and settings to a folder of ONNX graphs.

    Args:
        folder: an export for ONNX Runtime.
        manifest: its manifest.

    Raises:
        ValueError: if the model has no answers, its extractor is a grid, or its detector or
            tokenizer has rules that the scripts lack.
    """
    if CELLS_GRAPH in manifest.files:
        raise ValueError(
            f"the region extractor of {manifest.source} is a grid, but the scripts of the page "
            "compute detectors only: use --runtime onnxruntime"
        )
    exported = ExportedDetectorConfig.from_file(folder / EXTRACTOR)
    tokenizer = read_json_object(folder / TOKENIZER)
    _check_rules(exported.detector, tokenizer, manifest)
    loaded = sum(known.size for known in manifest.files.values())
    for path in _PAGE.iterdir():
        shutil.copyfile(path, folder / path.name)
    for name in _LIBRARY_FILES:
        shutil.copyfile(LIBRARY / name, folder / Path(name).name)
    examples = _copy_examples(folder)
    settings = {
        "source": _title(manifest.source),
        "precision": manifest.precision,
        "runtime_version": read_json_object(LIBRARY / "package.json")["version"],
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "graph_bytes": loaded,
        "answers": manifest.answers,
        "max_text_length": manifest.max_text_length,
        "cell_anchors": exported.cell_anchors,
        "anchor_offset": exported.anchor_offset,
        "detector": _detector(exported.detector),
        "examples": examples,
    }
    write_json(folder / "page.json", settings)


def _check_rules(
    config: DetectorConfig, tokenizer: Mapping[str, Any], manifest: ExportManifest
) -> None:
    if not manifest.answers:
        raise ValueError(
            f"{manifest.source} only matches captions, but the page answers questions: use "
            "--runtime onnxruntime"
        )
    for name in _ONE_RULE:
        value, known = getattr(config, name), DetectorConfig.model_fields[name].default
        if value != known:
            raise ValueError(
                f"the detector of {manifest.source} has {name} = {value!r}, but the scripts of the "
                f"page compute {known!r} only: use --runtime onnxruntime"
            )
    parts = {name: (tokenizer.get(name) or {}).get("type") for name in _TOKENIZER}
    if parts != _TOKENIZER:
        raise ValueError(
            f"the tokenizer of {manifest.source} is made of {parts}, but the scripts of the page "
            f"know {_TOKENIZER} only: use --runtime onnxruntime"
        )


def _detector(config: DetectorConfig) -> dict[str, Any]:
    """Return what the scripts read of a detector."""
    settings = {name: getattr(config, name) for name in _READ}
    candidates = config.proposal_candidates or CANDIDATES_PER_PROPOSAL * config.proposals
    return settings | {
        "proposal_candidates": candidates,
        "attributes": config.attribute_names,
        "attribute_order": adjective_order(list(config.attribute_groups)),
    }


def _copy_examples(folder: Path) -> list[dict[str, Any]]:
    """Copy the example images; return them with their questions."""
    questions: dict[str, list[str]] = {}
    for example in Corpus.read([EXAMPLES / "questions.jsonl"], strict=True):
        questions.setdefault(example.image_ids[0], []).append(example.text)
    for name in questions:
        shutil.copyfile(EXAMPLES / name, folder / name)
    return [{"image": name, "questions": asked} for name, asked in questions.items()]


def _title(source: str) -> str:
    """Return how the page calls the model: never the path of its folder."""
    if source == BUNDLED_NAME:
        return "The bundled model"
    path = Path(source)
    return f"The model {path.resolve().name if path.exists() else source}"
