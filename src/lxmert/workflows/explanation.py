"""Measures the faithfulness of explanations over a dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lxmert.data.answers import AnswerVocabulary
from lxmert.explain.faithfulness import (
    MODALITIES,
    Faithfulness,
    FaithfulnessMetrics,
    Trial,
    measure_batch,
    summarize,
)
from lxmert.explain.methods import METHODS, Method, choose_methods
from lxmert.explain.perturbation import DIRECTIONS, SHARES
from lxmert.explain.plots import check_plot, plot_curves, save_plot
from lxmert.explain.protocols import check_protocol, measure_names, measure_questions
from lxmert.files import check_absent, folder_sha256, resume_log, sha256, to_json, write_text
from lxmert.hub import find_model
from lxmert.metrics.intervals import bootstrap
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.pipeline import LxmertPipeline
from lxmert.predict import Progress
from lxmert.tasks.answering_objectives import load_alike
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
        seeds: seeds of random rankings, weights and answers.
        limit: number of questions, drawn at random with a fixed seed; None means all.
        protocol: a name of `PROTOCOLS`.
        against: folder or hub name of another model to compare with, for `sanity`; None: none.
    """

    model: str
    data: Path
    images: Path
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None
    protocol: str = "chefer"
    against: str | None = None


def evaluate_explanations(
    subject: Subject, output: Path, *, device: str = "cpu", progress: Progress
) -> Report:
    """Test methods on a model's answers, and write `faithfulness.json`; for `chefer`, also a plot.

    The same call resumes an interrupted test.

    Args:
        subject: what is tested.
        output: folder of results; created if necessary.
        device: where to compute.
        progress: called with the number of finished questions and of all.

    Returns:
        The written report: `model`, `data`, `protocol`, `against`, `seeds`, `questions`;
        `left_out`, the number of questions without an answer; `unknown`, the number of those
        without one in the model's list; `findings`, other problems -> `count` and `first` cases;
        and `methods` by name, including `random` where it can be measured. Intervals (`low`,
        `high`) are 95% intervals for which images, not questions, are resampled.

        For `chefer`: `accuracy` (in `[0, 1]`); `pointed`, the number of questions with boxes;
        `shares`, the removed fractions; for each method `pointing` (in `[0, 1]`; None without
        boxes), and `words` and `regions`, each with `positive` and `negative`, each with `areas`
        (in `[0, 100]`, by seed), their `mean`, `low`, `high`, and `accuracies` (by seed, by
        fraction). For other protocols: `measures`, their names; for each method and measure
        `mean`, `low`, `high` and `count`, the number of questions for which it is defined; None
        instead if there is no such question.

    Raises:
        FileExistsError: if the folder already has results.
        ModuleNotFoundError: if matplotlib is not installed.
        NotADirectoryError: if the folder is a file.
        ValueError: if nothing can be tested, the folder belongs to another subject, or `against`
            does not fit the protocol or the model.
    """
    methods = choose_methods(subject.methods)
    check_protocol(subject.protocol)
    if subject.against is not None and subject.protocol != "sanity":
        raise ValueError(
            f"--against is for --protocol sanity, and the protocol is {subject.protocol}: leave "
            "--against out"
        )
    check_plot(output / CURVES)
    if output.is_file():
        raise NotADirectoryError(f"-o {output} is a file: name a folder")
    check_absent(output / REPORT, remedy="name another folder with -o")
    asked, left_out, findings = choose_questions(subject.data, subject.images, limit=subject.limit)
    pipeline, model = open_answering(subject.model, device=device)
    against = _open_other(subject.against, pipeline, model)
    output.mkdir(parents=True, exist_ok=True)
    arguments = {
        "model": subject.model,
        "model files": folder_sha256(find_model(subject.model)),
        "data": str(subject.data),
        "data file": sha256(subject.data)[:16],
        "images": str(subject.images),
        "methods": list(methods),
        "seeds": list(subject.seeds),
        "questions": len(asked),
        "protocol": subject.protocol,
        "against": subject.against,
        "files of the other model": (
            None if subject.against is None else folder_sha256(find_model(subject.against))
        ),
    }
    path = output / _PROGRESS
    records = resume_log(path, arguments, remedy=f"name another folder, or remove {path}")
    chosen = {name: METHODS[name] for name in methods}
    vocabulary = AnswerVocabulary(pipeline.answers)
    with path.open("a", encoding="utf-8") as lines:
        done = sum(record["questions"] for record in records)
        for batch in stream_batches(pipeline, asked[done:], subject.images):
            trial = _make_trial(pipeline, vocabulary, batch)
            records.append(_measure(subject, (model, against), trial, chosen, start=done))
            lines.write(to_json(records[-1]) + "\n")
            lines.flush()
            done += len(batch)
            progress(done, len(asked))
    images = [row.example.image_ids[0] for row in asked]
    report = {
        "model": subject.model,
        "data": str(subject.data),
        "protocol": subject.protocol,
        "against": subject.against,
        "seeds": list(subject.seeds),
        "questions": len(asked),
        "left_out": left_out,
        "findings": findings,
        "unknown": sum(not row.example.answers.keys() & set(pipeline.answers) for row in asked),
    }
    if subject.protocol == "chefer":
        found = summarize([_unpack(record) for record in records], methods)
        areas = np.concatenate([record["areas"] for record in records])
        report |= _describe(found, areas, images)
        save_plot(plot_curves(SHARES, _by_panel(found)), output / CURVES)
    else:
        measures = measure_names(subject.protocol, model, against)
        report |= _describe_measures(records, measures, images)
    write_text(output / REPORT, to_json(report, indent=1) + "\n")
    path.unlink()
    return report


