"""The command `train`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.outputs import check_output_folder
from lxmert.terminal import show_stages


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change one key, such as optim.lr=5e-5.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Custom data: stop at anything untidy, with exit code 1."),
    ] = False,
    limit_images: Annotated[
        int | None,
        typer.Option(help="Custom data: train on so many of the images, drawn at random."),
    ] = None,
) -> None:
    """Train what a recipe says; the same command again resumes an interrupted run.

    With two processes on two cores: torchrun --standalone --nproc-per-node 2 -m lxmert train ...
    """
    from lxmert.tasks.custom_files import UntidyData
    from lxmert.workflows.training import read_with_options, train_recipe

    check_output_folder(output, "--output")
    options = {"strict": strict or None, "limit_images": limit_images}
    settings = read_with_options(recipe, override or (), options)
    try:
        with show_stages() as progress:
            train_recipe(settings, output, progress=progress)
    except UntidyData as problem:
        typer.echo(f"lxmert: {problem}", err=True)
        raise typer.Exit(1) from problem
