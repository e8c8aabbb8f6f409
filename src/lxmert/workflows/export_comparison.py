"""Compares an exported model with the PyTorch model that it was made from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lxmert.boxes import iou
from lxmert.exported import ExportedModel
from lxmert.predict import Runtime, score
from lxmert.regions.exported import ExportedDetector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import RegionExtractor
from lxmert.runtimes import Precision
from lxmert.schema import FloatArray, Regions

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

_TEXTS = 4
"""Texts for each image, of words drawn at random."""


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
    described = describe_regions(extractor, calibration.images, calibration.regions)
    differences = {"features": _distance(calibration.features, described)}
    if extractor.recognizes:
        pairs = zip(calibration.regions, extractor(calibration.images), strict=True)
        alone = [iou(one.boxes, other.boxes).max(axis=1) < 0.9 for one, other in pairs]
        differences["other regions"] = float(np.concatenate(alone).mean())
    return differences


def describe_regions(
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


def out_of_tolerance(differences: Mapping[str, float], precision: Precision) -> dict[str, float]:
    """Return the differences that are larger than allowed."""
    allowed = TOLERANCES[precision]
    return {name: value for name, value in differences.items() if not value <= allowed[name]}


def check_tolerances(differences: Mapping[str, float], precision: Precision) -> None:
    """Raise `ValueError` naming all differences that are out of tolerance."""
    wrong = [
        f"{name} {value:.3g} (at most {TOLERANCES[precision][name]:g})"
        for name, value in out_of_tolerance(differences, precision).items()
    ]
    if wrong:
        raise ValueError(
            f"the exported model differs too much from the PyTorch model: {', '.join(wrong)}; "
            "choose another --precision"
        )
