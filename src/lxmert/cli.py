"""The command `lxmert`: one thin function per command; heavy imports stay inside of them."""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from lxmert.pipeline import Explanation

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
        _check_figure(figure)
    from lxmert.pipeline import LxmertPipeline

    _hide_weight_bars()
    pipeline = LxmertPipeline.from_pretrained(model)
    started = time.perf_counter()
    explanation = pipeline.explain(image, question, top_k=top_k)
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps({**explanation.to_dict(), "seconds": round(seconds, 4)}))
    else:
        _show(explanation, seconds, figure)
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

    _hide_weight_bars()
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

    with _progress("regions") as progress:
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

    _hide_weight_bars()
    if output is not None:
        _check_output(output, "-o")
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
    with _progress("questions") as progress:
        report = evaluate_answers(
            model, data, images, training=training, limit=limit, progress=progress
        )
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _show_scores(report["accuracy"], report["blind"], report["count"])


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

    with _progress("pictures") as progress:
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


def _check_figure(path: Path) -> None:
    """Refuse a figure that could not be saved, before anything is computed for it."""
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"--figure {path} has no ending of a picture: try {path.stem or 'out'}.png"
        )
    _check_output(path, "--figure")


def _check_output(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before anything is computed for it."""
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}; make it first")


def _quiet_libraries() -> None:
    """Keep other libraries' chatter off the terminal; ours goes through our own loggers."""
    for name in ("httpx", "huggingface_hub", "torch.distributed", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _hide_weight_bars() -> None:
    """Keep transformers from drawing a bar each time that weights are read or written."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line beside the output proper."""
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, highlight=False).print(f"[bold yellow]Warning:[/] {escape(str(message))}")


@contextmanager
def _progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with speed and time left, on a terminal only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)


def _show(explanation: "Explanation", seconds: float, figure: Path | None) -> None:
    """Print answers and regions as two tables."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    best = explanation.answers[0].answer
    question = (explanation.question, "bold")
    console.print(Text.assemble("\n", question, "  ", (best, "bold green"), "\n"))
    answers = Table(box=None, pad_edge=False)
    for title, side in (("answer", "left"), ("probability", "right"), ("", "left")):
        answers.add_column(title, justify=side, header_style="dim")  # type: ignore[arg-type]
    for answer in explanation.answers:
        answers.add_row(Text(answer.answer), f"{answer.score:.1%}", "█" * round(30 * answer.score))
    console.print(answers)
    regions = Table(box=None, pad_edge=False)
    for title, side in (("region", "left"), ("seen with", "right"), ("answer rests on it", "left")):
        regions.add_column(title, justify=side, header_style="dim")  # type: ignore[arg-type]
    for index in sorted(range(len(explanation.labels)), key=lambda i: -explanation.relevance[i]):
        score, relevance = explanation.regions.object_scores[index], explanation.relevance[index]
        bar = "█" * round(30 * max(0.0, relevance))
        regions.add_row(Text(explanation.labels[index]), f"{score:.0%}", f"{relevance:+.0%} {bar}")
    console.print()
    console.print(regions)
    console.print(f"\n[dim]answered in {seconds:.2f} s[/]")
    if figure is not None:
        console.print(Text(f"picture with the regions: {figure}", style="dim"))


def _show_scores(accuracy: dict[str, float], blind: dict[str, float], count: int) -> None:
    """Print accuracy by family beside the blind guess."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("family", header_style="dim")
    table.add_column("accuracy", justify="right", header_style="dim")
    if blind:
        table.add_column("blind guess", justify="right", header_style="dim")
    for family, score in accuracy.items():
        row = [family, f"{score:.1%}"]
        table.add_row(Text(row[0]), *row[1:], *([f"{blind[family]:.1%}"] if blind else []))
    console = Console()
    console.print(table)
    console.print(f"{count} questions")


def main() -> None:
    """Run the command line; a mistake of the user's is one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quiet_libraries()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"lxmert: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
