"""Prints reports as text or JSON, and writes them as JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def print_report(report: T, show: Callable[[T], None], *, as_json: bool) -> None:
    """Print a report as JSON, or by `show`."""
    from lxmert.files import to_json

    if as_json:
        print(to_json(report))
    else:
        show(report)


def write_report(report: object, output: Path | None) -> None:
    """Write a report as JSON if `output` is given."""
    from lxmert.files import to_json, write_text

    if output is not None:
        write_text(output, to_json(report, indent=1) + "\n")
