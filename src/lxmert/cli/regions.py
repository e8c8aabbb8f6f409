"""The command `extract`: images to regions."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.options import report_failures
from lxmert.cli.outputs import check_output_folder
from lxmert.terminal import say, show_progress


def extract(
    images: Annotated[Path, typer.Argument(help="Folder of images; those below it count too.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Region store to write.")],
    extractor: Annotated[
        Path | None,
        typer.Option(
            help="Folder of trained eyes, or a published detector; left out: the bundled eyes."
        ),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Of the stored features.")
    ] = "float16",
    num_regions: Annotated[
        str | None,
        typer.Option(help="Regions of each image, such as 36 or 10-100; left out: as trained."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "exact"],
        typer.Option(
            help="fp32; bf16 to be faster with slightly other features; exact for the same bits "
            "beside any other images."
        ),
    ] = "fp32",
    workers: Annotated[int, typer.Option(help="Threads that read images.")] = 2,
    figures: Annotated[
        Path | None, typer.Option(help="Folder to draw each image with its regions into.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Ways of a published detector: caffe (if left out), detectron2 or hf."),
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(help="Its objects' names, one a line, if not beside its file.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Its attributes' names, one a line.")
    ] = None,
) -> None:
    """Find the regions of all images in a folder; run it again to go on after an interruption.

    Exit code 3: some images have no regions; which and why is reported at the end and in the store.
    """
    from lxmert.workflows.extraction import (
        ExtractionSettings,
        extract_folder,
        load_eyes,
        parse_num_regions,
    )

    check_output_folder(output, "-o", images, extractor)
    if figures is not None:
        check_output_folder(figures, "--figures", images, extractor)
    number = None if num_regions is None else parse_num_regions(num_regions)
    settings = ExtractionSettings(dtype, number, workers, figures)
    found = load_eyes(
        extractor, precision=precision, preset=preset, objects=objects, attributes=attributes
    )
    with show_progress("images") as progress:
        store = extract_folder(images, output, found, settings, progress=progress)
    say(f"{output}: regions of {len(store)} images")
    report_failures([failure.reason for failure in store.failures], "have no regions")
