"""Options shared by several commands, and the report of partial failures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.inputs import check_answers, check_extractor, check_image, check_model, check_stores
from lxmert.names import count
from lxmert.terminal import show_failures

TAKES_REST = {"allow_extra_args": True}
"""Context settings of commands that check for unquoted questions themselves."""

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Image file or URL.", callback=check_image)
]
Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="Question about the image, in quotes.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Model folder or Hugging Face hub name. Default: the bundled model.",
        callback=check_model,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model folder or Hugging Face hub name.", callback=check_model
    ),
]
RegionExtractor = Annotated[
    Path | None,
    typer.Option(
        "--extractor",
        help="Region extractor, for a model that comes without one: a folder or a published "
        "detector file. `lxmert convert` writes both into one folder.",
        callback=check_extractor,
    ),
]
AnswerList = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        help="Answer list, for a model that comes without one.",
        callback=check_answers,
    ),
]
ImageFolder = Annotated[Path | None, typer.Option("--images", help="Image folder.")]
RegionStores = Annotated[
    list[Path] | None,
    typer.Option(
        "--regions",
        help="Region store to use instead of images. Repeatable.",
        callback=check_stores,
    ),
]
RequiredImages = Annotated[Path, typer.Option("--images", help="Image folder.")]
Questions = Annotated[
    Path, typer.Option("--data", help="Questions with answers: JSONL, CSV or JSON array.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", help="Number of examples, drawn at random. Default: all."),
]
OutputFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")]
OutputImage = Annotated[Path, typer.Option("-o", "--output", help="Image to write.")]
OutputReport = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write the results as JSON.")
]
RunFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one key, such as optim.lr=5e-5. Repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.")]
StoredType = Annotated[
    Literal["float16", "float32"],
    typer.Option("--dtype", help="Data type of the stored features."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Preset of a published detector: caffe (default), detectron2 or hf."
    ),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option("--mirror", help="URL of a folder with the files; tried first. Repeatable."),
]
LocalFiles = Annotated[
    Path | None, typer.Option("--from", help="Local folder with files that need no download.")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="Device: cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Comma-separated relevance methods, or all. Default: all but the slowest.",
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        help="Sets of words and regions from which Shapley values are estimated. Fewer are faster, "
        "but lower T-SHAP: compare values from equal numbers only.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def check_quoted(question: str, rest: list[str]) -> None:
    """Raise `ValueError` if further arguments show that a question was not quoted."""
    if rest:
        words = " ".join([question, *rest])
        raise ValueError(
            f"the question is {question!r}, but {count(len(rest), 'more argument')} "
            f'{"follows" if len(rest) == 1 else "follow"}: quote the question, as in "{words}"'
        )


def check_samples(samples: int) -> None:
    """Raise `ValueError` for too few samples."""
    if samples < 1:
        raise ValueError(f"--samples is {samples}: expected at least 1")


def check_source(images: Path | None, regions: list[Path] | None) -> None:
    """Raise `ValueError` unless either images or region stores are given."""
    if (images is None) == (not regions):
        raise ValueError("expected either --images FOLDER or --regions STORE")


def split_names(names: str | None) -> list[str]:
    """Return the names in a comma-separated list; an empty list for None."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def report_failures(reasons: list[str], title: str) -> None:
    """Print the failures of an otherwise finished job under a title, and exit with code 3."""
    if reasons:
        show_failures(reasons, title)
        raise typer.Exit(3)
