"""Measures the faithfulness of explanations over a dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lxmert.data.answers import AnswerVocabulary
from lxmert.explain.faithfulness import (
    Faithfulness,
    FaithfulnessMetrics,
    Trial,
    measure_batch,
    summarize,
)
from lxmert.explain.methods import METHODS, choose_methods
from lxmert.explain.perturbation import SHARES
from lxmert.explain.plots import check_plot, plot_curves, save_plot
from lxmert.files import resume_log, to_json, write_text
from lxmert.pipeline import LxmertPipeline
from lxmert.predict import Progress
from lxmert.workflows.questions import (
    SeenQuestion,
    choose_questions,
    make_inputs,
    open_answering,
    stream_batches,
)

REPORT, CURVES, _PROGRESS = "faithfulness.json", "curves.png", "progress.jsonl"
"""Files in the results folder; the last one exists until the results are complete."""

Report = dict[str, Any]


class Subject(NamedTuple):
    """What is tested: the settings that determine the results.

    Attributes:
        model: folder or hub name.
        data: JSONL file of questions with answers; `boxes` of the objects asked about are used by
            the pointing game.
        images: image folder.
        methods: names, or `("all",)`.
        seeds: seeds of the random rankings.
        limit: number of questions, drawn at random with a fixed seed; None means all.
    """

    model: str
    data: Path
    images: Path
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None


def evaluate_explanations(
    subject: Subject, output: Path, *, device: str = "cpu", progress: Progress
) -> Report:
    """Test methods on a model's answers, and write `faithfulness.json` and `curves.png`.

    The same call resumes an interrupted test.

    Args:
        subject: what is tested.
        output: folder of results; created if necessary.
        device: where to compute.
        progress: called with the number of finished questions and of all.

    Returns:
        The written report: `model`, `data`, `seeds`; `questions` and `accuracy` (in `[0, 1]`);
        `left_out`, the number of questions without an answer; `unknown`, the number of questions
        without an answer in the model's list; `findings`, other problems -> `count` and `first`
        cases; `pointed`, the number of questions with boxes; `shares`, the removed fractions; and
        `methods` by name, including `random`: `pointing` (in `[0, 1]`; None without boxes), and
        `words` and `regions`, each with `positive` and `negative`, each with `areas` (in
        `[0, 100]`, by seed), their `mean`, and `accuracies` (by seed, by fraction).

    Raises:
        FileExistsError: if the folder already has results.
        ModuleNotFoundError: if matplotlib is not installed.
        NotADirectoryError: if the folder is a file.
        ValueError: if nothing can be tested, or the folder belongs to another subject.
    """
    methods = choose_methods(subject.methods)
    check_plot(output / CURVES)
    if output.is_file():
        raise NotADirectoryError(f"-o {output} is a file: name a folder")
    if (output / REPORT).exists():
        raise FileExistsError(f"{output / REPORT} exists already: name another folder with -o")
    asked, left_out, findings = choose_questions(subject.data, subject.images, limit=subject.limit)
    pipeline, model = open_answering(subject.model, device=device)
    output.mkdir(parents=True, exist_ok=True)
    arguments = {
        "model": subject.model,
        "data": str(subject.data),
        "images": str(subject.images),
        "methods": list(methods),
        "seeds": list(subject.seeds),
        "questions": len(asked),
    }
    path = output / _PROGRESS
    measured = _resume(path, arguments)
    chosen = {name: METHODS[name] for name in methods}
    vocabulary = AnswerVocabulary(pipeline.answers)
    with path.open("a", encoding="utf-8") as lines:
        done = sum(metrics.questions for metrics in measured)
        for batch in stream_batches(pipeline, asked[done:], subject.images):
            trial = _make_trial(pipeline, vocabulary, batch)
            measured.append(measure_batch(model, trial, chosen, seeds=subject.seeds, start=done))
            lines.write(to_json(_pack(measured[-1])) + "\n")
            lines.flush()
            done += measured[-1].questions
            progress(done, len(asked))
    found = summarize(measured, methods)
    report = {
        "model": subject.model,
        "data": str(subject.data),
        "seeds": list(subject.seeds),
        "left_out": left_out,
        "findings": findings,
        "unknown": sum(not row.example.answers.keys() & set(pipeline.answers) for row in asked),
        **_describe(found),
    }
    save_plot(plot_curves(SHARES, _by_panel(found)), output / CURVES)
    write_text(output / REPORT, to_json(report, indent=1) + "\n")
    path.unlink()
    return report


def _make_trial(
    pipeline: LxmertPipeline,
    vocabulary: AnswerVocabulary,
    batch: Sequence[SeenQuestion],
) -> Trial:
    """Prepare a batch of questions with their regions."""
    regions = [seen for _, seen in batch]
    scores = np.stack([vocabulary.scores(row.example.answers) for row, _ in batch])
    return Trial(
        make_inputs(pipeline, batch),
        torch.from_numpy(scores),
        [seen.boxes for seen in regions],
        [row.boxes for row, _ in batch],
    )


def _resume(path: Path, arguments: Mapping[str, object]) -> list[FaithfulnessMetrics]:
    """Read the results of an interrupted test."""
    packed = resume_log(path, arguments, remedy=f"name another folder, or remove {path}")
    return [
        FaithfulnessMetrics(
            record["questions"],
            np.array(record["correct"]),
            record["pointed"],
            np.array(record["hits"]),
        )
        for record in packed
    ]


def _pack(metrics: FaithfulnessMetrics) -> dict[str, object]:
    """Return metrics as JSON values."""
    return metrics._asdict() | {"correct": metrics.correct.tolist(), "hits": metrics.hits.tolist()}


def _describe(found: Faithfulness) -> Report:
    """Return the results as JSON values."""
    methods: Report = {}
    for curve in found.curves:
        described = methods.setdefault(curve.method, {"pointing": found.pointing.get(curve.method)})
        described.setdefault(curve.modality, {})[curve.direction] = {
            "areas": curve.areas,
            "mean": float(np.mean(curve.areas)),
            "accuracies": curve.accuracies.tolist(),
        }
    return {
        "questions": found.questions,
        "accuracy": float(found.curves[0].accuracies[0, 0]),
        "pointed": found.pointed,
        "shares": list(SHARES),
        "methods": methods,
    }


def _by_panel(found: Faithfulness) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the curves by modality and direction of removal."""
    panels: dict[tuple[str, str], dict[str, Any]] = {}
    for curve in found.curves:
        by_method = panels.setdefault((curve.modality, curve.direction), {})
        by_method[curve.method] = curve.accuracies
    return panels
