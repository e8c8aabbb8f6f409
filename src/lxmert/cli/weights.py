"""Commands for published weights: `weights`, `weights show`, `weights fetch`."""

from typing import Annotated

import typer

from lxmert.cli.options import Json, LocalFiles, Mirrors
from lxmert.cli.reports import print_report
from lxmert.names import did_you_mean
from lxmert.terminal import say, show_published, show_verdict

WeightsName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name in `lxmert weights`, or its hub name.")
]


def list_weights(context: typer.Context, as_json: Json = False) -> None:
    """List the published weights, or fetch them. `--model` takes their names.

    Example: lxmert weights
    """
    if context.invoked_subcommand is not None:
        return
    from lxmert.weights.describing import describe
    from lxmert.weights.table import PUBLISHED

    rows = [describe(name) for name in PUBLISHED]
    print_report(rows, show_published, as_json=as_json)


def show(name: WeightsName, as_json: Json = False) -> None:
    """Show files, addresses, license and scores of published weights.

    Example: lxmert weights show vqa
    """
    from lxmert.weights.describing import describe, describe_lines

    row = describe(_known(name))
    print_report(row, lambda found: say("\n".join(describe_lines(found))), as_json=as_json)


def fetch(
    name: WeightsName,
    mirrors: Mirrors = None,
    local: LocalFiles = None,
) -> None:
    """Fetch published weights and what they need, such as a detector, and check them.

    Resumes an interrupted download. If HF_ENDPOINT is set, it is the address of the hub.

    Example: lxmert weights fetch vqa
    """
    from dataclasses import asdict

    from lxmert.weights.describing import describe_files
    from lxmert.weights.fetching import Sources
    from lxmert.weights.folders import open_published
    from lxmert.workflows.verification import verify

    known = _known(name)
    if local is not None and not local.is_dir():
        raise FileNotFoundError(f"--from {local} is not a folder: name the folder of the files")
    folder = open_published(known, Sources(tuple(mirrors or ()), local))
    for line in describe_files(folder):
        say(line)
    verdict = verify(folder)
    show_verdict(asdict(verdict))
    if verdict.problems:
        raise ValueError(f"{folder} is damaged: remove it and run the same command again")


def _known(name: str) -> str:
    """Return the row of the table; raise `ValueError` with the nearest name if there is none."""
    from lxmert.weights.table import PUBLISHED, find_name

    known = find_name(name)
    if known is None:
        hint = f"{did_you_mean(name, PUBLISHED)} choose one of {', '.join(PUBLISHED)}"
        raise ValueError(f"no published weights {name!r}: {hint.lstrip()}")
    return known