def _open_other(
    name: str | None, pipeline: LxmertPipeline, model: LxmertForQuestionAnswering
) -> LxmertForQuestionAnswering | None:
    """Load the model to compare with, if there is one."""
    if name is None:
        return None
    other = load_alike(
        find_model(name),
        model,
        pipeline.processor.tokenizer,
        setting="--against",
        remedy="fine-tune both models from the same one, with the same answers",
    )
    other.to(pipeline.device)
    return other


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


def _measure(
    subject: Subject,
    models: tuple[LxmertForQuestionAnswering, LxmertForQuestionAnswering | None],
    trial: Trial,
    methods: Mapping[str, Method],
    *,
    start: int,
) -> Report:
    """Measure one batch, and return JSON values."""
    model, against = models
    if subject.protocol == "chefer":
        return _pack(measure_batch(model, trial, methods, seeds=subject.seeds, start=start))
    measured = measure_questions(
        subject.protocol,
        model,
        trial.inputs,
        methods,
        seeds=subject.seeds,
        start=start,
        against=against,
    )
    rows = {
        name: [[None if np.isnan(value) else float(value) for value in row] for row in values]
        for name, values in measured.items()
    }
    return {"questions": len(trial.answer_scores), "measured": rows}


def _pack(metrics: FaithfulnessMetrics) -> Report:
    """Return metrics as JSON values."""
    arrays = ("correct", "hits", "areas")
    return metrics._asdict() | {name: getattr(metrics, name).tolist() for name in arrays}


def _unpack(record: Report) -> FaithfulnessMetrics:
    """Return metrics from JSON values."""
    arrays = ("correct", "hits", "areas")
    return FaithfulnessMetrics(**record | {name: np.array(record[name]) for name in arrays})


def _describe(found: Faithfulness, areas: np.ndarray[Any, Any], images: Sequence[str]) -> Report:
    """Return the results of `chefer` as JSON values.

    Args:
        found: the results.
        areas: `[questions, modalities, methods, directions]`.
        images: `[questions]`, the image of each.
    """
    methods: Report = {}
    for curve in found.curves:
        described = methods.setdefault(curve.method, {"pointing": found.pointing.get(curve.method)})
        each = areas[
            :,
            MODALITIES.index(curve.modality),
            list(methods).index(curve.method),
            DIRECTIONS.index(curve.direction),
        ]
        _, low, high = bootstrap(each, images)
        described.setdefault(curve.modality, {})[curve.direction] = {
            "areas": curve.areas,
            "mean": float(np.mean(curve.areas)),
            "low": low,
            "high": high,
            "accuracies": curve.accuracies.tolist(),
        }
    return {
        "accuracy": float(found.curves[0].accuracies[0, 0]),
        "pointed": found.pointed,
        "shares": list(SHARES),
        "methods": methods,
    }


def _describe_measures(
    records: Sequence[Report], measures: Sequence[str], images: Sequence[str]
) -> Report:
    """Return the means of measures with their intervals."""
    methods: Report = {}
    for name in records[0]["measured"]:
        rows = [row for record in records for row in record["measured"][name]]
        methods[name] = {}
        for place, measure in enumerate(measures):
            values = [(row[place], image) for row, image in zip(rows, images, strict=True)]
            defined = [(value, image) for value, image in values if value is not None]
            methods[name][measure] = (
                bootstrap(*zip(*defined, strict=True))._asdict() | {"count": len(defined)}
                if defined
                else None
            )
    return {"measures": list(measures), "methods": methods}


def _by_panel(found: Faithfulness) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the curves by modality and direction of removal."""
    panels: dict[tuple[str, str], dict[str, Any]] = {}
    for curve in found.curves:
        by_method = panels.setdefault((curve.modality, curve.direction), {})
        by_method[curve.method] = curve.accuracies
    return panels
