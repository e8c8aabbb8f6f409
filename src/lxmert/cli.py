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
    show_progress,
    show_scores,
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


@app.command()
def ask(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    model: Model = None,
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
    pipeline = LxmertPipeline.from_pretrained(model)
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
    task = build_task(settings.task, settings.settings, seed=settings.seed)
    run(settings, task, output)


@app.command()
def extract(
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Region store to write.")],
    eyes: Annotated[Path, typer.Option(help="Folder of a trained detector.")],
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(help="fp32, or bf16 for half the time at 1 % other features."),
    ] = "fp32",
) -> None:
    """Find the regions of all pictures in a folder; run it again to go on after an interruption."""
    from lxmert.workflows.extraction import extract_folder

    with show_progress("regions") as progress:
        store = extract_folder(images, output, eyes, precision=precision, progress=progress)
    print(f"{output}: regions of {len(store)} images")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    data: Annotated[
        Path, typer.Option(help="JSONL file of questions with answers; for eyes, COCO-format JSON.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of their pictures.")],
    training: Annotated[
        Path | None, typer.Option(help="Training questions, for the blind guess beside it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only so many questions, drawn at random.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Write the scores as JSON.")] = None,
) -> None:
    """Score a model on questions about pictures, from pixels, by family; or eyes on boxes."""
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
            print(f"{name:20} {score:.3f}")
        return
    with show_progress("questions") as progress:
        report = evaluate_answers(
            model, data, images, training=training, limit=limit, progress=progress
        )
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show_scores(report["accuracy"], report["blind"], report["count"])


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
