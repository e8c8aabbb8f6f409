"""Compresses a model folder, and measures what it costs."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from safetensors.torch import save_file

from lxmert.data.arrays import Arrays, text_arrays
from lxmert.files import atomic_path, read_json_object, write_json
from lxmert.hub import find_model
from lxmert.model.checkpoints import read_folder
from lxmert.model.compression import ENCODERS, SETTINGS, drop_layers, evenly, prune
from lxmert.model.loading import load_heads
from lxmert.model.runtime import TorchRuntime
from lxmert.names import count
from lxmert.predict import Progress, refuse_exported
from lxmert.tensor_files import report_write_errors
from lxmert.workflows.evaluation import AnswerReport, evaluate_answers

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_LEFT_OUT = ("*.safetensors", "*.bin", "*.index.json", "README.md")
_ROUNDS, _TEXTS, _WORDS, _REGIONS = 7, 32, 12, 36


class CompressionReport(TypedDict):
    """Result of `compress_model`.

    Attributes:
        parameters: number of weights before and after.
        nonzero: share of them that are not zero, before and after.
        megabytes: size of the weights as a file, before and after.
        time: time of the compressed model for a batch as a share of that of the original one, both
            in PyTorch and measured alternately; None if it answers no questions.
        accuracy: accuracy of both on the data, with the limits of its 95% interval; None without
            data.
    """

    parameters: tuple[int, int]
    nonzero: tuple[float, float]
    megabytes: tuple[float, float]
    time: float | None
    accuracy: tuple[tuple[float, float, float], tuple[float, float, float]] | None


def compress_model(
    model: str | Path,
    output: Path,
    *,
    shares: Mapping[str, float],
    layers: Mapping[str, int],
    data: Path | None = None,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    limit: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> CompressionReport:
    """Drop layers and prune weights of a model, and write it to a new folder.

    Args:
        model: folder or hub name.
        output: folder to write.
        shares: share of the weights to set to zero by encoder (see `ENCODERS`).
        layers: number of layers to keep by encoder, evenly spaced with the last one.
        data: JSONL file of questions with answers to compare both models on; None: no accuracy.
        images: image folder of the data.
        stores: region stores to use instead of images.
        limit: number of questions, drawn at random; None: all.
        device: where to answer them; the time is that on a CPU.
        progress: called with the numbers of finished and of all questions of each model.

    Raises:
        FileExistsError: if the folder has a model.
        ValueError: if a share or a number of layers is impossible.
    """
    if (output / CONFIG).exists():
        raise FileExistsError(f"{output} has a model already: name another folder with -o")
    folder = find_model(model, check=refuse_exported)
    config = read_json_object(folder / CONFIG)
    kept = _kept(config, layers)
    _check_shares(shares)
    before = read_folder(folder)
    after = prune(drop_layers(before, kept), shares)
    for encoder, rows in kept.items():
        config[SETTINGS[encoder]] = len(rows)
    copy_model(folder, output, after, config)
    report: CompressionReport = {
        "parameters": (_number(before), _number(after)),
        "nonzero": (_nonzero(before), _nonzero(after)),
        "megabytes": (_size(before), _size(after)),
        "time": _relative_time(folder, output),
        "accuracy": None,
    }
    if data is not None:
        first, second = (
            evaluate_answers(
                each,
                data,
                images=images,
                stores=stores,
                limit=limit,
                device=device,
                progress=progress,
            )
            for each in (folder, output)
        )
        report["accuracy"] = (_overall(first), _overall(second))
    return report


def copy_model(
    folder: Path, output: Path, weights: Mapping[str, torch.Tensor], config: Mapping[str, object]
) -> None:
    """Copy a model folder without its card, with other weights and another `config.json`."""
    shutil.copytree(folder, output, ignore=_ignore_weights(folder), dirs_exist_ok=True)
    write_json(output / CONFIG, config, indent=2)
    with atomic_path(output / WEIGHTS) as part, report_write_errors():
        save_file({n: v.clone().contiguous() for n, v in weights.items()}, part, {"format": "pt"})


def _kept(config: Mapping[str, object], layers: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the layers to keep by encoder."""
    kept = {}
    for encoder, number in layers.items():
        known = config.get(SETTINGS[encoder])
        if not isinstance(known, int) or not 1 <= number <= known:
            raise ValueError(
                f"--layers keeps {number} layers of {encoder}, but the model has {known}: expected "
                f"1 to {known}"
            )
        kept[encoder] = evenly(known, number)
    return kept


