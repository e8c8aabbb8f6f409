"""Options shared by several commands, and the report of partial failures."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.names import count
from lxmert.terminal import show_failures

TAKES_REST = {"allow_extra_args": True}
"""Context settings of commands that check for unquoted questions themselves."""

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Image file or URL.")]
Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="Question about the image, in quotes.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Model folder or Hugging Face hub name. Default: the bundled model."
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model folder or Hugging Face hub name.")
]
RegionExtractor = Annotated[
    Path | None,
    typer.Option(
        "--extractor",
        help="Region extractor, for a model that comes without one: a folder or a published "
        "detector file. `lxmert convert` writes both into one folder.",
    ),
]
AnswerList = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        help="Answer list, for a model that comes without one.",
    ),
]
ImageFolder = Annotated[Path | None, typer.Option("--images", help="Image folder.")]
RegionStores = Annotated[
    list[Path] | None,
    typer.Option("--regions", help="Region store to use instead of images. Repeatable."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="Device: cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Comma-separated relevance methods, or all. Default: all but the slowest.",
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
