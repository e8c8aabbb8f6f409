"""Options shared by several commands, and the report of partial failures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lxmert.cli.inputs import check_answers, check_extractor, check_image, check_model, check_stores
from lxmert.names import count
from lxmert.terminal import say, show_failures

if TYPE_CHECKING:
    from lxmert.cluster.shards import Receipt

TAKES_REST = {"allow_extra_args": True}
"""Context settings of commands that check for unquoted questions themselves."""

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Image file or URL.", callback=check_image)
]
Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="Question about the image, in quotes.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Model folder or Hugging Face hub name. Default: the bundled model.",
        callback=check_model,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model folder or Hugging Face hub name.", callback=check_model
    ),
]
RegionExtractor = Annotated[
    Path | None,
    typer.Option(
        "--extractor",
        help="Region extractor, for a model that comes without one: a folder or a published "
        "detector file. `lxmert convert` writes both into one folder.",
        callback=check_extractor,
    ),
]
AnswerList = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        help="Answer list, for a model that comes without one.",
        callback=check_answers,
    ),
]
ImageFolder = Annotated[Path | None, typer.Option("--images", help="Image folder.")]
RegionStores = Annotated[
    list[Path] | None,
    typer.Option(
        "--regions",
        help="Region store to use instead of images. Repeatable.",
        callback=check_stores,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="Device: cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one."
    ),
]
Share = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Write a share of the shards only, from 0/N to N-1/N, as one of N jobs; then join "
        "them with --join.",
    ),
]
Join = Annotated[bool, typer.Option("--join", help="Join the shards of all jobs.")]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="ray: on all devices of a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Address of the Ray cluster. Default: start one here."),
]
Actors = Annotated[
    int | None,
    typer.Option("--actors", help="Ray processes with a model each. Default: one for each device."),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Comma-separated relevance methods, or all. Default: all but the slowest.",
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        help="Sets of words and regions from which Shapley values are estimated. Fewer are faster, "
        "but lower T-SHAP: compare values from equal numbers only.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def check_quoted(question: str, rest: list[str]) -> None:
    """Raise `ValueError` if further arguments show that a question was not quoted."""
    if rest:
        words = " ".join([question, *rest])
        raise ValueError(
            f"the question is {question!r}, but {count(len(rest), 'more argument')} "
            f'{"follows" if len(rest) == 1 else "follow"}: quote the question, as in "{words}"'
        )


def check_samples(samples: int) -> None:
    """Raise `ValueError` for too few samples."""
    if samples < 1:
        raise ValueError(f"--samples is {samples}: expected at least 1")


def check_source(images: Path | None, regions: list[Path] | None) -> None:
    """Raise `ValueError` unless either images or region stores are given."""
    if (images is None) == (not regions):
        raise ValueError("expected either --images FOLDER or --regions STORE")


def split_names(names: str | None) -> list[str]:
    """Return the names in a comma-separated list; an empty list for None."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def report_failures(reasons: list[str], title: str) -> None:
    """Print the failures of an otherwise finished job under a title, and exit with code 3."""
    if reasons:
        show_failures(reasons, title)
        raise typer.Exit(3)


def check_engine(
    engine: str, *, shard: str | None, join: bool, address: str | None, actors: int | None
) -> None:
    """Raise `ValueError` for options of several engines."""
    if engine != "ray" and (address is not None or actors is not None):
        name = "--actors" if address is None else "--address"
        raise ValueError(f"{name} is for Ray: add --engine ray, or leave it out")
    chosen = [
        name
        for name, given in (("--engine ray", engine == "ray"), ("--shard", shard), ("--join", join))
        if given
    ]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} exclude each other: choose one")
    if actors is not None and actors < 1:
        raise ValueError(f"--actors is {actors}: expected at least 1")


def report_receipts(receipts: "Sequence[Receipt]", noun: str) -> None:
    """Print a line for each shard that was written."""
    for receipt in receipts:
        failed = f", {len(receipt.failures)} failed" if receipt.failures else ""
        say(
            f"shard {receipt.shard}: {count(receipt.done, noun)}{failed}, "
            f"{receipt.seconds:.1f} s on {receipt.worker}"
        )
