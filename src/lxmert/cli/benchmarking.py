"""The command `benchmark`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lxmert.cli.options import Json, Limit, ModelArgument, OutputReport, split_names
from lxmert.cli.outputs import check_output, check_output_folder
from lxmert.cli.reports import print_report
from lxmert.terminal import make_table, open_console, say


def benchmark(
    model: ModelArgument,
    runtimes: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: torch, transformers, onnxruntime, openvino. Default: all that "
            "are installed. torch in fp32 is always measured."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Questions with answers, to measure the accuracy with."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Image folder of --data.")] = None,
    limit: Limit = None,
    exports: Annotated[
        Path | None,
        typer.Option(
            help="Folder of exported models, in subfolders named like openvino-int8; missing ones "
            "are made. Default: a temporary folder."
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Image folder or region store to measure the ranges of int8 with."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of timing.")] = 7,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each runtime. Default: as many as cores.")
    ] = None,
    output: OutputReport = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the measurements.")] = None,
    as_json: Json = False,
) -> None:
    """Compare a model in every installed runtime and precision.

    Times of one question from pixels, and of 1 and 32 questions with given regions; peak memory;
    size on disk; accuracy and agreement with PyTorch. transformers' class is compared where the
    weights fit. Each runs in a process of its own, in interleaved rounds.
    """
    from lxmert.explain.plots import check_plot
    from lxmert.files import write_json
    from lxmert.workflows.benchmark_figure import draw_benchmark
    from lxmert.workflows.benchmarking import Benchmark
    from lxmert.workflows.benchmarking import benchmark as measure

    inputs = (model, data, images, calibrate)
    if output is not None:
        check_output(output, "-o", *inputs)
    if figure is not None:
        check_plot(figure)
        check_output(figure, "--figure", *inputs)
    if exports is not None:
        check_output_folder(exports, "--exports", *inputs)
    names: Any = split_names(runtimes)
    settings = Benchmark(model, names, data, images, limit, exports, calibrate, rounds, threads)
    report = measure(settings, report=lambda step: say(f"{step} ...", error=True))
    if output is not None:
        write_json(output, report)
    if figure is not None:
        draw_benchmark(report, figure)
    print_report(report, show_benchmark, as_json=as_json)


def show_benchmark(report: Mapping[str, Any]) -> None:
    """Print a `BenchmarkReport`: a row for each variant, and why others are missing."""
    from rich.text import Text

    first = report["rows"][0]
    scored = first["accuracy"] is not None
    sizes = ["\n".join([*name.rsplit(" ", 1), "ms"]) for name in first["ms"]]
    others = ["RAM\n\nMB", "disk\n\nMB", *["right\n\n%"] * scored, "same\n\n%"]
    numbers = (f">{title}" for title in ("from\npixels\nms", *sizes, *others))
    table = make_table("runtime", *numbers, padding=(0, 1, 0, 0))
    table.columns[0].min_width = len("transformers")
    for column in table.columns[-len(others) :]:
        column.no_wrap = True
    for row in report["rows"]:
        table.add_row(
            Text(f"{row['runtime']} {row['precision']}"),
            _time(row["pixels_ms"], first["pixels_ms"]),
            *(_time(ms, first["ms"][size]) for size, ms in row["ms"].items()),
            f"{row['memory_mb']:,.0f}",
            f"{row['disk_mb']:,.{1 if row['disk_mb'] < 99.5 else 0}f}",
            *([f"{100 * row['accuracy']:.1f}"] if scored else []),
            "100" if row["same_answers"] == 1 else f"{100 * row['same_answers']:.1f}",
        )
    console = open_console(highlight=False)
    console.print(table)
    console.print(
        "\n[dim]Median times; in brackets, how many times as fast as torch in fp32. Regions are "
        "given, except in the first column. 5 per image: 32 questions, five about each image. "
        "Same: share of questions with the same answer as the first row.[/]"
    )
    for name, reason in report["not_measured"].items():
        console.print(Text(f"not measured: {name}: {reason}"))


def _time(ms: float | None, reference: float) -> str:
    """Format a time and how many times as fast as the reference it is."""
    if ms is None:
        return ""
    shown = f"{ms:.3g}" if ms < 999.5 else f"{ms:,.0f}"
    return f"{shown} ({reference / ms:.1f})"
