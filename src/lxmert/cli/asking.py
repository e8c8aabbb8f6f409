"""Commands that ask a model: `ask`, `match`, `predict`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import AnswerList, Eyes, Model, Picture
from lxmert.terminal import (
    check_figure,
    check_output,
    hide_weight_bars,
    show_explanation,
    show_matches,
    show_progress,
)


def ask(
    image: Picture,
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    model: Model = None,
    eyes: Eyes = None,
    answers: AnswerList = None,
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
    explanation = pipeline.explain(image, question, top_k=top_k, methods=["occlusion"])
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps({**explanation.to_dict(), "seconds": round(seconds, 4)}))
    else:
        show_explanation(explanation, seconds, figure)
    if figure is not None:
        explanation.draw().save(figure)


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
