"""Commands of the miniature world."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.terminal import show_progress


def make(
    split: Annotated[str, typer.Argument(help="train, valid or test; they share no scene.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    count: Annotated[int, typer.Option(help="Number of pictures.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed makes other scenes.")] = 2019,
    rounds: Annotated[int, typer.Option(help="Questions of each family for each picture.")] = 6,
    captions: Annotated[int, typer.Option(help="Captions for each picture.")] = 4,
) -> None:
    """Render scenes, with boxes, questions and captions in the formats of users' own data."""
    from lxmert.scenes.dataset import make_dataset

    with show_progress("pictures") as progress:
        make_dataset(
            output,
            split=split,
            count=count,
            seed=seed,
            rounds=rounds,
            captions=captions,
            progress=lambda done: progress(done, count),
        )
    print(f"{output}: {count} pictures with boxes, questions and captions")
