"""The command `extract`: images to regions."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lxmert.cli.inputs import check_device
from lxmert.cli.options import Device, Preset, StoredType, report_failures
from lxmert.cli.outputs import check_output_folder
from lxmert.cli.sharding import Actors, Address, Engine, Join, Share, check_engine, write_shards
from lxmert.names import count
from lxmert.terminal import say, show_progress


def extract(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Image folder, searched recursively.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Region store to write.")],
    extractor: Annotated[
        Path | None,
        typer.Option(
            help="Region extractor: a folder, also of an exported model, or a published detector "
            "file. Default: the one of the bundled model."
        ),
    ] = None,
    dtype: StoredType = "float16",
    num_regions: Annotated[
        str | None,
        typer.Option(
            help="Regions per image, such as 36 or 10-100. Default: as in the extractor's "
            "configuration."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "exact"],
        typer.Option(
            help="fp32; bf16: faster, slightly different features; exact: bit-identical results "
            "for any batch."
        ),
    ] = "fp32",
    workers: Annotated[int, typer.Option(help="Number of image-loading threads.")] = 2,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for drawings of the images with their regions.")
    ] = None,
    preset: Preset = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            help="Object names of a published detector, one per line. Default: the list next to "
            "its file."
        ),
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Attribute names of a published detector, one per line.")
    ] = None,
    device: Device = None,
    shard: Share = None,
    join: Join = False,
    engine: Engine = "local",
    address: Address = None,
    actors: Actors = None,
    shard_images: Annotated[int, typer.Option(help="Images per shard of the store.")] = 1024,
) -> None:
    """Extract the regions of all images in a folder into a region store.

    Rerun to resume after an interruption. Exit code 3: some images have no regions; the reasons
    are printed at the end and kept in the store.
    """
    from lxmert.cluster.extraction import Loading, extraction_job, join_shards
    from lxmert.devices import choose_device
    from lxmert.workflows.extraction import (
        ExtractionSettings,
        extract_folder,
        find_images,
        parse_num_regions,
    )

    check_engine(engine, shard=shard, join=join, address=address, actors=actors)
    check_output_folder(output, "-o", images, extractor)
    if figures is not None:
        check_output_folder(figures, "--figures", images, extractor)
    check_device(device, extractor)
    number = None if num_regions is None else parse_num_regions(num_regions)
    settings = ExtractionSettings(dtype, number, workers, figures, shard_images)
    loading = Loading(extractor, precision, preset, objects, attributes)
    if engine == "ray" or shard is not None or join:
        if not join:
            job = extraction_job(images, output, loading, settings)
            write_shards(job, "image", shard=shard, address=address, actors=actors, device=device)
        if shard is not None:
            return
        store = join_shards(output, find_images(images), shard_images)
    else:
        with show_progress("images") as progress:
            store = extract_folder(
                images, output, loading.load(choose_device(device)), settings, progress=progress
            )
    say(f"{output}: regions of {count(len(store), 'image')}")
    reasons = [failure.reason for failure in store.failures]
    report_failures(reasons, f"{count(len(reasons), 'image')} without regions")
