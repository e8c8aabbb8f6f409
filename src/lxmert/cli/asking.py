"""Commands that use a model: `ask`, `match`, `predict`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lxmert.cli.inputs import check_device, check_image
from lxmert.cli.options import (
    AnswerList,
    Device,
    ImageArgument,
    ImageFolder,
    Json,
    Model,
    ModelArgument,
    RegionExtractor,
    RegionStores,
    check_source,
)
from lxmert.cli.outputs import check_figure, check_output
from lxmert.cli.sharding import Actors, Address, Engine, Join, Share, check_engine, write_shards
from lxmert.names import count
from lxmert.terminal import say, show_explanation, show_matches, show_progress

if TYPE_CHECKING:
    from lxmert.pipeline import LxmertPipeline


def ask(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... [QUESTION]...",
            help="Image files or URLs, then questions in quotes. Without a question: read from the "
            "terminal, one per line.",
        ),
    ],
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
    """Answer questions about images, with the relevance of each region.

    Says if an answer is the same without the image. --json prints one object per question. The
    bundled model answers in ONNX Runtime, and in PyTorch with --device.

    Example: lxmert ask examples/scene.png "What color is the ball?"
    """
    import time

    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: ask for at least 1 answer")
    from lxmert.questions import sort_arguments

    images, questions = sort_arguments(arguments)
    if figure is not None:
        if len(images) > 1 or len(questions) != 1:
            raise ValueError(f"--figure {figure} shows one answer: name one image and one question")
        check_figure(figure, "--figure", *images, answers)
    check_device(device)
    for image in images:
        check_image(image)
    from lxmert.explain.figures import save_image
    from lxmert.files import to_json
    from lxmert.hub import find_fast_model
    from lxmert.pipeline import LxmertPipeline

    fast = find_fast_model(model, extractor=extractor, answers=answers, device=device)
    pipeline = LxmertPipeline.from_pretrained(
        fast, extractor=extractor, answers=answers, device=device
    )
    if questions:
        _extract_all(pipeline, images)
    for question in questions or _read_questions():
        for image in images:
            started = time.perf_counter()
            found = pipeline.answer(image, question, top_k=top_k)
            seconds = time.perf_counter() - started
            if as_json:
                named = {"image": image, "question": question}
                print(to_json({**named, **found.to_dict(), "seconds": round(seconds, 4)}))
                continue
            if len(images) > 1:
                say(f"\n{image}")
            show_explanation(found, seconds, figure)
            if figure is not None:
                save_image(found.draw(), figure)


def _extract_all(pipeline: "LxmertPipeline", images: Sequence[str]) -> None:
    """Put the regions of images into the cache, and free the detector before the model is used."""
    if pipeline.answering is None:  # exported models load their graphs one by one
        return
    from lxmert.regions.extract import DetectorExtractor

    extractor = pipeline.processor.extractor
    if isinstance(extractor, DetectorExtractor) and pipeline.processor.cache is not None:
        for image in images:
            pipeline.regions(image)
        extractor.release()


def _read_questions() -> Iterator[str]:
    """Yield the lines of the standard input; an empty line ends a conversation in a terminal."""
    prompt = "\nquestion (empty to stop): " if sys.stdin.isatty() else ""
    while True:
        try:
            # What is piped or written to a file has the answers only.
            with redirect_stdout(sys.stdout if sys.stdout.isatty() else sys.stderr):
                question = input(prompt).strip()
        except EOFError:
            return
        if question:
            yield question
        elif prompt:
            return


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

    Needs a model with a matching head: the bundled one, which knows captions of its scenes, or a
    pretrained one.
    """
    import time

    check_device(device)
    from lxmert.files import to_json
    from lxmert.hub import find_fast_model
    from lxmert.pipeline import LxmertPipeline

    fast = find_fast_model(model, extractor=extractor, answers=None, device=device)
    pipeline = LxmertPipeline.from_pretrained(fast, extractor=extractor, device=device)
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
    data: Annotated[
        Path,
        typer.Option(help="Questions, with or without answers: JSONL, CSV or JSON array."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write. Default: print the predictions."),
    ] = None,
    images: ImageFolder = None,
    regions: RegionStores = None,
    form: Annotated[
        Literal["jsonl", "vqa", "gqa", "nlvr2"],
        typer.Option("--format", help="Output format: jsonl, or the one of a leaderboard."),
    ] = "jsonl",
    official: Annotated[
        Path | None,
        typer.Option(
            help="Official question file of a leaderboard; --data must have all its questions."
        ),
    ] = None,
    device: Device = None,
    shard: Share = None,
    join: Join = False,
    engine: Engine = "local",
    address: Address = None,
    actors: Actors = None,
    shard_questions: Annotated[int, typer.Option(help="Questions per shard.")] = 4096,
) -> None:
    """Answer all questions of a file and print or write the predictions.

    A model for statements about two images (NLVR2) judges statements instead. With -o, rerun to
    resume after an interruption.

    Example: lxmert predict MODEL --data questions.jsonl --images photos
    """
    from tempfile import TemporaryDirectory

    from lxmert.cluster.prediction import join_predictions, predict_file, prediction_job
    from lxmert.devices import choose_device
    from lxmert.workflows.prediction import Prediction, read_questions

    check_engine(engine, shard=shard, join=join, address=address, actors=actors)
    check_device(device, model)
    check_source(images, regions)
    in_shards = engine == "ray" or shard is not None or join
    if output is not None:
        check_output(output, "-o", data, official)
    elif in_shards:
        raise ValueError("shards are written next to the predictions: name their file with -o FILE")
    stores = tuple(regions or ())
    with TemporaryDirectory() as folder:
        file = output or Path(folder, "predictions")
        prediction = Prediction(model, data, file, images, stores, form, official, shard_questions)
        if in_shards:
            corpus = read_questions(prediction)
            if not join:
                job = prediction_job(prediction, corpus)
                write_shards(
                    job, "question", shard=shard, address=address, actors=actors, device=device
                )
            if shard is not None:
                return
            number = join_predictions(prediction, corpus)
        else:
            with show_progress("questions") as progress:
                number = predict_file(prediction, device=choose_device(device), progress=progress)
        if output is None:
            print(file.read_text(encoding="utf-8"), end="")
        else:
            say(f"{output}: answers to {count(number, 'question')}")
