"""Work cut into shards: what its workers do, and one worker that does a share of it.

The engines know nothing else of the work, and import no PyTorch.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lxmert.schema import Failure

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all shards."""


@dataclass(frozen=True)
class Receipt:
    """Result of a shard.

    Attributes:
        shard: number of the shard.
        worker: host name and process that wrote it.
        done: number of images with regions, or of answered questions.
        failures: images without regions.
        files: file names of the shard, with their checksums.
        seconds: time that it took.
    """

    shard: int
    worker: str
    done: int
    failures: tuple[Failure, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class ShardWriter(Protocol):
    """What a worker does, with a loaded model."""

    @property
    def identity(self) -> str:
        """Text that is the same for all workers with the same model."""
        ...

    def write(self, unit: int, part: Any) -> Receipt:
        """Write a shard, unless it is complete.

        Args:
            unit: number of the shard.
            part: content of the shard, from `Job.parts`.
        """
        ...


@dataclass(frozen=True)
class Job:
    """All missing shards of a result.

    Attributes:
        load: loads the model of a worker on a device; it is pickled.
        parts: content of each missing shard by its number, such as image ids.
        total: number of all shards.
    """

    load: Callable[[str], ShardWriter]
    parts: Mapping[int, Any]
    total: int


def absolute(path: Path) -> Path:
    """Return the absolute path of what exists, for workers, which run in folders of their own.

    Anything else, such as the name of a published model, stays.
    """
    return path.absolute() if path.exists() else path


def worker_name() -> str:
    """Return host name and number of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def parse_share(text: str) -> tuple[int, int]:
    """Parse a share of all shards such as `0/8`: its number, from 0, and how many there are.

    Raises:
        ValueError: if it is anything else.
    """
    number, slash, total = text.partition("/")
    valid = slash and number.isdecimal() and total.isdecimal() and int(number) < int(total)
    if not valid:
        raise ValueError(
            f"--shard is {text!r}: expected a number and how many there are, from 0/8 to 7/8 for 8"
        )
    return int(number), int(total)


def run_share(
    writer: ShardWriter, job: Job, *, share: tuple[int, int], progress: Progress
) -> list[Receipt]:
    """Write the missing shards of a share, one after the other.

    Args:
        writer: what `job.load` returns.
        job: the job.
        share: number of the share and of all shares; share `i` of `n` has every `n`-th shard.
        progress: called with the number of finished shards of this share, and of all.

    Raises:
        OSError: if a shard cannot be written; the message names shard and worker.
        ValueError: if a shard is being written otherwise, or cannot be computed.
    """
    number, total = share
    mine = range(number, job.total, total)
    missing = [unit for unit in job.parts if unit in mine]
    receipts = []
    for done, unit in enumerate(missing, start=len(mine) - len(missing)):
        progress(done, len(mine))
        try:
            receipts.append(writer.write(unit, job.parts[unit]))
        except (OSError, ValueError) as error:
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"shard {unit} on {worker_name()}: {error}") from error
    progress(len(mine), len(mine))
    return receipts
