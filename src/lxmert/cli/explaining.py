"""Commands that explain: `explain`, `explain-eval`, `attention-figures`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.inputs import check_device
from lxmert.cli.options import (
    AnswerList,
    Device,
    ImageArgument,
    Limit,
    Methods,
    Model,
    ModelArgument,
    Question,
    Questions,
    RegionExtractor,
    RequiredImages,
    Samples,
    check_quoted,
    check_samples,
    split_names,
)
from lxmert.cli.outputs import check_output, check_output_folder
from lxmert.terminal import say, show_heads, show_progress, show_reasons


def explain(
    context: typer.Context,
    image: ImageArgument,
    question: Question,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Interactive report to write (one HTML file)."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Figure for a paper to write: PDF, PNG or SVG.")
    ] = None,
    model: Model = None,
    extractor: RegionExtractor = None,
    answers: AnswerList = None,
    top_k: Annotated[int, typer.Option(help="Number of top answers to explain.")] = 5,
    answer: Annotated[
        list[str] | None, typer.Option(help="Additional answer to explain. Repeatable.")
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option(help="Explain why the best answer (or --answer) and not this one."),
    ] = None,
    as_caption: Annotated[
        bool, typer.Option("--match", help="Explain whether the text describes the image.")
    ] = False,
    second: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Right image, for statements about two images."),
    ] = None,
    methods: Methods = None,
    device: Device = None,
) -> None:
    """Explain answers: relevance of regions and words, and all attention maps.

    Also explains matches (--match) and statements about two images (--second). Prints a table; -o
    writes an interactive report, --figure a figure.
    """
    check_quoted(question, context.args)
    if top_k < 1:
        raise ValueError(f"--top-k is {top_k}: explain at least 1 answer")
    _check_one(contrast, as_caption=as_caption, second=second, model=model)
    if output is not None:
        check_output(output, "-o", image, answers)
        if output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"-o {output} is not an HTML file, which the report is: use "
                f"{output.stem or 'report'}.html, or --figure for a figure"
            )
    if figure is not None:
        check_output(figure, "--figure", image, answers)
    check_device(device)
    from lxmert.devices import choose_device
    from lxmert.explain.methods import QUICK
    from lxmert.explain.plots import check_plot, save_plot
    from lxmert.explaining import explain_match, explain_statement
    from lxmert.files import write_text
    from lxmert.pipeline import LxmertPipeline

    if figure is not None:
        check_plot(figure)
    chosen = split_names(methods) or QUICK
    computing = choose_device(device)
    if second is not None:
        explanation = explain_statement(
            str(model),
            (image, second),
            question,
            methods=chosen,
            extractor=extractor,
            device=computing,
        )
    else:
        pipeline = LxmertPipeline.from_pretrained(
            model, extractor=extractor, answers=answers, device=computing
        )
        if as_caption:
            explanation = explain_match(pipeline, image, question, methods=chosen)
        else:
            explanation = pipeline.explain(
                image,
                question,
                top_k=top_k,
                answers=answer or (),
                methods=chosen,
                contrast=contrast,
            )
    show_reasons(explanation)
    if output is not None:
        write_text(output, explanation.to_html())
        say(f"report: {output}")
    if figure is not None:
        save_plot(explanation.plot(), figure)
        say(f"figure: {figure}")


def _check_one(
    contrast: str | None, *, as_caption: bool, second: str | None, model: str | None
) -> None:
    """Raise `ValueError` for options that do not go together."""
    given = [("--contrast", contrast), ("--match", as_caption or None), ("--second", second)]
    names = [name for name, value in given if value is not None]
    if len(names) > 1:
        raise ValueError(f"{' and '.join(names)} exclude each other: use one of them")
    if second is not None and model is None:
        raise ValueError(
            "--second needs a model that judges statements about two images, which the bundled "
            "one does not: name it with --model"
        )


def explain_eval(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(
            help="Questions with answers: JSONL, CSV or JSON array; 'boxes' add a pointing game."
        ),
    ],
    images: RequiredImages,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results (JSON and a plot).")
    ],
    methods: Methods = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="What is measured: chefer (the default), aopc, sign or sanity."),
    ] = None,
    modalities: Annotated[
        bool,
        typer.Option("--modalities", help="Measure how much words and regions contribute instead."),
    ] = False,
    as_captions: Annotated[
        bool,
        typer.Option(
            "--match", help="With --modalities: matches of the captions and foils of --data."
        ),
    ] = False,
    samples: Samples = 2000,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --protocol sanity: another model, such as one trained on shuffled answers "
            "(lxmert data shuffle).",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of random rankings, which also break ties.")
    ] = 3,
    limit: Limit = None,
    device: Device = None,
) -> None:
    """Measure the faithfulness of explanations, or the contribution of each modality.

    --protocol chefer: accuracy while words or regions are removed in the order of their relevance,
    and how often the most relevant region lies in the box that the question is about.

    --protocol aopc: the answer's probability without, or with only, the most relevant words and
    regions.

    --protocol sign: how often the answer's probability changes against the sign of the top score.

    --protocol sanity: similarity to the explanations of models with random weights, of another
    answer, and of the model of --against.

    --modalities: share of the words in the absolute Shapley values of words and regions (T-SHAP
    of MM-SHAP), for each answer and on average.

    Rerun to resume after an interruption.
    """
    for name, number in (("--seeds", seeds), ("--limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}: expected at least 1")
    check_samples(samples)
    _check_measured(methods, protocol, against, modalities=modalities, as_captions=as_captions)
    check_output_folder(output, "-o", data, images)
    from lxmert.cli.faithfulness_tables import show_faithfulness, show_modalities
    from lxmert.devices import choose_device
    from lxmert.explain.methods import QUICK
    from lxmert.workflows import explanation
    from lxmert.workflows import modalities as contributions

    device = choose_device(device)
    if modalities:
        with show_progress("texts") as progress:
            report = contributions.measure_modalities(
                model,
                data,
                images,
                output,
                match=as_captions,
                limit=limit,
                samples=samples,
                device=device,
                progress=progress,
            )
        show_modalities(report)
        say(f"results: {output / contributions.REPORT}")
        return
    chosen, measured = tuple(split_names(methods) or QUICK), protocol or "chefer"
    numbers = tuple(range(1, seeds + 1))
    subject = explanation.Subject(model, data, images, chosen, numbers, limit, measured, against)
    with show_progress("questions") as progress:
        report = explanation.evaluate_explanations(
            subject, output, device=device, progress=progress
        )
    show_faithfulness(report)
    plot = f", plot: {output / explanation.CURVES}" if measured == "chefer" else ""
    say(f"results: {output / explanation.REPORT}{plot}")


def _check_measured(
    methods: str | None,
    protocol: str | None,
    against: str | None,
    *,
    modalities: bool,
    as_captions: bool,
) -> None:
    """Raise `ValueError` for options that do not go together."""
    if as_captions and not modalities:
        raise ValueError("--match is for --modalities: add it, or leave --match out")
    for name, given in (("--methods", methods), ("--protocol", protocol), ("--against", against)):
        if modalities and given is not None:
            raise ValueError(f"--modalities and {name} exclude each other: leave one of them out")


def attention_figures(
    model: ModelArgument,
    data: Questions,
    images: RequiredImages,
    output: Annotated[Path, typer.Option("-o", "--output", help="Figure: PNG, PDF or SVG.")],
    limit: Annotated[int, typer.Option(help="Number of questions, drawn at random.")] = 200,
    device: Device = None,
) -> None:
    """Plot what each attention head attends to, by pattern (next word, named region, ...)."""
    if limit < 1:
        raise ValueError(f"--limit is {limit}: expected at least 1")
    check_output(output, "-o", data)
    from lxmert.devices import choose_device
    from lxmert.explain.plots import check_plot
    from lxmert.workflows.attention import draw_attention

    check_plot(output)
    with show_progress("questions") as progress:
        found = draw_attention(
            model,
            data,
            images,
            output,
            limit=limit,
            device=choose_device(device),
            progress=progress,
        )
    show_heads(*found)
    say(f"figure: {output}")
