"""Compares a model in all installed runtimes and precisions: time, memory, size, answers."""

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, cast, get_args

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.splits import draw_rows
from lxmert.devices import computes_bf16
from lxmert.exported import is_exported, read_manifest
from lxmert.hub import find_model, model_name
from lxmert.predict import judges_statements
from lxmert.runtimes import Precision, RuntimeName, supports
from lxmert.tasks.metrics import score_answers
from lxmert.weight_files import weight_digests
from lxmert.workflows.benchmark_worker import Asked, Batch, RuntimeKind, Size, Variant, work
from lxmert.workflows.evaluation import with_answers
from lxmert.workflows.examples import EXAMPLES
from lxmert.workflows.exporting import export_folder

RUNTIMES: tuple[RuntimeKind, ...] = get_args(RuntimeKind)

_SIZES = {
    "1 question": Size(1, 1),
    "32 questions": Size(32, 1),
    "5 per image": Size(32, 5),
}
"""Timed batches by name; the last one is of 32 questions, too."""

_CALLS = (5, 1, 1)
"""Timed calls of a round for each of `_SIZES`."""

_PIXEL_CALLS = 2
"""Timed calls of a round from pixels, which take seconds with the published detector."""

_COMPUTED: dict[RuntimeKind, tuple[Precision, ...]] = {
    "torch": ("fp32", "bf16"),
    "transformers": ("fp32",),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""Precisions of each runtime on a CPU."""

_PATIENCE = 5.0
"""Seconds that a process has to end."""

Report = Callable[[str], None]
"""Called with the name of each step."""


class BenchmarkRow(TypedDict):
    """Measurements of a variant.

    Attributes:
        runtime: library.
        precision: numeric precision.
        pixels_ms: one question about an image file, its regions extracted; None: it has no
            extractor.
        ms: one batch of questions with given regions, by its name: `1 question`, `32 questions`,
            and `5 per image`, 32 questions of which each five are about one image.
        memory_mb: peak memory of the process.
        disk_mb: size of the files that it reads.
        accuracy: share of right answers from pixels; None without data.
        same_answers: share of questions with the same best answer as eager fp32: those of the
            data, from pixels; without data, the 32 of a timed batch.
    """

    runtime: str
    precision: str
    pixels_ms: float | None
    ms: dict[str, float]
    memory_mb: float
    disk_mb: float
    accuracy: float | None
    same_answers: float


class BenchmarkReport(TypedDict):
    """What `benchmark` returns.

    Attributes:
        model: name of the model.
        threads: threads of each variant; None: as many as there are cores.
        rounds: rounds of timing.
        questions: number of questions that were scored.
        rows: measurements, eager fp32 first.
        not_measured: variant -> why there is no row of it.
    """

    model: str
    threads: int | None
    rounds: int
    questions: int
    rows: list[BenchmarkRow]
    not_measured: dict[str, str]


@dataclass(frozen=True)
class Benchmark:
    """What `lxmert benchmark` is asked for.

    Attributes:
        model: folder or hub name of a PyTorch model that answers questions.
        runtimes: those to compare; absent: all. Eager fp32 is always measured.
        data: JSONL file of questions with answers; absent: questions about the example images, for
            times only.
        images: their image folder.
        limit: number of questions to score, drawn at random; absent: all.
        exports: folder of exported models, named like `openvino-int8`; missing ones are made there.
            Absent: a temporary folder.
        calibrate: as for `export_folder`; int8 needs it, unless the export is there already.
        rounds: rounds of timing.
        threads: threads of each variant; absent: as many as there are cores.
    """

    model: str | Path
    runtimes: Sequence[RuntimeKind] = ()
    data: Path | None = None
    images: Path | None = None
    limit: int | None = None
    exports: Path | None = None
    calibrate: Path | None = None
    rounds: int = 7
    threads: int | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.runtimes if name not in RUNTIMES]
        if unknown:
            raise ValueError(f"no runtime {unknown[0]!r}: expected {', '.join(RUNTIMES)}")
        absent = [name for name in self.runtimes if find_spec(name) is None]
        if absent:
            raise _not_installed(absent[0])
        if (self.data is None) != (self.images is None):
            raise ValueError("expected both --data and --images, or neither")
        for name in ("rounds", "threads", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} is {value}: expected at least 1")

    def asked(self) -> tuple[Asked, Corpus | None]:
        """Return the questions, and those to be scored with their answers.

        Raises:
            ValueError: if no question of the data has an answer.
        """
        if self.data is None or self.images is None:
            data = EXAMPLES / "questions.jsonl"
            return Asked(data, EXAMPLES, np.arange(len(Corpus.read([data], strict=True)))), None
        corpus = Corpus.read([self.data], strict=True)
        with_answers(corpus, self.data)
        rows = np.flatnonzero(corpus.num_answers())
        rows = rows[draw_rows(len(rows), self.limit, seed=0)]
        return Asked(self.data, self.images, rows), corpus.select(rows)


def benchmark(settings: Benchmark, *, report: Report = lambda step: None) -> BenchmarkReport:  # noqa: ARG005
    """Measure a model in each runtime and precision, each in a process of its own.

    Rounds go over all variants in turn, so that load from other processes meets all alike; times
    are medians.

    Args:
        settings: what is compared.
        report: called with the name of each step.

    Raises:
        FileNotFoundError: if there is no such model.
        ModuleNotFoundError: if a runtime that was asked for is not installed.
        ValueError: if the model is an exported one, or does not answer questions.
    """
    folder = find_model(settings.model)
    if is_exported(folder):
        raise ValueError(
            f"{folder} is an exported model: name the model that it was exported from, "
            f"{read_manifest(folder).source}, and exports with --exports"
        )
    if judges_statements(folder):
        raise ValueError(f"{folder} judges statements: expected a model that answers questions")
    asked, scored = settings.asked()
    weights = weight_digests(folder) if settings.exports else ()
    with ExitStack() as opened:
        exports = settings.exports or Path(opened.enter_context(TemporaryDirectory()))
        running: dict[Variant, _Process] = {}
        missing: dict[str, str] = {}
        for variant in _variants(settings, folder, exports):
            with _or_missing(variant, running, missing):
                _check_available(variant)
                if variant.exported:
                    _export(variant, folder, weights, settings.calibrate, report)
                running[variant] = opened.enter_context(_Process(variant))
        rows = _measure(running, missing, asked, settings.rounds, report)
        if scored is not None:
            _score(running, missing, rows, asked, scored, report)
    return {
        "model": model_name(folder),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "questions": 0 if scored is None else len(scored),
        "rows": [rows[variant] for variant in running],
        "not_measured": missing,
    }


@contextmanager
def _or_missing(
    variant: Variant, running: dict[Variant, "_Process"], missing: dict[str, str]
) -> Iterator[None]:
    """Continue without a variant that fails, and keep the reason; the reference must not fail."""
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if _is_reference(variant):
            raise
        running.pop(variant, None)
        missing[variant.name] = str(error)


def _variants(settings: Benchmark, folder: Path, exports: Path) -> Iterator[Variant]:
    """Yield what can be compared on a CPU, the reference first."""
    for runtime, precisions in _COMPUTED.items():
        for precision in precisions:
            exported = exports / f"{runtime}-{precision}"
            variant = Variant(runtime, precision, folder, settings.threads)
            if variant.exported:
                variant = replace(variant, folder=exported)
            if _is_reference(variant) or runtime in (settings.runtimes or RUNTIMES):
                yield variant


def _is_reference(variant: Variant) -> bool:
    return (variant.runtime, variant.precision) == ("torch", "fp32")


def _check_available(variant: Variant) -> None:
    """Raise an error if a runtime is not installed, or lacks a precision on this processor."""
    if find_spec(variant.runtime) is None:
        raise _not_installed(variant.runtime)
    unsupported = variant.runtime == "openvino" and not supports("openvino", variant.precision)
    emulated = (
        variant.runtime == "torch" and variant.precision == "bf16" and not computes_bf16("cpu")
    )
    if unsupported or emulated:
        raise ValueError(f"this processor does not compute {variant.precision}")


def _not_installed(runtime: RuntimeKind) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{runtime} is not installed: pip install lxmert[{runtime}]")


def _export(
    variant: Variant,
    model: Path,
    weights: tuple[str, ...],
    calibrate: Path | None,
    report: Report,
) -> None:
    """Export the model, unless that was done before from the same weights.

    Raises:
        ValueError: if the export differs too much, cannot be made, or is of another model.
    """
    if variant.folder.exists():
        manifest = read_manifest(variant.folder)
        extractor = PreprocessorConfig.load(model).fingerprint
        found = (manifest.weights, manifest.fingerprint, manifest.runtime, manifest.precision)
        if found != (weights, extractor, variant.runtime, variant.precision):
            raise ValueError(
                f"{variant.folder} is the {manifest.runtime} {manifest.precision} export of "
                f"{manifest.source}, whose weights or region extractor may have changed since: "
                "name another folder for --exports, or remove this one"
            )
        return
    if variant.precision == "int8" and calibrate is None:
        raise ValueError("it needs data to measure ranges with: add --calibrate IMAGES")
    report(f"export: {variant.name}")
    export_folder(
        model,
        variant.folder,
        runtime=cast(RuntimeName, variant.runtime),
        precision=variant.precision,
        calibrate=calibrate,
        report=lambda step: report(f"export: {variant.name}: {step}"),
    )


class _Process:
    """A variant in a process of its own."""

    def __init__(self, variant: Variant) -> None:
        """Start it.

        Raises:
            ValueError: if the variant cannot be loaded.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, variant), daemon=True)
        self._name = variant.name
        self._process.start()
        other.close()
        try:
            self._receive()
        except ValueError:
            self._process.join()
            raise

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # it has ended already
            self._pipe.send(None)
        self._process.join(timeout=_PATIENCE)
        self._process.kill()

    def call(self, method: str, *arguments: object) -> Any:
        """Return the result of a method of `Candidate`."""
        self._pipe.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            succeeded, result = self._pipe.recv()
        except EOFError as error:
            raise ValueError(
                f"the process of {self._name} ended; a lack of memory is the usual reason: compare "
                "fewer --runtimes"
            ) from error
        if not succeeded:
            raise ValueError(str(result))
        return result


