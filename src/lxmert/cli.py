"""The command `lxmert`: one thin function per command; heavy imports stay inside of them."""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.terminal import (
    check_figure,
    check_output,
    hide_weight_bars,
    quiet_libraries,
    show_explanation,
    show_failures,
    show_matches,
    show_official_scores,
    show_progress,
    show_report,
    show_scores,
    show_verdict,
    show_warning,
)

app = typer.Typer(
    name="lxmert",
    help="Ask questions about pictures: LXMERT, from pixels to answers and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
scenes = typer.Typer(help="The miniature world: rendered pictures with questions.")
app.add_typer(scenes, name="scenes")

Model = Annotated[
    str | None,
    typer.Option("--model", help="Model folder or hub name; left out: the bundled model."),
]
Eyes = Annotated[
    Path | None,
    typer.Option(
        "--eyes",
        help="Detector of a model that comes without: folder or published file; remembered.",
    ),
]
Picture = Annotated[str, typer.Argument(metavar="IMAGE", help="A picture: file or web address.")]


@app.command()
def ask(
    image: Picture,
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    model: Model = None,
    eyes: Eyes = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="List of the answers of a model that does not name them; remembered."),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many answers to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Save a picture with the regions drawn on it.")
    ] = None,
) -> None:
    """Answer a question about a picture, and show what the answer rests on."""
    import time

    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: ask for at least 1 answer")
    if figure is not None:
        check_figure(figure)
    from lxmert.pipeline import LxmertPipeline

    hide_weight_bars()
    pipeline = LxmertPipeline.from_pretrained(model, eyes=eyes, answers=answers)
    started = time.perf_counter()
    explanation = pipeline.explain(image, question, top_k=top_k)
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps({**explanation.to_dict(), "seconds": round(seconds, 4)}))
    else:
        show_explanation(explanation, seconds, figure)
    if figure is not None:
        explanation.draw().save(figure)


