"""Commands about data sets: `fetch`, `data build`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.terminal import say, show_downloads, show_made, show_progress


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="vqa, gqa, nlvr2, coco-captions, vg-regions, vg-qa, visual7w, pretraining (all "
            "that the paper uses); of the 2019 code: original-vqa, original-gqa, "
            "original-pretraining, original-minival, original-answers, original-coco-features, "
            "original-gqa-features, original-nlvr2-features.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", help="Folder for all downloads.")],
    mirrors: Annotated[
        list[str] | None,
        typer.Option("--mirror", help="Web folder that has the files; tried first; repeatable."),
    ] = None,
    local: Annotated[
        Path | None,
        typer.Option("--from", help="Folder that has the files, instead of the web."),
    ] = None,
) -> None:
    """Fetch official files of data sets; what was cut off goes on, what is whole stays."""
    from lxmert.datasets import fetching
    from lxmert.datasets.downloads import check_name
    from lxmert.datasets.sources import SOURCES

    for name in names:
        check_name(name, SOURCES, "download")
    if local is not None and mirrors:
        raise ValueError("--mirror is for the web and --from is instead of it: leave one out")
    remotes = list(dict.fromkeys(remote for name in names for remote in SOURCES[name]))
    with show_downloads() as progress:
        for fetched in fetching.fetch(
            remotes, output, mirrors=tuple(mirrors or ()), local=local, progress=progress
        ):
            state = f"from {fetched.origin}" if fetched.new else "is there"
            for file, size in fetched.files.items():
                say(f"{output / file}: {size:,} bytes, {state}")


def build(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="vqa, gqa, gqa-submission, nlvr2, coco-captions, vg-regions, vg-qa, visual7w, "
            "pretraining (all that the paper uses, images joined); original-vqa, original-gqa, "
            "original-nlvr2, original-pretraining (the 2019 code's files).",
        ),
    ],
    source: Annotated[
        Path, typer.Option("--from", help="Folder of the official files (see `lxmert fetch`).")
    ],
    output: Annotated[Path, typer.Option("-o", help="Folder in which NAME is made.")],
    regions: Annotated[
        list[Path] | None,
        typer.Option(help="Region store of the images, whose ids they get; may be repeated."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out sentences whose image has no regions."),
    ] = False,
    minival: Annotated[
        Path | None,
        typer.Option(
            help="Images of val2014 to hold out: mscoco_minival.json, minival.json, or one name a "
            "line; left out: about 5,000, chosen by name."
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Answer list to use, such as trainval_label2ans.json, all_ans.json."),
    ] = None,
    num_answers: Annotated[
        int, typer.Option(help="Answers of the pretraining table, if no list is given.")
    ] = 9500,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Make training files from official downloads, with counts beside the published ones."""
    from dataclasses import asdict

    from lxmert.datasets.builders import BUILDERS
    from lxmert.datasets.downloads import check_name
    from lxmert.datasets.making import Options, make_data
    from lxmert.files import to_json

    if num_answers < 1:
        raise ValueError(f"--num-answers is {num_answers}: at least 1 is needed")
    if allow_missing and not regions:
        raise ValueError("--allow-missing needs --regions: without a store no image is missed")
    for name in names:
        check_name(name, BUILDERS, "data set")
    if answers is not None and len(names) > 1:
        raise ValueError(
            f"--answers is the list of one data set, but {' and '.join(names)} are named: build "
            "each of them with its own"
        )
    options = Options(tuple(regions or ()), allow_missing, minival, answers, num_answers)
    for name in names:
        with show_progress("sentences") as progress:
            made = make_data(name, source, output, options, progress=progress)
        if as_json:
            print(to_json(asdict(made), default=str))
        else:
            show_made(asdict(made))
