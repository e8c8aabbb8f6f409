"""Commands about why: `explain`, `explain-eval`, `attention-figures`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import (
    AnswerList,
    ImageArgument,
    Methods,
    Model,
    RegionExtractor,
    Rest,
    check_quoted,
    split_names,
)
from lxmert.cli.outputs import check_output, check_output_folder
from lxmert.terminal import say, show_faithfulness, show_heads, show_progress, show_reasons


def explain(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    rest: Rest = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Interactive report to write, one file.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Figure for a paper to write: PDF, PNG or SVG.")
    ] = None,
    model: Model = None,
    extractor: RegionExtractor = None,
    answers: AnswerList = None,
    top_k: Annotated[int, typer.Option(help="How many of the best answers to explain.")] = 5,
    answer: Annotated[
        list[str] | None, typer.Option(help="A further answer to explain; may be repeated.")
    ] = None,
    methods: Methods = None,
) -> None:
    """Explain answers to a question: relevance of regions and words, and all attention maps.

    Prints a table; -o and --figure write more.
    """
    check_quoted(question, rest)
    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: explain at least 1 answer")
    if output is not None:
        check_output(output, "-o", image, answers)
        if output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"-o {output} is no name of a report, which is a web page: name "
                f"{output.stem or 'report'}.html; an image is what --figure writes"
            )
    if figure is not None:
        check_output(figure, "--figure", image, answers)
    from lxmert.explain.methods import QUICK
    from lxmert.explain.plots import check_plot, save_plot
    from lxmert.files import write_text
    from lxmert.pipeline import LxmertPipeline

    if figure is not None:
        check_plot(figure)
    pipeline = LxmertPipeline.from_pretrained(model, extractor=extractor, answers=answers)
    explanation = pipeline.explain(
        image, question, top_k=top_k, answers=answer or (), methods=split_names(methods) or QUICK
    )
    show_reasons(explanation)
    if output is not None:
        write_text(output, explanation.to_html())
        say(f"report: {output}")
    if figure is not None:
        save_plot(explanation.plot(), figure)
        say(f"figure: {figure}")


def explain_eval(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    data: Annotated[
        Path, typer.Option(help="JSONL file of questions with answers, better with 'boxes'.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of their images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results as JSON and as a plot.")
    ],
    methods: Methods = None,
    seeds: Annotated[int, typer.Option(help="Random orders; equals are ordered by them too.")] = 3,
    limit: Annotated[
        int | None, typer.Option(help="Only so many questions, drawn at random.")
    ] = None,
) -> None:
    """Test whether explanations are faithful, always beside a random ranking.

    Words and regions are removed in the order of their relevance, the most or the least relevant
    first, and the answers scored anew; and does the most relevant region lie on what is asked
    about? The same command resumes after an interruption.
    """
    for name, number in (("--seeds", seeds), ("--limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}: it must be at least 1")
    check_output_folder(output, "-o", data, images)
    from lxmert.explain.methods import QUICK
    from lxmert.workflows.explanation import CURVES, REPORT, Subject, evaluate_explanations

    chosen = tuple(split_names(methods) or QUICK)
    subject = Subject(model, data, images, chosen, tuple(range(1, seeds + 1)), limit)
    with show_progress("questions") as progress:
        report = evaluate_explanations(subject, output, progress=progress)
    show_faithfulness(report)
    say(f"results: {output / REPORT}, plot: {output / CURVES}")


def attention_figures(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions with answers.")],
    images: Annotated[Path, typer.Option(help="Folder of their images.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Figure: PNG, PDF or SVG.")],
    limit: Annotated[int, typer.Option(help="Only so many questions, drawn at random.")] = 200,
) -> None:
    """Draw what every attention head reads: the next word, the region that a word names, ..."""
    if limit < 1:
        raise ValueError(f"--limit is {limit}: it must be at least 1")
    check_output(output, "-o", data)
    from lxmert.explain.plots import check_plot
    from lxmert.workflows.attention import draw_attention

    check_plot(output)
    with show_progress("questions") as progress:
        found = draw_attention(model, data, images, output, limit=limit, progress=progress)
    show_heads(*found)
    say(f"figure: {output}")