@app.command()
def match(
    image: Picture,
    captions: Annotated[
        list[str], typer.Argument(metavar="CAPTION...", help="What it may show; one or more.")
    ],
    model: Model = None,
    eyes: Eyes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Rank captions by how probable it is that they describe a picture.

    Needs weights of a pretraining, named with --model; the bundled model can only answer.
    """
    import time

    from lxmert.pipeline import LxmertPipeline

    hide_weight_bars()
    pipeline = LxmertPipeline.from_pretrained(model, eyes=eyes)
    started = time.perf_counter()
    scores = pipeline.match(image, captions)
    seconds = time.perf_counter() - started
    ranked = sorted(zip(captions, scores, strict=True), key=lambda pair: -pair[1])
    if as_json:
        rows = [{"caption": caption, "score": round(score, 6)} for caption, score in ranked]
        print(json.dumps({"captions": rows, "seconds": round(seconds, 4)}))
    else:
        show_matches(ranked, seconds)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change one key, such as optim.lr=5e-5.")
    ] = None,
) -> None:
    """Train what a recipe says; the same command again resumes an interrupted run.

    With two processes on two cores: torchrun --standalone --nproc-per-node 2 -m lxmert train ...
    """
    from lxmert.tasks.registry import TASKS, build_task
    from lxmert.train.loop import train as run
    from lxmert.train.settings import read_recipe

    hide_weight_bars()
    settings = read_recipe(recipe, TASKS, overrides=override or ())
    task = build_task(settings.task, settings.settings, seed=settings.seed, folder=output)
    run(settings, task, output)


@app.command()
def extract(
    images: Annotated[Path, typer.Argument(help="Folder of pictures; those below it count too.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Region store to write.")],
    eyes: Annotated[
        Path | None,
        typer.Option(
            help="Folder of trained eyes, or a published detector; left out: the bundled eyes."
        ),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Of the stored features.")
    ] = "float16",
    num_regions: Annotated[
        str | None,
        typer.Option(help="Regions of each picture, such as 36 or 10-100; left out: as trained."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "exact"],
        typer.Option(
            help="fp32; bf16 for half the time at 1 % other features; exact for the same bits "
            "beside any other pictures."
        ),
    ] = "fp32",
    workers: Annotated[int, typer.Option(help="Threads that read pictures.")] = 2,
    figures: Annotated[
        Path | None, typer.Option(help="Folder to draw each picture with its regions into.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Ways of a published detector: caffe (if left out), detectron2 or hf."),
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(help="Its objects' names, one a line, if not beside its file.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Its attributes' names, one a line.")
    ] = None,
) -> None:
    """Find the regions of all pictures in a folder; run it again to go on after an interruption.

    Exit code 3: some pictures have no regions; which and why is told at the end and in the store.
    """
    from lxmert.workflows.extraction import (
        ExtractionSettings,
        extract_folder,
        load_eyes,
        parse_num_regions,
    )

    number = None if num_regions is None else parse_num_regions(num_regions)
    settings = ExtractionSettings(dtype, number, workers, figures)
    found = load_eyes(
        eyes, precision=precision, preset=preset, objects=objects, attributes=attributes
    )
    with show_progress("pictures") as progress:
        store = extract_folder(images, output, found, settings, progress=progress)
    print(f"{output}: regions of {len(store)} images")
    _report_failures([failure.reason for failure in store.failures], "have no regions")


def _report_failures(reasons: list[str], outcome: str) -> None:
    """Show what failed while the rest was done, and end with exit code 3 if anything did."""
    if reasons:
        show_failures(reasons, outcome)
        raise typer.Exit(3)


def _file(text: str) -> typer.models.OptionInfo:
    """Return an option for an official file."""
    option: typer.models.OptionInfo = typer.Option(help=text, rich_help_panel="With --metric")
    return option


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Argument(help="Model folder or hub name.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL file of questions with answers; for eyes, COCO-format JSON."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their pictures.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training questions, for the blind guess beside it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only so many questions, drawn at random.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Write the scores as JSON.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="vqa, gqa or nlvr2: score files of results, without a model.")
    ] = None,
    questions: Annotated[Path | None, _file("Official questions (vqa, gqa).")] = None,
    annotations: Annotated[Path | None, _file("Official annotations (vqa).")] = None,
    results: Annotated[Path | None, _file("Your results (vqa).")] = None,
    predictions: Annotated[Path | None, _file("Your predictions (gqa, nlvr2).")] = None,
    choices: Annotated[Path | None, _file("Official choices, for validity (gqa).")] = None,
    scene_graphs: Annotated[Path | None, _file("Scene graphs, for grounding (gqa).")] = None,
    attentions: Annotated[Path | None, _file("Your attention, for grounding (gqa).")] = None,
    examples: Annotated[Path | None, _file("Official examples (nlvr2).")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel="With --metric")
    ] = False,
) -> None:
    """Score a model on questions about pictures, from pixels, by family; or eyes on boxes.

    With --metric: score anybody's files of results by the official rules, without a model.
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
    if metric is not None:
        if any(given is not None for given in (model, data, images, training, limit)):
            raise ValueError("--metric scores files without a model: leave out model and --data")
        _score_files(metric, paths, output, as_json=as_json)
        return
    if model is None or data is None or images is None:
        raise ValueError("name a model with --data and --images, or a --metric with its files")
    if paths or as_json:
        raise ValueError("files of results and --json need --metric vqa, gqa or nlvr2")
    _evaluate_model(model, data, images, training=training, limit=limit, output=output)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions; answers are not needed.")],
    images: Annotated[Path, typer.Option(help="Folder of their pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSONL file to write.")],
) -> None:
    """Answer every question of a file, and write the answers to another one."""
    from lxmert.workflows.prediction import predict_file

    check_output(output, "-o")
    hide_weight_bars()
    with show_progress("questions") as progress:
        count = predict_file(model, data, images, output, progress=progress)
    print(f"{output}: answers to {count} questions")


def _score_files(
    metric: str, paths: dict[str, Path], output: Path | None, *, as_json: bool
) -> None:
    """Score files of results by official rules."""
    from lxmert.workflows.scoring import score

    if output is not None:
        check_output(output, "-o")
    scores = score(metric, **paths)
    if output is not None:
        output.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(scores))
    else:
        names = " with ".join(path.name for path in paths.values())
        show_official_scores(f"{metric}: {names}", scores)


