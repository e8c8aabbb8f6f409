"""The commands `lxmert lab drawings ...`: pretraining of a start for custom data."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.outputs import check_figure, check_output_folder
from lxmert.terminal import say


def show(
    output: Annotated[Path, typer.Option("-o", "--output", help="Image to write.")],
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Draw a contact sheet of drawings with some of their questions."""
    from lxmert.lab.drawings.sheet import save_sheet

    check_figure(output, "--output")
    save_sheet(output, seed=seed)
    say(f"{output}: 12 drawings")


def train(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key, such as optim.steps=2000. Repeatable."),
    ] = None,
) -> None:
    """Pretrain a grid extractor and a model on drawings. Rerun to resume.

    `lxmert train custom` can start from the result: --set model.init_from=OUTPUT
    """
    from lxmert.lab.drawings.task import train_on_drawings

    check_output_folder(output, "--output")
    train_on_drawings(output, override or ())
