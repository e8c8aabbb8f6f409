"""Commands about files: `convert`, `verify`, `info`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.inputs import check_readable
from lxmert.cli.options import Device, Json, Preset, report_failures
from lxmert.cli.reports import print_report
from lxmert.names import count
from lxmert.terminal import say, show_progress, show_report, show_verdict


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Weights: an original checkpoint (.pth), a model folder, or a Hugging Face hub "
            "name. Regions: a TSV or Parquet file, a folder of .npz, TSV or WebDataset files, or a "
            "region store. Questions: a data set that Hugging Face's datasets saved.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET",
            help="Model folder, region store, or folder of questions and images to write; FILE.pth "
            "for an original checkpoint, FILE.tsv for a TSV file, FILE.parquet for a Parquet file, "
            "FOLDER.wds for WebDataset.",
        ),
    ],
    answers: Annotated[
        Path | None, typer.Option(help="Answer list to write into the model.")
    ] = None,
    extractor: Annotated[
        Path | None,
        typer.Option(help="Region extractor to write into the model: folder or published file."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Tokenizer to write into the model: folder or vocab.txt."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads. Default: hidden size / 64.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights that may be unused or missing, such as cls.predictions. Repeatable."
        ),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(help="Data type of a store's features. Default: float32."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Extractor fingerprint to store; models reject stores of another extractor."
        ),
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(help="Object names of a TSV file, one per line.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Attribute names of a TSV file, one per line.")
    ] = None,
) -> None:
    """Convert weights, regions or questions; the source format is detected automatically.

    Exit code 3: some regions or images are damaged; the rest was converted.
    """
    from lxmert.files import check_not_input
    from lxmert.workflows.conversion import ConversionOptions
    from lxmert.workflows.conversion import convert as run

    choices = ConversionOptions(
        answers,
        heads,
        tuple(allow or ()),
        dtype,
        fingerprint,
        objects,
        attributes,
        extractor,
        tokenizer,
    )
    inputs = (source, answers, objects, attributes, extractor, tokenizer)
    check_not_input(target, (path for path in inputs if path is not None), option="TARGET")
    with show_progress("converted") as progress:
        converted = run(source, target, choices, progress=progress)
    say(f"{target}: converted from {source}")
    for note in converted.notes:
        say(f"note: {note}")
    reasons = [failure.reason for failure in converted.failures]
    report_failures(reasons, f"{count(len(reasons), 'image')} that cannot be used")


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="Region store, model or detector.", callback=check_readable
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Reference images with published features, to check a detector."),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="TSV file of the published features of these images.")
    ] = None,
    preset: Preset = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Check a region store or checkpoint for damage.

    With reference images (--images and --rows), also compare a detector with published features.
    Exit code 1 on damage or mismatch.
    """
    from dataclasses import asdict

    from lxmert.devices import choose_device
    from lxmert.workflows import verification

    if (images is None) != (rows is None):
        raise ValueError("expected both --images and --rows, or neither")
    with show_progress("images") as progress:
        verdict = verification.verify(path, progress=progress)
    report = asdict(verdict)
    problems = list(verdict.problems)
    if images is not None and rows is not None and not problems:
        with show_progress("photos") as progress:
            report |= verification.verify_rows(
                path, images, rows, preset, device=choose_device(device), progress=progress
            )
        problems += report["problems"]
        report["problems"] = problems
    print_report(report, show_verdict, as_json=as_json)
    if problems:
        raise typer.Exit(1)


def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Model folder, original checkpoint, detector, region store, TSV file, folder of "
            ".npz files, or tokenizer.",
            callback=check_readable,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show the type and contents of a file or folder, without running any code in it."""
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


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all cached regions.")] = False,
    as_json: Json = False,
) -> None:
    """List or clear the cached regions of images.

    `ask`, `explain`, `match`, `predict` and `evaluate` extract the regions of an image once, and
    keep them by image content and extractor. The least recently used are removed above the
    maximum size.
    """
    from lxmert.files import to_json
    from lxmert.regions.cache import DiskCache

    kept = DiskCache()
    if clear:
        say(f"{kept.folder}: {count(kept.clear(), 'image')} removed")
        return
    entries = kept.entries()
    size = sum(entry.size for entry in entries)
    extractors = len({entry.path.parent for entry in entries})
    if as_json:
        found = {
            "folder": str(kept.folder),
            "images": len(entries),
            "extractors": extractors,
            "bytes": size,
            "max_bytes": kept.max_bytes,
        }
        print(to_json(found))
        return
    say(
        f"{kept.folder}: regions of {count(len(entries), 'image')}, by "
        f"{count(extractors, 'extractor')}, {size / 1e6:,.2f} MB of at most "
        f"{kept.max_bytes / 1e6:,.0f} MB"
    )