def _evaluate_model(
    model: str,
    data: Path,
    images: Path,
    *,
    training: Path | None,
    limit: int | None,
    output: Path | None,
) -> None:
    """Score a model from pixels."""
    from lxmert.workflows.evaluation import evaluate_answers, evaluate_eyes

    hide_weight_bars()
    if output is not None:
        check_output(output, "-o")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}: ask at least 1 question")
    if data.suffix == ".json":
        if training is not None or limit is not None:
            raise ValueError(
                "--training and --limit are for questions, not for eyes: leave them out"
            )
        scores = evaluate_eyes(Path(model), data, images)
        if output is not None:
            output.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        for name, score in scores.items():
            print(f"{name:24} {score:.3f}")
        return
    with show_progress("questions") as progress:
        report = evaluate_answers(
            model, data, images, training=training, limit=limit, progress=progress
        )
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show_scores(report["accuracy"], report["blind"], report["count"])


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Weights: a parameter file of 2019 or a model folder. Regions: a TSV file, a "
            "folder of .npz files or a region store."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(help="Folder or store to write; FILE.pth for 2019's form; FILE.tsv."),
    ],
    answers: Annotated[
        Path | None, typer.Option(help="List of the model's answers, which travel with it then.")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads; left out: one for each 64 of the width.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Weights that may be left over or stay random, such as cls.predictions."),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(help="Of a store's features; left out: float32."),
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(help="What made the regions: models refuse those of another.")
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(help="Names of the objects of a TSV file, one a line.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Names of its attributes, one a line.")
    ] = None,
) -> None:
    """Convert weights or regions from one format to another; what they are, their content tells.

    Exit code 3: some lines or files of regions are damaged; the rest was converted.
    """
    from lxmert.workflows.conversion import Choices
    from lxmert.workflows.conversion import convert as run

    hide_weight_bars()
    choices = Choices(answers, heads, tuple(allow or ()), dtype, extractor, objects, attributes)
    with show_progress("converted") as progress:
        converted = run(source, target, choices, progress=progress)
    print(f"{target}: converted from {source}")
    for note in converted.notes:
        print(f"note: {note}")
    _report_failures([failure.reason for failure in converted.failures], "were left out")


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Region store, model or detector.")],
    images: Annotated[
        Path | None, typer.Option(help="Photos with published regions, for a detector.")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="Their published rows, a TSV file.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Ways of a published detector: caffe (if left out), detectron2 or hf."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check that a store or weights are whole; with photos, that eyes see what was published.

    Exit code 1: something is damaged, or the eyes see otherwise.
    """
    from dataclasses import asdict

    from lxmert.workflows import verification

    if (images is None) != (rows is None):
        raise ValueError("--images and --rows belong together: give both or neither")
    with show_progress("images") as progress:
        verdict = verification.verify(path, progress=progress)
    report = asdict(verdict)
    problems = list(verdict.problems)
    if images is not None and rows is not None and not problems:
        with show_progress("photos") as progress:
            report |= verification.verify_rows(path, images, rows, preset, progress=progress)
        problems += report["problems"]
        report["problems"] = problems
    if as_json:
        print(json.dumps(report))
    else:
        show_verdict(report)
    if problems:
        raise typer.Exit(1)


@app.command()
def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="Model, parameter file, detector, region store, TSV file, .npz files or tokenizer"
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what a file or folder is and what is in it; nothing of it is run."""
    from lxmert.workflows.inspection import inspect

    report = inspect(path)
    if as_json:
        print(json.dumps(report.to_dict()))
        return
    show_report(f"{report.path}: {report.kind}", report.facts, report.parameters)
    for note in report.notes:
        print(f"\nnote: {note}")


@scenes.command("make")
def make_scenes(
    split: Annotated[str, typer.Argument(help="train, valid or test; they share no scene.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    count: Annotated[int, typer.Option(help="Number of pictures.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed makes other scenes.")] = 2019,
    rounds: Annotated[int, typer.Option(help="Questions of each family for each picture.")] = 6,
    captions: Annotated[int, typer.Option(help="Captions for each picture.")] = 4,
) -> None:
    """Render scenes, with boxes, questions and captions in the formats of users' own data."""
    from lxmert.scenes.dataset import make_dataset

    with show_progress("pictures") as progress:
        make_dataset(
            output,
            split=split,
            count=count,
            seed=seed,
            rounds=rounds,
            captions=captions,
            progress=lambda done: progress(done, count),
        )
    print(f"{output}: {count} pictures with boxes, questions and captions")


def main() -> None:
    """Run the command line; a mistake of the user's is one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            app()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"lxmert: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
