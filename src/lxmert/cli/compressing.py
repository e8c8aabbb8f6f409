"""The command `compress`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import (
    Device,
    ImageFolder,
    Json,
    Limit,
    ModelArgument,
    OutputFolder,
    RegionStores,
    check_source,
)
from lxmert.cli.outputs import check_output_folder
from lxmert.cli.reports import print_report
from lxmert.terminal import say, show_progress


def _share(encoder: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        help=f"Share of the {encoder} weights to set to zero, the smallest first."
    )
    return option


def compress(
    model: ModelArgument,
    output: OutputFolder,
    language: Annotated[float, _share("language encoder's")] = 0.0,
    vision: Annotated[float, _share("object-relationship encoder's")] = 0.0,
    cross: Annotated[float, _share("cross-modality encoder's")] = 0.0,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers to keep of the language, relationship and cross-modality encoder, evenly "
            "spaced, such as 9,5,3. Default: all."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Questions with answers, to compare the accuracy on."),
    ] = None,
    images: ImageFolder = None,
    regions: RegionStores = None,
    limit: Limit = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Compress a model: prune its weights by encoder, drop layers; with size, time and accuracy.

    Zero weights take space and time as before in PyTorch; dropped layers do not. To train a smaller
    model that imitates a larger one, set objectives.teacher in a recipe.
    """
    if data is not None:
        check_source(images, regions)
    elif images is not None or regions or limit is not None:
        raise ValueError("--images, --regions and --limit belong to --data: add it, or drop them")
    check_output_folder(output, "-o", model, data)
    from lxmert.devices import choose_device
    from lxmert.workflows.compression import compress_model, describe, parse_layers

    with show_progress("questions") as progress:
        report = compress_model(
            model,
            output,
            shares={"language": language, "vision": vision, "cross": cross},
            layers=parse_layers(layers),
            data=data,
            images=images,
            stores=tuple(regions or ()),
            limit=limit,
            device=choose_device(device),
            progress=progress,
        )
    print_report(
        report, lambda found: say("\n".join([*describe(found), str(output)])), as_json=as_json
    )
