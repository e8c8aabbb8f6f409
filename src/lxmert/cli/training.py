"""The commands `train` and `ablate`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.terminal import check_figure, hide_weight_bars, show_progress


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


def ablate(
    recipe: Annotated[Path, typer.Argument(help="Recipe of an ablation in TOML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of all runs.")],
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, one core each.")] = 1,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the scores; needs lxmert[plots].")
    ] = None,
) -> None:
    """Train every row of a comparison with every seed; the same command again goes on.

    The table is in OUTPUT/report.md and report.json after each run.
    """
    from lxmert.workflows.ablation import check_plan, collect, make_plan, read_ablation, run_plan
    from lxmert.workflows.ablation_report import draw_report, new_figure, write_report

    hide_weight_bars()
    if figure is not None:
        check_figure(figure)
        new_figure(1, 1)  # without matplotlib this shall fail before hours of training
    ablation = read_ablation(recipe)
    plan = make_plan(ablation, output)
    check_plan(plan)
    with show_progress("runs") as progress:

        def finished(done: int, total: int) -> None:
            write_report(ablation, collect(ablation, plan), output)
            progress(done, total)

        run_plan(plan, jobs=jobs, finished=finished)
    if figure is not None:
        draw_report(ablation, collect(ablation, plan), figure)
    print((output / "report.md").read_text(encoding="utf-8"), end="")