def _check_shares(shares: Mapping[str, float]) -> None:
    for encoder, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"--{encoder} is {share:g}: expected a share from 0 to 1")


def _ignore_weights(folder: Path) -> Callable[[str, list[str]], set[str]]:
    """Return a filter that leaves out weights and card of the model, not of its extractor."""
    ignore = shutil.ignore_patterns(*_LEFT_OUT)
    return lambda place, names: set(ignore(place, names)) if Path(place) == folder else set()


def _number(weights: Mapping[str, torch.Tensor]) -> int:
    return sum(value.numel() for value in weights.values())


def _nonzero(weights: Mapping[str, torch.Tensor]) -> float:
    return sum(int(value.count_nonzero()) for value in weights.values()) / _number(weights)


def _size(weights: Mapping[str, torch.Tensor]) -> float:
    return sum(value.numel() * value.element_size() for value in weights.values()) / 1e6


def _overall(report: AnswerReport) -> tuple[float, float, float]:
    return report["accuracy"]["overall"], *report["intervals"]["overall"]


def _relative_time(first: Path, second: Path) -> float | None:
    """Return the median ratio of the times of two models for the same random batch."""
    models = [load_heads(folder).answering for folder in (first, second)]
    if models[0] is None or models[1] is None:
        return None
    runtimes = [TorchRuntime(model) for model in models if model is not None]
    generator = np.random.default_rng(0)
    ids = generator.integers(0, models[0].config.vocab_size, (_TEXTS, _WORDS))
    text = text_arrays(list(ids), pad_id=0)
    shape = (_TEXTS, _REGIONS)
    image: Arrays = {
        "visual_feats": generator.random((*shape, models[0].config.visual_feat_dim), np.float32),
        "visual_pos": np.tile(np.array([0, 0, 1, 1], np.float32), (*shape, 1)),
        "visual_attention_mask": np.ones(shape, np.int64),
    }
    rows = np.arange(_TEXTS)[:, None]
    ratios = []
    for _ in range(_ROUNDS):
        seconds = []
        for runtime in runtimes:
            start = time.perf_counter()
            runtime(text, image, rows)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
    return float(np.median(ratios))


def describe(report: CompressionReport) -> list[str]:
    """Return one line for each part of a report."""
    (old, new), (dense, sparse) = report["parameters"], report["nonzero"]
    lines = [
        f"weights: {new:,} of {old:,}; not zero: {sparse:.1%}, before {dense:.1%}",
        f"size: {report['megabytes'][1]:.1f} MB, before {report['megabytes'][0]:.1f} MB",
    ]
    if report["time"] is not None:
        lines.append(f"time of a batch in PyTorch: {report['time']:.2f} of the original's")
    if report["accuracy"] is not None:
        before, after = (
            f"{mean:.1%} ({low * 100:.1f} to {high * 100:.1f})"
            for mean, low, high in report["accuracy"]
        )
        lines.append(f"accuracy: {after}, before {before}")
    return lines


def parse_layers(text: str | None) -> dict[str, int]:
    """Parse the numbers of layers of the encoders, such as `9,5,3`; None keeps all."""
    if text is None:
        return {}
    parts = text.split(",")
    if len(parts) != len(ENCODERS) or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"--layers is {text!r}: expected {count(len(ENCODERS), 'number')} of layers to keep, "
            f"of {', '.join(ENCODERS)}, such as 9,5,3"
        )
    return dict(zip(ENCODERS, map(int, parts), strict=True))
