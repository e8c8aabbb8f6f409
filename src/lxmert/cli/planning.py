"""The command `plan`: how long an extraction takes on given hardware."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lxmert.cli.options import Json, StoredType
from lxmert.names import count
from lxmert.terminal import make_table, open_console, show_progress

if TYPE_CHECKING:
    from lxmert.cluster.planning import Figure, Plan, Rates

_SECONDS = 20.0
"""Time that --measure takes at most."""


def plan(
    images: Annotated[float, typer.Option(help="Number of images, such as 100e6.")],
    device: Annotated[
        str, typer.Option(help="Device: cpu (two cores each), a100, h100, h200 or l4.")
    ] = "cpu",
    num_devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    detector: Annotated[
        str,
        typer.Option(
            help="Region extractor: published or bundled; with --measure also a folder or file."
        ),
    ] = "published",
    rate: Annotated[
        float | None,
        typer.Option(help="Images/s of one device, if you measured them. Default: see above."),
    ] = None,
    cores: Annotated[
        float | None, typer.Option(help="CPU cores for decoding, per GPU. Default: unknown.")
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            help="Bytes/s between all devices and the shared disk, in each direction, such as "
            "10e9. Default: unknown."
        ),
    ] = None,
    image_bytes: Annotated[
        float | None,
        typer.Option(help="Mean size of an image file. Default: that of COCO, 157 kB."),
    ] = None,
    num_regions: Annotated[int, typer.Option(help="Regions per image.")] = 36,
    dtype: StoredType = "float16",
    measure: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Images to measure on this machine, for some 20 seconds: decoding, detection, "
            "writing, sizes.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate time, bytes, memory and the bottleneck of an extraction.

    Without --rate or --measure, a CPU has the rate that the documentation reports, and a GPU the
    upper limit of its data sheet. Every number is printed with its origin.

    Example: lxmert plan --images 100e6 --device h200 --num-devices 64
    """
    from lxmert.cluster.planning import (
        COCO_BYTES,
        Figure,
        Rates,
        Work,
        known_rates,
        make_plan,
        stored_size,
    )
    from lxmert.files import to_json

    if not (1 <= images < float("inf") and images.is_integer()):
        raise ValueError(f"--images is {images:g}: expected a whole number from 1 on")
    if measure is None:
        rates, size = known_rates(detector, device), COCO_BYTES
        stored = stored_size(detector, num_regions, dtype)
    else:
        rates, size, stored = _measure(measure, detector, device, num_regions, dtype)

    def given(value: float | None, option: str) -> Figure | None:
        return None if value is None else Figure(value, "given", option)

    rates = Rates(
        detect=given(rate, "--rate") or rates.detect,
        decode=rates.decode,
        cores=given(cores, "--cores"),
        write=rates.write,
        bandwidth=given(bandwidth, "--bandwidth"),
    )
    size = given(image_bytes, "--image-bytes") or size
    made = make_plan(Work(int(images), device, num_devices, size, stored), rates)
    if as_json:
        print(to_json(made.to_dict()))
    else:
        _show(made)


def _measure(
    folder: Path, detector: str, device: str, num_regions: int, dtype: str
) -> "tuple[Rates, Figure, Figure]":
    """Measure on this machine; return rates, mean size of an image file and of a stored image."""
    from lxmert.cluster.measuring import measure
    from lxmert.devices import choose_device
    from lxmert.workflows.extraction import ExtractionSettings, load_for_extraction

    if detector == "published":
        raise ValueError(
            "--measure runs the region extractor: name its folder or file with --detector, or "
            "pass --detector bundled"
        )
    place = choose_device("cpu" if device == "cpu" else None)
    if (place == "cpu") != (device == "cpu"):
        raise ValueError(
            f"--device is {device}, but this machine has no GPU to measure: run --measure on a "
            "machine with that device, and pass what it prints as --rate"
        )
    path = None if detector == "bundled" else Path(detector)
    extractor = load_for_extraction(path, device=place)
    settings = ExtractionSettings(dtype, num_regions)
    with show_progress("measured") as progress:
        found = measure(folder, extractor, settings, seconds=_SECONDS, progress=progress)
    return found.rates(on_cpu=place == "cpu"), found.image_bytes, found.stored_bytes


def _show(plan: "Plan") -> None:
    """Print the estimate, its stages and the origin of every number."""
    from rich.markup import escape
    from rich.text import Text

    from lxmert.cluster.planning import format_bytes

    console, work = open_console(highlight=False, soft_wrap=True), plan.work
    console.print(
        f"\n[bold]{count(work.images, 'image')} on {work.num_devices:,} x {work.device}: "
        f"{'at least ' if plan.is_limit else ''}{_duration(plan.hours)}[/], "
        f"{_rounded(plan.rate)} images/s, limited by [bold]{plan.bottleneck}[/]"
        f"{', as far as rates are known' if plan.is_limit else ''}\n"
    )
    table = make_table("stage", ">images/s", "to keep up")
    for stage in plan.stages:
        known = "unknown" if stage.rate is None else _rounded(stage.rate)
        table.add_row(Text(stage.name), known, Text(stage.needs))
    console.print(table)
    sizes = make_table(show_header=False)
    sizes.add_column(justify="right")
    sizes.add_column(style="dim")
    for name, size in plan.sizes.items():
        sizes.add_row(format_bytes(size), name)
    console.print()
    console.print(sizes)
    console.print("\n[dim]Numbers used:[/]")
    for name, figure in plan.figures().items():
        if figure is None:
            console.print(f"  {name}: unknown, so the time is a lower bound")
        else:
            origin = escape(f"({figure.kind}: {figure.source})")
            console.print(f"  {name}: {_number(figure.value)} [dim]{origin}[/]")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: float) -> str:
    """Return a number with three digits that count."""
    return _number(float(f"{value:.3g}"))


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{_rounded(hours * 60)} minutes"
    return f"{_rounded(hours)} hours" if hours < 72 else f"{_rounded(hours / 24)} days"
