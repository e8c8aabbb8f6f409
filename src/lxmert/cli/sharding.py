"""Options of commands whose work can be cut into shards, and what runs the shards."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lxmert.names import count
from lxmert.terminal import say, show_progress

if TYPE_CHECKING:
    from lxmert.cluster.shards import Job

Share = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Run job I of N, numbered from 0: write only its share of the shards. Afterwards, "
        "--join joins the shards of all jobs.",
    ),
]
Join = Annotated[bool, typer.Option("--join", help="Join the shards of all jobs.")]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="local: in this process; ray: on all devices of a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Address of the Ray cluster. Default: start one here."),
]
Actors = Annotated[
    int | None,
    typer.Option("--actors", help="Ray processes with a model each. Default: one for each device."),
]


def check_engine(
    engine: str, *, shard: str | None, join: bool, address: str | None, actors: int | None
) -> None:
    """Raise `ValueError` for options of several engines, or a wrong share."""
    from lxmert.cluster.shards import parse_share

    if engine != "ray" and (address is not None or actors is not None):
        name = "--actors" if address is None else "--address"
        raise ValueError(f"{name} is for Ray: add --engine ray, or leave it out")
    chosen = [
        name
        for name, given in (("--engine ray", engine == "ray"), ("--shard", shard), ("--join", join))
        if given
    ]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} exclude each other: choose one")
    if actors is not None and actors < 1:
        raise ValueError(f"--actors is {actors}: expected at least 1")
    if shard is not None:
        parse_share(shard)


def write_shards(
    job: "Job",
    noun: str,
    *,
    shard: str | None,
    address: str | None,
    actors: int | None,
    device: str | None,
) -> None:
    """Write the shards of a job and print a line for each: a share of them here, or all on Ray."""
    from lxmert.cluster.ray_engine import run_on_ray
    from lxmert.cluster.shards import parse_share, run_share
    from lxmert.devices import choose_device

    with show_progress("shards") as progress:
        if shard is None:
            receipts = run_on_ray(
                job, address=address, actors=actors, device=device, progress=progress
            )
        else:
            writer = job.load(choose_device(device))
            receipts = run_share(writer, job, share=parse_share(shard), progress=progress)
    for receipt in receipts:
        failed = f", {len(receipt.failures)} failed" if receipt.failures else ""
        say(
            f"shard {receipt.shard}: {count(receipt.done, noun)}{failed}, "
            f"{receipt.seconds:.1f} s on {receipt.worker}"
        )
