"""The command `lxmert`: one thin function per command; heavy imports stay inside of them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="lxmert",
    help="Ask questions about pictures: LXMERT, from pixels to answers and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def lxmert() -> None:
    """Ask questions about pictures: LXMERT, from pixels to answers and why."""


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Change one key: optim.lr=5e-5.")
    ] = None,
) -> None:
    """Train what a recipe says; the same command again resumes an interrupted run."""
    from lxmert.tasks.registry import TASKS, build_task
    from lxmert.train.loop import train as run
    from lxmert.train.settings import read_recipe

    settings = read_recipe(recipe, TASKS, overrides=override or ())
    task = build_task(settings.task, settings.settings, seed=settings.seed)
    run(settings, task, output)


def main() -> None:
    """Run the command line."""
    app()
