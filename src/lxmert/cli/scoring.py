"""The command `evaluate`: scores of models, of eyes, and of anybody's files of results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lxmert.cli.outputs import check_output
from lxmert.terminal import say, show_official_scores, show_progress, show_scores

if TYPE_CHECKING:
    from lxmert.workflows.evaluation import AnswerReport


def _file(text: str) -> typer.models.OptionInfo:
    """Return an option for an official file."""
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="With --metric")
    return option


def evaluate(
    model: Annotated[str | None, typer.Argument(help="Model folder or hub name.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL file of questions with answers; for eyes, COCO-format JSON."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    training: Annotated[
        Path | None,
        typer.Option(help="Training questions, to guess from; left out: the model knows them."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only so many examples, drawn at random.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Write the scores as JSON.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="vqa, gqa or nlvr2: score files of results, without a model.")
    ] = None,
    questions: Annotated[Path | None, _file("Official questions (vqa, gqa).")] = None,
    annotations: Annotated[Path | None, _file("Official annotations (vqa).")] = None,
    results: Annotated[Path | None, _file("Your results (vqa).")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Your predictions: for --data without a model, or --metric gqa, nlvr2."),
    ] = None,
    choices: Annotated[Path | None, _file("Official choices, for validity (gqa).")] = None,
    scene_graphs: Annotated[Path | None, _file("Scene graphs, for grounding (gqa).")] = None,
    attentions: Annotated[Path | None, _file("Your attention, for grounding (gqa).")] = None,
    examples: Annotated[Path | None, _file("Official examples (nlvr2).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Score a model on questions about images, from pixels, by question type; or eyes on boxes.

    Beside it stands what guessing without an image reaches: the most frequent answer to the
    identical question, and the most frequent of all. With --predictions and no model: score what
    `lxmert predict` wrote. With --metric: score anybody's files by the official rules.
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
    if metric is not None:
        if any(given is not None for given in (model, data, images, training, limit)):
            raise ValueError("--metric scores files without a model: leave out model and --data")
        _score_files(metric, paths, output, as_json=as_json)
        return
    if model is None and data is not None and predictions is not None and len(paths) == 1:
        if images is not None or limit is not None:
            raise ValueError("--predictions need no images: leave out --images and --limit")
        _score_predictions(data, predictions, training, output, as_json=as_json)
        return
    if model is None or data is None or images is None:
        raise ValueError(
            "name a model with --data and --images, or --data with --predictions, or a --metric "
            "with its files"
        )
    if paths:
        raise ValueError("files of results need --metric vqa, gqa or nlvr2, or stand without model")
    _evaluate_model(
        model, data, images, training=training, limit=limit, output=output, as_json=as_json
    )


def _score_files(
    metric: str, paths: dict[str, Path], output: Path | None, *, as_json: bool
) -> None:
    """Score files of results by official rules."""
    from lxmert.files import to_json
    from lxmert.workflows.scoring import score

    scores = score(metric, **paths)
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
    output: Path | None,
    as_json: bool,
) -> None:
    """Score a model from pixels."""
    from lxmert.hub import find_model
    from lxmert.workflows.evaluation import evaluate_answers, evaluate_detector, evaluate_statements
    from lxmert.workflows.submission import judges_statements

    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}: ask at least 1 question")
    if data.suffix == ".json":
        if training is not None or limit is not None:
            raise ValueError(
                "--training and --limit are for questions, not for eyes: leave them out"
            )
        _write_scores(evaluate_detector(Path(model), data, images), output, as_json=as_json)
        return
    folder = find_model(model)
    if judges_statements(folder):
        if training is not None:
            raise ValueError("--training is for questions, not for statements: leave it out")
        with show_progress("examples") as progress:
            scores = evaluate_statements(folder, data, images, limit=limit, progress=progress)
        _write_scores(scores, output, as_json=as_json)
        return
    with show_progress("questions") as progress:
        report = evaluate_answers(
            model, data, images, training=training, limit=limit, progress=progress
        )
    _log(report, output, as_json=as_json)


def _log(report: "AnswerReport", output: Path | None, *, as_json: bool) -> None:
    """Write and print the scores of answers."""
    from lxmert.files import to_json

    _write(report, output)
    if as_json:
        print(to_json(report))
    else:
        show_scores(report)


def _write_scores(scores: dict[str, float], output: Path | None, *, as_json: bool) -> None:
    """Write scores as JSON, if asked for, and print them."""
    from lxmert.files import to_json

    _write(scores, output)
    if as_json:
        print(to_json(scores))
        return
    for name, score in scores.items():
        say(f"{name:24} {score:.3f}")


def _write(report: object, output: Path | None) -> None:
    """Write a report as JSON, if that is asked for."""
    from lxmert.files import to_json, write_text

    if output is not None:
        write_text(output, to_json(report, indent=1) + "\n")
