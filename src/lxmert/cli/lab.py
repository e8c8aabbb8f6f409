"""The commands `lxmert lab ...`: synthetic scenes, and sweeps over recipes."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from lxmert.cli.options import OutputFolder, OutputImage, report_failures
from lxmert.cli.outputs import check_figure, check_output, check_output_folder
from lxmert.names import count as count_of
from lxmert.terminal import say, show_progress


def make(
    kinds: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND...", help="Kinds of text to write: qa, captions, pairs, foils."
        ),
    ],
    output: OutputFolder,
    split: Annotated[
        str,
        typer.Option(
            help="train, valid, test, or compositional (combinations of color and object that the "
            "other splits never show). Splits share no scene."
        ),
    ] = "train",
    count: Annotated[int, typer.Option(help="Number of images; at least 8 for pairs.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the scenes.")] = 2019,
    rounds: Annotated[
        int | None,
        typer.Option(help="Maximum questions of each type per image. Default: 6."),
    ] = None,
    question_type: Annotated[
        list[str] | None,
        typer.Option(
            help="Question type to write: what, color, size, material, count, exist, place, "
            "relation, same, share, compare or two-step. Repeatable. Default: all."
        ),
    ] = None,
    captions: Annotated[int | None, typer.Option(help="Captions per image. Default: 4.")] = None,
    groups: Annotated[
        int | None,
        typer.Option(help="Number of statements, each about four image pairs. Default: 1000."),
    ] = None,
    objects: Annotated[
        tuple[int, int],
        typer.Option(
            help="Minimum and maximum number of objects, 1 to 8; hidden objects are removed "
            "afterwards."
        ),
    ] = (3, 8),
) -> None:
    """Render synthetic scenes, with boxes and texts in the custom data formats.

    Example: lxmert lab make qa captions --split train --count 2000 -o scenes/train
    """
    from lxmert.lab.scenes.dataset import KINDS, SETTINGS, SceneSettings, make_dataset

    check_output_folder(output, "--output")
    question_types = tuple(question_type) if question_type else None
    texts = {
        "rounds": rounds,
        "question_types": question_types,
        "captions": captions,
        "groups": groups,
    }
    given: dict[str, Any] = {name: value for name, value in texts.items() if value is not None}
    for name in given:
        if SETTINGS[name] not in kinds:
            option = "question-type" if name == "question_types" else name
            raise ValueError(
                f"--{option} needs the kind {SETTINGS[name]}: add {SETTINGS[name]}, or leave "
                f"--{option} out"
            )
    contents = SceneSettings(
        kinds=tuple(dict.fromkeys(kinds)),
        split=split,
        count=count,
        seed=seed,
        fewest=objects[0],
        most=objects[1],
        **given,
    )
    with show_progress("images") as progress:
        counts = make_dataset(output, contents, progress=lambda done: progress(done, count))
    lines = (f"{count_of(number, 'line')} in {KINDS[kind]}" for kind, number in counts.items())
    say(f"{output}: {', '.join([count_of(count, 'image'), *lines])}")


def show(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Dataset written by `lxmert lab make`.")
    ],
    output: OutputImage,
    count: Annotated[
        int | None,
        typer.Option(help="Number of scenes, drawn at random. Default: 12, or all if fewer."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the draw.")] = 0,
) -> None:
    """Draw a contact sheet of scenes with their boxes and some of their texts."""
    from lxmert.lab.scenes.sheet import save_sheet

    check_figure(output, "--output")
    save_sheet(folder, output, count=count, seed=seed)
    say(f"{output}: scenes of {folder}")


def sweep(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Sweep (TOML), or the name of a bundled one.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of all runs.")],
    jobs: Annotated[int, typer.Option(min=1, help="Concurrent runs, one core each.")] = 1,
    figure: Annotated[Path | None, typer.Option(help="Figure of the scores to write.")] = None,
) -> None:
    """Train every row of a comparison with every seed. Rerun to resume.

    The table is in OUTPUT/report.md, updated after each run. If a run fails, the others still run,
    and the exit code is 3.
    """
    from lxmert.explain.plots import check_plot
    from lxmert.lab.sweep import check_inputs, check_plan, make_plan, read_sweep, run_plan
    from lxmert.lab.sweep_report import check_report, collect, draw_report, write_report
    from lxmert.locks import FolderLock

    check_output_folder(output, "--output")
    if figure is not None:
        check_plot(figure)
        check_output(figure, "--figure")
    settings = read_sweep(recipe)
    plan = make_plan(settings, output)
    check_plan(plan)
    check_inputs(plan)
    check_report(settings, output)

    def changed(status: str) -> None:
        write_report(settings, collect(settings, plan), output, {})
        say(status, error=True)

    output.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(output)):
        failed = run_plan(plan, jobs=jobs, changed=changed)
        scores = collect(settings, plan)
        say(write_report(settings, scores, output, failed).rstrip())
    if figure is not None:
        draw_report(settings, scores, figure)
    reasons = [f"{run.folder}: {why}" for run, why in failed.items()]
    title = f"{count_of(len(reasons), 'run')} failed (logs are next to the folders)"
    report_failures(reasons, title)
