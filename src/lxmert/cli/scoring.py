"""The command `evaluate`: scores of models, of detectors, and of result files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lxmert.cli.options import Device, Json
from lxmert.cli.outputs import check_output
from lxmert.terminal import say, show_official_scores, show_progress, show_scores

if TYPE_CHECKING:
    from lxmert.workflows.evaluation import AnswerReport


def _file(text: str) -> typer.models.OptionInfo:
    """Return an option that belongs to --metric."""
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="With --metric")
    return option


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="Model folder, Hugging Face hub name, or detector folder."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL file of questions with answers; for a detector, COCO JSON."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Image folder.")] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            help="Training questions, to compute the baselines from. Default: the baselines "
            "stored with the model."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of examples, drawn at random. Default: all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the scores as JSON.")
    ] = None,
    device: Device = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Score result files without a model, by the rules of vqa, gqa or nlvr2."),
    ] = None,
    questions: Annotated[Path | None, _file("Official questions (vqa, gqa).")] = None,
    annotations: Annotated[Path | None, _file("Official annotations (vqa).")] = None,
    results: Annotated[Path | None, _file("Your results (vqa).")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Your predictions, for --data without a model or --metric gqa or nlvr2."),
    ] = None,
    choices: Annotated[Path | None, _file("Official choices, to compute validity (gqa).")] = None,
    scene_graphs: Annotated[Path | None, _file("Scene graphs, to compute grounding (gqa).")] = None,
    attentions: Annotated[
        Path | None, _file("Your attention maps, to compute grounding (gqa).")
    ] = None,
    examples: Annotated[Path | None, _file("Official examples (nlvr2).")] = None,
    as_json: Json = False,
) -> None:
    """Score a model by question type, or score a detector or result files.

    Questions: accuracy with question-only and majority baselines. Statements about two images
    (NLVR2): accuracy and consistency. A detector with COCO boxes: detection metrics. With
    --predictions and no model: scores of a file written by `lxmert predict`. With --metric:
    official scores of result files.
    """
    from lxmert.devices import choose_device

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
    if metric is not None:
        if any(given is not None for given in (model, data, images, training, limit)):
            raise ValueError(
                "--metric scores result files: leave out the model, --data, --images, --training "
                "and --limit"
            )
        _score_files(metric, paths, output, as_json=as_json)
        return
    if model is None and data is not None and predictions is not None and len(paths) == 1:
        if images is not None or limit is not None:
            raise ValueError("--predictions scores a file: leave out --images and --limit")
        _score_predictions(data, predictions, training, output, as_json=as_json)
        return
    if model is None or data is None or images is None:
        raise ValueError(
            "expected MODEL with --data and --images, or --data with --predictions, or --metric "
            "with its files"
        )
    if paths:
        raise ValueError(
            "a model and result files are both given: leave out the model, or the files "
            f"({', '.join(map(str, paths.values()))})"
        )
    _evaluate_model(
        model,
        data,
        images,
        training=training,
        limit=limit,
        device=choose_device(device),
        output=output,
        as_json=as_json,
    )


def _score_files(
    metric: str, paths: dict[str, Path], output: Path | None, *, as_json: bool
) -> None:
    """Score result files by the official rules."""
    from lxmert.files import to_json
    from lxmert.workflows.scoring import score_files

    scores = score_files(metric, **paths)
    _write(scores, output)
    if as_json:
        print(to_json(scores))
    else:
        names = " with ".join(path.name for path in paths.values())
        show_official_scores(f"{metric}: {names}", scores)


def _score_predictions(
    data: Path, predictions: Path, training: Path | None, output: Path | None, *, as_json: bool
) -> None:
    """Score a file of predictions."""
    from lxmert.workflows.evaluation import evaluate_predictions

    _log(evaluate_predictions(data, predictions, training=training), output, as_json=as_json)


def _evaluate_model(
    model: str,
    data: Path,
    images: Path,
    *,
    training: Path | None,
    limit: int | None,
    device: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Score a model or a detector on images."""
    from lxmert.hub import find_model
    from lxmert.workflows.evaluation import evaluate_answers, evaluate_detector, evaluate_statements
    from lxmert.workflows.submission import judges_statements

    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}: expected at least 1")
    if data.suffix == ".json":
        if training is not None or limit is not None:
            raise ValueError(
                f"--data {data} is a COCO file for a detector: leave out --training and --limit, "
                "which are for questions"
            )
        scores = evaluate_detector(Path(model), data, images, device=device)
        _write_scores(scores, output, as_json=as_json)
        return
    folder = find_model(model)
    if judges_statements(folder):
        if training is not None:
            raise ValueError(
                f"{model} judges statements, which have no baselines: leave out --training"
            )
        with show_progress("examples") as progress:
            scores = evaluate_statements(
                folder, data, images, limit=limit, device=device, progress=progress
            )
        _write_scores(scores, output, as_json=as_json)
        return
    with show_progress("questions") as progress:
        report = evaluate_answers(
            model,
            data,
            images,
            training=training,
            limit=limit,
            device=device,
            progress=progress,
        )
    _log(report, output, as_json=as_json)


def _log(report: "AnswerReport", output: Path | None, *, as_json: bool) -> None:
    """Print a report on answers, and write it as JSON if `output` is given."""
    from lxmert.files import to_json

    _write(report, output)
    if as_json:
        print(to_json(report))
    else:
        show_scores(report)


def _write_scores(scores: dict[str, float], output: Path | None, *, as_json: bool) -> None:
    """Print scores, and write them as JSON if `output` is given."""
    from lxmert.files import to_json

    _write(scores, output)
    if as_json:
        print(to_json(scores))
        return
    for name, score in scores.items():
        say(f"{name:24} {score:.3f}")


def _write(report: object, output: Path | None) -> None:
    """Write a report as JSON if `output` is given."""
    from lxmert.files import to_json, write_text

    if output is not None:
        write_text(output, to_json(report, indent=1) + "\n")
