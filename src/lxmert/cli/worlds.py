"""The commands `lxmert lab worlds ...`: a suite of small synthetic data sets."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import Json, Seed
from lxmert.cli.outputs import check_figure, check_output_folder
from lxmert.names import count as count_of
from lxmert.terminal import say, show_progress


def make(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder; each world gets a subfolder.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Worlds to make. Default: all of the suite."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="Training images, at least 20. Default: depends on the world."),
    ] = None,
    seed: Seed = 2019,
    boxes: Annotated[
        bool,
        typer.Option("--boxes", help="Also write the boxes of the things that questions name."),
    ] = False,
) -> None:
    """Make small worlds: images with questions for training, validation and test.

    Complete worlds are not changed; rerun to resume.

    Example: lxmert lab worlds make counting bars --images 500 -o runs/worlds
    """
    from lxmert.lab.worlds.suite import WORLDS, check_world, make_world

    check_output_folder(output, "--output")
    chosen = list(dict.fromkeys(names or WORLDS))
    for name in chosen:
        check_world(name)
    for name in chosen:
        with show_progress("images") as progress:
            made = make_world(
                name, output / name, images=images, seed=seed, boxes=boxes, progress=progress
            )
        counts = ", ".join(f"{number:,} {split}" for split, number in made.items())
        say(f"{output / name}: {counts} questions")


def show(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of worlds, as written by make.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Contact sheet to write.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the accuracy of baselines without an image in each world; draw a contact sheet.

    Majority: the most frequent training answer of the question type. Question only: that of the
    identical question.
    """
    from lxmert.files import to_json
    from lxmert.lab.worlds.sheet import find_worlds, save_sheet, score_baselines

    if output is not None:
        check_figure(output, "--output")
    worlds = find_worlds(folder)
    scores = {world.name: score_baselines(world) for world in worlds}
    if as_json:
        print(to_json({name: [row._asdict() for row in rows] for name, rows in scores.items()}))
    else:
        columns = "questions  answers  majority  question only"
        say(f"{'world and question type':<32}{columns}")
        for name, rows in scores.items():
            for row in rows:
                numbers = f"{row.questions:9,}  {row.answers:7,}"
                shares = f"{row.majority:8.1%}  {row.question_only:13.1%}"
                say(f"{name + ' ' + row.type:<32}{numbers}  {shares}")
    if output is not None:
        save_sheet(worlds, output)
        say(f"{output}: {count_of(len(worlds), 'world')} of {folder}", error=as_json)
