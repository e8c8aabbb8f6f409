"""Options that several commands share, and how what failed is reported."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.terminal import show_failures

Model = Annotated[
    str | None,
    typer.Option("--model", help="Model folder or hub name; left out: the bundled model."),
]
RegionExtractor = Annotated[
    Path | None,
    typer.Option(
        "--extractor",
        help="Detector of a model that comes without: folder or published file; remembered.",
    ),
]
ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="An image: file or web address.")
]
AnswerList = Annotated[
    Path | None,
    typer.Option(
        "--answers", help="List of the answers of a model that does not name them; remembered."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Names of methods with commas between, or all; left out: all but the slowest."
    ),
]


Rest = Annotated[list[str] | None, typer.Argument(hidden=True, metavar="")]


def check_quoted(question: str, rest: list[str] | None) -> None:
    """Refuse a question whose words are arguments of their own."""
    if rest:
        words = " ".join([question, *rest])
        raise ValueError(
            f"the question is {question!r}, and {len(rest)} more words follow: put it in quotes, "
            f'as in "{words}"'
        )


def split_names(names: str | None) -> list[str]:
    """Return the names of a list with commas; none if there is no list."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def report_failures(reasons: list[str], outcome: str) -> None:
    """Show what failed while the rest was done, and end with exit code 3 if anything did."""
    if reasons:
        show_failures(reasons, outcome)
        raise typer.Exit(3)
