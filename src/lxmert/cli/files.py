"""Commands about files: `convert`, `verify`, `info`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.options import report_failures
from lxmert.terminal import say, show_progress, show_report, show_verdict


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Weights: a parameter file of the original code or a model folder. Regions: a TSV file, a "
            "folder of .npz or TSV files, or a region store."
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
    fingerprint: Annotated[
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
    from lxmert.files import check_not_input
    from lxmert.workflows.conversion import Choices
    from lxmert.workflows.conversion import convert as run

    inputs = (source, answers, objects, attributes)
    check_not_input(target, inputs, option="TARGET")
    choices = Choices(answers, heads, tuple(allow or ()), dtype, fingerprint, objects, attributes)
    with show_progress("converted") as progress:
        converted = run(source, target, choices, progress=progress)
    say(f"{target}: converted from {source}")
    for note in converted.notes:
        say(f"note: {note}")
    report_failures([failure.reason for failure in converted.failures], "were left out")


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

    from lxmert.files import to_json
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
        print(to_json(report))
    else:
        show_verdict(report)
    if problems:
        raise typer.Exit(1)


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
    from lxmert.files import to_json
    from lxmert.workflows.inspection import inspect

    report = inspect(path)
    if as_json:
        print(to_json(report.to_dict()))
        return
    show_report(f"{report.path}: {report.kind}", report.facts, report.parameters)
    for label, findings in (("problem", report.problems), ("note", report.notes)):
        for finding in findings:
            say(f"\n{label}: {finding}")
