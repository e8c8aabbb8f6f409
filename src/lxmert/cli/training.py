"""The command `train`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.terminal import hide_weight_bars


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change one key, such as optim.lr=5e-5.")
    ] = None,
) -> None:
    """Train what a recipe says; the same command again resumes an interrupted run.

    With two processes on two cores: torchrun --standalone --nproc-per-node 2 -m lxmert train ...
    """
    from lxmert.tasks.registry import TASKS, build_task
    from lxmert.train.loop import train as run
    from lxmert.train.settings import read_recipe

    hide_weight_bars()
    settings = read_recipe(recipe, TASKS, overrides=override or ())
    task = build_task(settings.task, settings.settings, seed=settings.seed, folder=output)
    run(settings, task, output)
