"""The commands `evaluate` (of a model or detector), `score` and `compare` (of files of results)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lxmert.cli.inputs import check_annotations, check_device, check_model
from lxmert.cli.options import (
    Device,
    ImageFolder,
    Json,
    Limit,
    OutputReport,
    Questions,
    RegionStores,
    check_source,
)
from lxmert.cli.outputs import check_output
from lxmert.cli.reports import print_report, write_report
from lxmert.cli.score_tables import (
    show_comparison,
    show_matching,
    show_official_scores,
    show_robustness,
    show_scores,
)
from lxmert.terminal import say, show_progress, show_steps

Training = Annotated[
    Path | None,
    typer.Option(
        "--training",
        help="Training questions, to compute the baselines from. Default: the baselines stored "
        "with the model.",
    ),
]


def _file(text: str) -> typer.models.OptionInfo:
    """Return an option that belongs to --metric."""
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="With --metric")
    return option


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model folder, Hugging Face hub name, or detector folder.",
            callback=check_model,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Questions with answers: JSONL, CSV or JSON array; for a detector, COCO JSON."
        ),
    ],
    images: ImageFolder = None,
    regions: RegionStores = None,
    training: Training = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Score image-text matching instead: foil or pairs (captions against foils: VALSE "
            "or JSONL), winoground; or consensus (questions whose paraphrases share a group)."
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="text: leave out the regions; image: leave out the words."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="robust: also the accuracy after image, question or regions are exchanged or "
            "damaged, calibration, and the risk and coverage of a confidence threshold."
        ),
    ] = None,
    risk: Annotated[
        float | None,
        typer.Option(
            help="With --suite: share of wrong answers that the threshold may leave, from 0 to 1. "
            "Default: 0.05."
        ),
    ] = None,
    limit: Limit = None,
    output: OutputReport = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Score a model on questions or statements, or a detector on boxes.

    Questions: accuracy by question type, with question-only and majority baselines. Statements
    about two images (NLVR2): accuracy and consistency. A detector: detection metrics. With
    --metric: image-text matching or paraphrases. With --suite robust: whether the model uses image
    and question, and whether its confidence is justified. For files of predictions, use
    `lxmert score`.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}: expected at least 1")
    if modality not in (None, "text", "image"):
        raise ValueError(f"--modality is {modality!r}: expected text or image")
    if suite not in (None, "robust"):
        raise ValueError(f"--suite is {suite!r}: expected robust")
    if suite is not None and (metric or modality or training):
        raise ValueError("--suite has its own scores: leave out --metric, --modality, --training")
    if metric is not None and any(each is not None for each in (training, limit, modality)):
        raise ValueError(
            "--metric scores all entries: leave out --training, --limit and --modality"
        )
    if risk is not None and (suite is None or not 0 <= risk <= 1):
        raise ValueError(f"--risk is {risk:g}: expected 0 to 1, and --suite robust")
    check_device(device, model)
    check_source(images, regions)
    if output is not None:
        check_output(output, "-o", data, training)
    if metric is None:
        check_annotations(model, data, images)
    from lxmert.devices import choose_device
    from lxmert.workflows import evaluation

    source: dict[str, Any] = {"images": images, "stores": tuple(regions or ())}
    source["device"] = choose_device(device)
    report: Any
    show: Callable[[Any], None] = _show
    if metric is not None:
        report, show = _evaluate_matching(metric, model, data, source), show_matching
    elif suite is not None:
        report, show = _measure_suite(model, data, source, limit, risk), show_robustness
    elif (kind := evaluation.kind_of(model)) != "questions" and training is not None:
        raise ValueError(f"{model} answers no questions, so there is no baseline: drop --training")
    elif kind == "detector":
        if images is None or limit is not None or modality is not None:
            raise ValueError(
                f"{model} is a detector: expected --images, and neither --limit nor --modality"
            )
        report = evaluation.evaluate_detector(Path(model), data, images, device=source["device"])
    else:
        source |= {"limit": limit, "modality": modality or "both"}
        with show_progress("examples") as progress:
            if kind == "statements":
                report = evaluation.evaluate_statements(model, data, **source, progress=progress)
            else:
                report = evaluation.evaluate_answers(
                    model, data, training=training, **source, progress=progress
                )
    write_report(report, output)
    print_report(report, show, as_json=as_json)


def _measure_suite(
    model: str, data: Path, source: dict[str, Any], limit: int | None, risk: float | None
) -> Any:
    from lxmert.study.answers import measure_answers, open_questions
    from lxmert.study.confidence import RISK

    with show_steps("images", "answers") as (reading, progress):
        opened = open_questions(model, data, **source, limit=limit, reading=reading)
        return measure_answers(*opened, risk=RISK if risk is None else risk, progress=progress)


def _evaluate_matching(metric: str, model: str, data: Path, source: dict[str, Any]) -> Any:
    from lxmert.names import unknown_name
    from lxmert.study.matching import METRICS

    if metric not in METRICS:
        raise ValueError(f"--metric: {unknown_name(metric, METRICS)}")
    with show_progress("texts") as progress:
        return METRICS[metric](model, data, **source, progress=progress)


def score(
    predictions: Annotated[
        Path | None, typer.Option(help="Your predictions (JSONL with --data; gqa, nlvr2).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Without --metric: questions with answers.")
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(help="With --data: training questions, to compute the baselines from."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Score by the official rules of vqa, gqa or nlvr2."),
    ] = None,
    questions: Annotated[Path | None, _file("Official questions (vqa, gqa).")] = None,
    annotations: Annotated[Path | None, _file("Official annotations (vqa).")] = None,
    results: Annotated[Path | None, _file("Your results (vqa).")] = None,
    choices: Annotated[Path | None, _file("Official choices, to compute validity (gqa).")] = None,
    scene_graphs: Annotated[Path | None, _file("Scene graphs, to compute grounding (gqa).")] = None,
    attentions: Annotated[
        Path | None, _file("Your attention maps, to compute grounding (gqa).")
    ] = None,
    examples: Annotated[Path | None, _file("Official examples (nlvr2).")] = None,
    output: OutputReport = None,
    as_json: Json = False,
) -> None:
    """Score files of results, without a model.

    With --data: predictions in the format of `lxmert predict`. With --metric: the official scores
    of VQA, GQA or NLVR2.
    """
    files = {
        "questions": questions,
        "annotations": annotations,
        "results": results,
        "predictions": predictions,
        "choices": choices,
        "scene_graphs": scene_graphs,
        "attentions": attentions,
        "examples": examples,
    }
    paths = {name: path for name, path in files.items() if path is not None}
    if output is not None:
        check_output(output, "-o", *paths.values(), data, training)
    report: Any
    show: Callable[[Any], None] = _show
    if metric is not None:
        if data is not None or training is not None:
            raise ValueError("--metric has its own files: leave out --data and --training")
        from lxmert.workflows.scoring import score_files

        report = score_files(metric, **paths)
        names = " with ".join(path.name for path in paths.values())
        show = partial(show_official_scores, f"{metric}: {names}")
    elif data is None or predictions is None or len(paths) > 1:
        raise ValueError(
            "expected --metric vqa, gqa or nlvr2 with its files, or --data with --predictions"
        )
    else:
        from lxmert.workflows.evaluation import evaluate_predictions

        report = evaluate_predictions(data, predictions, training=training)
    write_report(report, output)
    print_report(report, show, as_json=as_json)


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Predictions (JSONL).")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Other predictions (JSONL).")],
    data: Questions,
    output: OutputReport = None,
    as_json: Json = False,
) -> None:
    """Compare two models or runs by their predictions for the same questions.

    The files are those of `lxmert predict`. Differences of accuracy have 95% intervals, for which
    images are resampled, and p-values of a paired test.
    """
    if output is not None:
        check_output(output, "-o", first, second, data)
    from lxmert.workflows.comparison import compare_predictions

    report = compare_predictions(data, first, second)
    write_report(report, output)
    print_report(report, show_comparison, as_json=as_json)


def _show(report: Mapping[str, Any]) -> None:
    """Print the scores of answers as a table, other scores one per line."""
    if isinstance(report.get("accuracy"), dict):
        show_scores(report)
    else:
        for name, value in report.items():
            say(f"{name:24} {value:.3f}")
