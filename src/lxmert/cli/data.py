"""Commands for datasets: `examples`, `fetch`, `data build`, `boxes`, `shift`, `shuffle`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import Json, LocalFiles, Mirrors, OutputFolder, RequiredImages, Seed
from lxmert.names import count
from lxmert.terminal import say, show_downloads, show_made, show_progress


def examples(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path(
        "examples"
    ),
) -> None:
    """Copy six example images, their questions and the bundled model into a folder.

    The commands of the documentation use this folder.
    """
    from lxmert.cli.outputs import check_output_folder
    from lxmert.workflows.examples import MODEL_FOLDER, copy_examples

    check_output_folder(output, "--output")
    for path in copy_examples(output):
        if path.parent == output:
            say(str(path))
    say(f"{output / MODEL_FOLDER}: the bundled model")


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="vqa, gqa, nlvr2, coco-captions, vg-regions, vg-qa, visual7w, or pretraining "
            "(all datasets of the paper); vqa-cp, vsr, vsr-zeroshot. Files of the original code: "
            "original-vqa, original-gqa, original-pretraining, original-minival, "
            "original-answers, original-coco-features, original-gqa-features, "
            "original-nlvr2-features.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all downloads.")],
    mirrors: Mirrors = None,
    local: LocalFiles = None,
) -> None:
    """Download official dataset files. Resumes interrupted downloads, skips complete files."""
    from lxmert.datasets import fetching
    from lxmert.datasets.downloads import check_name
    from lxmert.datasets.sources import SOURCES

    for name in names:
        check_name(name, SOURCES, "download")
    if local is not None and mirrors:
        raise ValueError("--mirror and --from cannot be combined: leave one out")
    remotes = list(dict.fromkeys(remote for name in names for remote in SOURCES[name]))
    with show_downloads() as progress:
        for fetched in fetching.fetch(
            remotes, output, mirrors=tuple(mirrors or ()), local=local, progress=progress
        ):
            state = f"from {fetched.origin}" if fetched.new else "already there"
            for file, size in fetched.files.items():
                say(f"{output / file}: {size:,} bytes, {state}")


def build(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="vqa, gqa, gqa-submission, nlvr2, coco-captions, vg-regions, vg-qa, visual7w, or "
            "pretraining (all datasets of the paper, merged by image). To study models: vqa-cp, "
            "vqa-ce, vqa-rephrasings, gqa-ood, ok-vqa, vizwiz, vsr, vsr-zeroshot, snli-ve. From "
            "files of the original code: original-vqa, original-gqa, original-nlvr2, "
            "original-pretraining.",
        ),
    ],
    source: Annotated[
        Path, typer.Option("--from", help="Folder with the official files (see `lxmert fetch`).")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder in which NAME is created.")
    ],
    regions: Annotated[
        list[Path] | None,
        typer.Option(help="Region store whose image ids are used. Repeatable."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Skip texts whose image has no regions."),
    ] = False,
    minival: Annotated[
        Path | None,
        typer.Option(
            help="Images of val2014 to hold out: mscoco_minival.json, minival.json, or a file "
            "with one name per line. Default: about 5,000, chosen by name."
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Answer list, such as trainval_label2ans.json or all_ans.json."),
    ] = None,
    num_answers: Annotated[
        int, typer.Option(help="Size of the pretraining answer list, if none is given.")
    ] = 9500,
    as_json: Json = False,
) -> None:
    """Build training files from official downloads, and compare their counts with the paper."""
    from dataclasses import asdict

    from lxmert.datasets.builders import BUILDERS
    from lxmert.datasets.downloads import check_name
    from lxmert.datasets.making import Options, make_data
    from lxmert.files import to_json

    if num_answers < 1:
        raise ValueError(f"--num-answers is {num_answers}: expected at least 1")
    if allow_missing and not regions:
        raise ValueError("--allow-missing needs --regions, the store to look the images up in")
    for name in names:
        check_name(name, BUILDERS, "data set")
    if answers is not None and len(names) > 1:
        raise ValueError(
            f"--answers is the list of one data set, but {count(len(names), 'data set')} are named "
            f"({' and '.join(names)}): build each of them with its own list"
        )
    options = Options(tuple(regions or ()), allow_missing, minival, answers, num_answers)
    for name in names:
        with show_progress("sentences") as progress:
            made = make_data(name, source, output, options, progress=progress)
        if as_json:
            print(to_json(asdict(made), default=str))
        else:
            show_made(asdict(made))


def boxes(
    data: Annotated[
        Path, typer.Argument(metavar="QUESTIONS", help="Questions, some of them with boxes.")
    ],
    images: RequiredImages,
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")],
) -> None:
    """Write the boxes of questions in COCO format, to train a detector on them.

    Example: lxmert data boxes questions.jsonl --images photos -o boxes.json
    """
    from lxmert.cli.outputs import check_output
    from lxmert.workflows.question_boxes import write_question_boxes

    check_output(output, "--output", data)
    num_images, num_boxes = write_question_boxes(data, images, output)
    found = count(num_boxes, "box", "boxes")
    say(f"{output}: {found} in {count(num_images, 'image')}")


def shift(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="QUESTIONS", help="Questions with answers: JSONL, CSV or JSON array."
        ),
    ],
    output: OutputFolder,
    rare: Annotated[
        float, typer.Option(help="Share to keep of the questions with a rare answer.")
    ] = 0.1,
    seed: Seed = 0,
) -> None:
    """Split questions so that answers that are frequent in training are rare in the test.

    Writes train.jsonl, valid.jsonl (with the frequencies of train) and test.jsonl. A model that
    learns which answer is likely, instead of looking at the image, fails on the test.
    """
    from lxmert.cli.outputs import check_output_folder
    from lxmert.data.prior_shift import shift_priors

    check_output_folder(output, "--output", data)
    for name, number in shift_priors(data, output, rare=rare, seed=seed).items():
        say(f"{output / name}.jsonl: {count(number, 'question')}")


def shuffle(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="QUESTIONS", help="Questions with answers: JSONL, CSV or JSON array."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSONL file to write.")],
    seed: Seed = 0,
) -> None:
    """Give every question the answer of another one.

    A model that is trained on them cannot learn what answers have to do with questions and images:
    a sanity check of explanations (lxmert explain-eval --protocol sanity --against).
    """
    from lxmert.cli.outputs import check_output
    from lxmert.data.shuffled_answers import shuffle_answers

    check_output(output, "--output", data)
    number, changed = shuffle_answers(data, output, seed=seed)
    say(f"{output}: {count(number, 'question')}, {changed:,} of them with another answer")
