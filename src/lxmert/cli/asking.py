"""Commands that ask a model: `ask`, `match`, `predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.options import AnswerList, ImageArgument, Model, RegionExtractor, Rest, check_quoted
from lxmert.cli.outputs import check_figure, check_output
from lxmert.terminal import say, show_explanation, show_matches, show_progress


def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    rest: Rest = None,
    model: Model = None,
    extractor: RegionExtractor = None,
    answers: AnswerList = None,
    top_k: Annotated[int, typer.Option(help="How many answers to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Save an image with the regions drawn on it.")
    ] = None,
) -> None:
    """Answer a question about an image, and show what the answer rests on."""
    import time

    from lxmert.files import to_json

    check_quoted(question, rest)
    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: ask for at least 1 answer")
    if figure is not None:
        check_figure(figure, "--figure", image, answers)
    from lxmert.explain.figures import save_image
    from lxmert.pipeline import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained(model, extractor=extractor, answers=answers)
    started = time.perf_counter()
    explanation = pipeline.explain(image, question, top_k=top_k, methods=["occlusion"])
    seconds = time.perf_counter() - started
    if as_json:
        print(to_json({**explanation.to_dict(), "seconds": round(seconds, 4)}))
    else:
        show_explanation(explanation, seconds, figure)
    if figure is not None:
        save_image(explanation.draw(), figure)


def match(
    image: ImageArgument,
    captions: Annotated[
        list[str], typer.Argument(metavar="CAPTION...", help="What it may show; one or more.")
    ],
    model: Model = None,
    extractor: RegionExtractor = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Rank captions by how probable it is that they describe an image.

    Needs weights of a pretraining, named with --model; the bundled model can only answer.
    """
    import time

    from lxmert.files import to_json
    from lxmert.pipeline import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained(model, extractor=extractor)
    started = time.perf_counter()
    scores = pipeline.match(image, captions)
    seconds = time.perf_counter() - started
    ranked = sorted(zip(captions, scores, strict=True), key=lambda pair: -pair[1])
    if as_json:
        rows = [{"caption": caption, "score": round(score, 6)} for caption, score in ranked]
        print(to_json({"captions": rows, "seconds": round(seconds, 4)}))
    else:
        show_matches(ranked, seconds)


def predict(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions; answers are not needed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    regions: Annotated[
        list[Path] | None,
        typer.Option(help="Region store of their images, instead of these; may be repeated."),
    ] = None,
    form: Annotated[
        Literal["jsonl", "vqa", "gqa", "nlvr2"],
        typer.Option("--format", help="jsonl, or that of a leaderboard: vqa, gqa, nlvr2."),
    ] = "jsonl",
    official: Annotated[
        Path | None,
        typer.Option(help="The leaderboard's own file of questions, all of which it wants."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to compute; left out: a GPU if there is one.")
    ] = None,
) -> None:
    """Answer every question of a file, and write the answers to another one.

    A model of statements about two images (NLVR2) judges every statement of it.
    """
    import torch

    from lxmert.workflows.submission import Asked, submit

    if (images is None) == (not regions):
        raise ValueError("name either the images with --images, or their --regions")
    check_output(output, "-o", data, official)
    asked = Asked(data, images, tuple(regions or ()), official)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with show_progress("questions") as progress:
        count = submit(model, asked, output, form, device=where, progress=progress)
    say(f"{output}: answers to {count} questions")
