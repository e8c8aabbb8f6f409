"""The commands `lxmert lab ...`: scenes of the miniature world, and sweeps over recipes."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from lxmert.cli.options import report_failures
from lxmert.cli.outputs import check_figure, check_output, check_output_folder
from lxmert.terminal import say, show_progress


def make(
    kinds: Annotated[
        list[str], typer.Argument(help="What to say about the images: qa, captions, pairs.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    split: Annotated[
        str,
        typer.Option(
            help="train, valid, test, or compositional, with pairs of color and object that the "
            "others never show; they share no scene."
        ),
    ] = "train",
    count: Annotated[int, typer.Option(help="Number of images, at least 8 for pairs.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed makes other scenes.")] = 2019,
    rounds: Annotated[
        int | None,
        typer.Option(help="Most questions of each question type for each image; left out: 6."),
    ] = None,
    question_type: Annotated[
        list[str] | None,
        typer.Option(
            help="Only questions of this question type; may be given several times: what, color, size, "
            "material, count, exist, place, relation, same, share, compare, two-step."
        ),
    ] = None,
    captions: Annotated[
        int | None, typer.Option(help="Captions for each image; left out: 4.")
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(help="Statements, each about four pairs of images; left out: 1000."),
    ] = None,
    objects: Annotated[
        tuple[int, int],
        typer.Option(
            help="Fewest and most objects put on a table, within 1 to 8; those that others hide "
            "are taken off again."
        ),
    ] = (3, 8),
) -> None:
    """Render scenes, with boxes and texts in the formats of users' custom data.

    For example: lxmert lab make qa captions --split train --count 2000 -o scenes/train
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
                f"--{option} is for {SETTINGS[name]}, which is not to be made: add "
                f"{SETTINGS[name]}, or leave --{option} out"
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
    lines = (f"{number:,} lines in {KINDS[kind]}" for kind, number in counts.items())
    say(f"{output}: {', '.join([f'{count:,} images', *lines])}")


def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data set of `scenes make`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Image to write.")],
    count: Annotated[
        int | None,
        typer.Option(help="Number of scenes, drawn at random; left out: 12, or all of fewer."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws others.")] = 0,
) -> None:
    """Draw a contact sheet: scenes with their boxes, and some of what is said about them."""
    from lxmert.lab.scenes.sheet import save_sheet

    check_figure(output, "--output")
    save_sheet(folder, output, count=count, seed=seed)
    say(f"{output}: scenes of {folder}")


def sweep(
    recipe: Annotated[Path, typer.Argument(help="Sweep in TOML, or the name of a bundled one.")],
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
    report_failures(reasons, "runs failed (logs are beside the folders)")
