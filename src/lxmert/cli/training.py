"""The commands `train` and `ablate`."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import report_failures
from lxmert.terminal import check_output, check_output_folder, hide_weight_bars, show_stages


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

    hide_weight_bars()
    check_output_folder(output, "--output")
    options = {"strict": strict or None, "limit_images": limit_images}
    settings = read_with_options(recipe, override or (), options)
    try:
        with show_stages() as progress:
            train_recipe(settings, output, progress=progress)
    except UntidyData as problem:
        typer.echo(f"lxmert: {problem}", err=True)
        raise typer.Exit(1) from problem


def ablate(
    recipe: Annotated[Path, typer.Argument(help="Recipe of an ablation in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of all runs.")],
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, one core each.")] = 1,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the scores; needs lxmert\\[explain].")
    ] = None,
) -> None:
    """Train every row of a comparison with every seed; the same command again goes on.

    The table is in OUTPUT/report.md and report.json after each run.
    A run that fails leaves the others alone; then the exit code is 3.
    """
    from lxmert.explain.plots import check_plot
    from lxmert.lab.ablation import (
        check_inputs,
        check_plan,
        collect,
        make_plan,
        read_ablation,
    )
    from lxmert.lab.ablation_report import (
        MARKDOWN_NAME,
        check_report,
        draw_report,
        write_report,
    )
    from lxmert.lab.ablation_runs import Standing, run_plan
    from lxmert.locks import FolderLock

    hide_weight_bars()
    check_output_folder(output, "--output")
    if figure is not None:
        check_plot(figure)
        check_output(figure, "--figure")
    ablation = read_ablation(recipe)
    plan = make_plan(ablation, output)
    check_plan(plan)
    check_inputs(plan)
    check_report(ablation, output)

    def changed(standing: Standing) -> None:
        write_report(ablation, collect(ablation, plan), output, failed=standing.failed)
        print(standing.reported(), file=sys.stderr)

    output.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(output)):
        failed = run_plan(plan, jobs=jobs, changed=changed)
    if figure is not None:
        draw_report(ablation, collect(ablation, plan), figure)
    print((output / MARKDOWN_NAME).read_text(encoding="utf-8"), end="")
    reasons = [f"{run.folder}: {why}" for run, why in failed.items()]
    report_failures(reasons, "runs failed (logs are beside the folders)")
