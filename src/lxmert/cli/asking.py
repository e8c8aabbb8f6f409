"""Commands that use a model: `ask`, `match`, `predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.options import (
    AnswerList,
    Device,
    ImageArgument,
    ImageFolder,
    Json,
    Model,
    ModelArgument,
    Question,
    RegionExtractor,
    RegionStores,
    check_quoted,
    check_source,
)
from lxmert.cli.outputs import check_figure, check_output
from lxmert.names import count
from lxmert.terminal import say, show_explanation, show_matches, show_progress


def ask(
    context: typer.Context,
    image: ImageArgument,
    question: Question,
    model: Model = None,
    extractor: RegionExtractor = None,
    answers: AnswerList = None,
    top_k: Annotated[int, typer.Option(help="Number of answers to show.")] = 5,
    figure: Annotated[
        Path | None, typer.Option(help="Save the image with its regions drawn on it.")
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Answer a question about an image, with the relevance of each region.

    Example: lxmert ask examples/scene.png "What color is the ball?"
    """
    import time

    from lxmert.files import to_json

    check_quoted(question, context.args)
    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: ask for at least 1 answer")
    if figure is not None:
        check_figure(figure, "--figure", image, answers)
    from lxmert.devices import choose_device
    from lxmert.explain.figures import save_image
    from lxmert.pipeline import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained(
        model, extractor=extractor, answers=answers, device=choose_device(device)
    )
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
        list[str], typer.Argument(metavar="CAPTION...", help="One or more captions, in quotes.")
    ],
    model: Model = None,
    extractor: RegionExtractor = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Rank captions by the probability that they describe an image.

    Needs a pretrained model with a matching head (--model); the bundled model only answers
    questions.
    """
    import time

    from lxmert.devices import choose_device
    from lxmert.files import to_json
    from lxmert.pipeline import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained(
        model, extractor=extractor, device=choose_device(device)
    )
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
    model: ModelArgument,
    data: Annotated[Path, typer.Option(help="JSONL file of questions, with or without answers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    images: ImageFolder = None,
    regions: RegionStores = None,
    form: Annotated[
        Literal["jsonl", "vqa", "gqa", "nlvr2"],
        typer.Option("--format", help="Output format: jsonl, or the one of a leaderboard."),
    ] = "jsonl",
    official: Annotated[
        Path | None,
        typer.Option(
            help="Official question file of a leaderboard; all its questions are required."
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Answer all questions of a file and write the predictions.

    A model for statements about two images (NLVR2) judges statements instead.
    """
    from lxmert.devices import choose_device
    from lxmert.workflows.prediction import predict_file

    check_source(images, regions)
    check_output(output, "-o", data, official)
    with show_progress("questions") as progress:
        number = predict_file(
            model,
            data,
            output,
            images=images,
            stores=tuple(regions or ()),
            form=form,
            official=official,
            device=choose_device(device),
            progress=progress,
        )
    say(f"{output}: answers to {count(number, 'question')}")