def _measure(
    running: dict[Variant, _Process],
    missing: dict[str, str],
    asked: Asked,
    rounds: int,
    report: Report,
) -> dict[Variant, BenchmarkRow]:
    """Time all variants in turn, and compare the answers to the largest batch."""
    reference = next(iter(running.values()))
    batches: list[Batch] = reference.call("batches", asked, [*_SIZES.values()])
    best = {}
    for variant, process in list(running.items()):
        with _or_missing(variant, running, missing):
            best[variant] = process.call("logits", batches[1]).argmax(1)
    expected = next(iter(best.values()))
    times: dict[Variant, dict[str, list[float]]] = {v: defaultdict(list) for v in running}
    for turn in range(rounds):
        report(f"times: round {turn + 1} of {rounds}")
        for variant in list(running)[:: -1 if turn % 2 else 1]:
            found, process = times[variant], running[variant]
            with _or_missing(variant, running, missing):
                for name, batch, calls in zip(_SIZES, batches, _CALLS, strict=True):
                    found[name] += process.call("time", batch, calls)
                if variant.runtime != "transformers":
                    found["pixels"] += process.call("time_pixels", asked, batches[0], _PIXEL_CALLS)
    rows: dict[Variant, BenchmarkRow] = {}
    for variant, process in running.items():
        ms = {name: round(1000 * median(found), 3) for name, found in times[variant].items()}
        rows[variant] = {
            "runtime": variant.runtime,
            "precision": variant.precision,
            "pixels_ms": ms.pop("pixels", None),
            "ms": ms,
            "memory_mb": round(process.call("memory") / 1e6, 1),
            "disk_mb": round(process.call("size") / 1e6, 2),
            "accuracy": None,
            "same_answers": float((best[variant] == expected).mean()),
        }
    return rows


def _score(
    running: dict[Variant, _Process],
    missing: dict[str, str],
    rows: Mapping[Variant, BenchmarkRow],
    asked: Asked,
    scored: Corpus,
    report: Report,
) -> None:
    """Add accuracy and agreement of the answers from pixels."""
    expected: list[str] = []
    for variant, process in list(running.items()):
        report(f"answers: {variant.name}")
        with _or_missing(variant, running, missing):
            answers: list[str] = process.call("answers", asked)
            expected = expected or answers
            same = [one == other for one, other in zip(answers, expected, strict=True)]
            row = rows[variant]
            row["accuracy"] = round(mean(score_answers([*scored], answers)), 5)
            row["same_answers"] = round(mean(same), 5)
