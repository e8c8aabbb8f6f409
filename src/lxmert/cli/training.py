"""The commands `train` and `recipes`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.inputs import check_recipe
from lxmert.cli.options import Device, Overrides, RunFolder
from lxmert.cli.outputs import check_output_folder
from lxmert.terminal import show_stages


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="TOML file, or a name listed by `lxmert recipes`."),
    ],
    output: RunFolder,
    override: Overrides = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Custom data: treat warnings about the data as errors (exit code 1)."
        ),
    ] = False,
    limit_images: Annotated[
        int | None,
        typer.Option(help="Custom data: number of images to train on, drawn at random."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Custom data: time for trials and training, such as 2m or 2h.  [default: 30m]"
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Train a model from a recipe. Rerun to resume.

    Several processes: torchrun --standalone --nproc-per-node 2 -m lxmert train ...
    """
    check_output_folder(output, "--output")
    check_recipe(recipe, override or ())
    cpu = _trains_on_cpu(device)
    from lxmert.tasks.custom_files import UntidyData
    from lxmert.workflows.training import read_with_options, train_recipe

    options = {"strict": strict or None, "limit_images": limit_images, "budget": budget}
    settings = read_with_options(recipe, override or (), options)
    try:
        with show_stages() as progress:
            train_recipe(settings, output, cpu=cpu, progress=progress)
    except UntidyData as problem:
        typer.echo(f"lxmert: {problem}", err=True)
        raise typer.Exit(1) from problem


def _trains_on_cpu(device: str | None) -> bool:
    """Return whether to leave GPUs alone; each process takes the GPU of its number otherwise."""
    from lxmert.devices import choose_device

    if device is None or choose_device(device) == "cpu":
        return device == "cpu"
    if device != choose_device():
        raise ValueError(
            f"--device is {device}, expected cpu or {choose_device()}: each process trains on the "
            "GPU of its number; to choose one, set CUDA_VISIBLE_DEVICES"
        )
    return False


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Recipe to print, such as custom.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")
    ] = False,
) -> None:
    """List the bundled recipes, or print one: lxmert recipes custom > mine.toml."""
    from lxmert.files import to_json
    from lxmert.names import unknown_name
    from lxmert.train.recipes import bundled_recipes, recipe_schema, summarize_recipe

    bundled = bundled_recipes()
    if schema:
        from lxmert.tasks.registry import TASKS

        typer.echo(to_json(recipe_schema(TASKS), indent=2))
    elif name is None:
        width = max(map(len, bundled))
        for known, path in bundled.items():
            typer.echo(f"{known:{width}}  {summarize_recipe(path)}")
    elif name in bundled:
        typer.echo(bundled[name].read_text(encoding="utf-8"), nl=False)
    else:
        raise ValueError(f"recipe {unknown_name(name, bundled)}")
