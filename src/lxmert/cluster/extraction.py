"""Extraction cut into shards, which any number of processes and machines write.

Shard `n` of a store holds the images `n * size` to `(n + 1) * size` of the sorted list of images. A
process writes it into a folder of its own below the store, resumes there, and moves the finished
files into the store. The result has the bytes of a store written by one process. The shards that
are there are what is done; no other state exists.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lxmert.data.store import RegionStore, is_finished
from lxmert.data.store_layout import (
    LOCK,
    StoreHeader,
    file_name,
    find_files,
    open_shard,
    read_header,
)
from lxmert.data.store_writing import StoreWriter, write_index
from lxmert.data.tensor_maps import map_tensors
from lxmert.locks import FolderLock
from lxmert.names import count
from lxmert.regions.extractor import RegionExtractor
from lxmert.regions.inference import Precision
from lxmert.schema import Failure
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_images,
    load_for_extraction,
    store_header,
)


@dataclass(frozen=True)
class Loading:
    """How each process loads the region extractor; the arguments of `load_for_extraction`."""

    path: Path | None = None
    precision: Precision = "fp32"
    preset: str | None = None
    objects: Path | None = None
    attributes: Path | None = None

    def load(self, device: str) -> RegionExtractor:
        """Load the extractor."""
        return load_for_extraction(
            self.path,
            device=device,
            precision=self.precision,
            preset=self.preset,
            objects=self.objects,
            attributes=self.attributes,
        )


@dataclass(frozen=True)
class Receipt:
    """Result of the extraction of a shard.

    Attributes:
        shard: number of the shard.
        worker: host name and process that wrote it.
        images: number of images with regions.
        failures: images without regions.
        files: file names of the shard, with the checksums of their data.
        seconds: time that it took.
    """

    shard: int
    worker: str
    images: int
    failures: tuple[Failure, ...]
    files: dict[str, str]
    seconds: float


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


def missing_shards(output: Path, num_images: int, size: int) -> list[int]:
    """Return the numbers of the shards that are not complete.

    Args:
        output: the region store.
        num_images: number of images to extract.
        size: images per shard.
    """
    there = {unit for unit, *_ in find_files(output, "shard")}
    pending = {_unit_of(path) for path in output.glob("part-*")}
    return [unit for unit in range(-(-num_images // size)) if unit not in there - pending]


def extract_share(
    images: Path,
    output: Path,
    extractor: RegionExtractor,
    settings: ExtractionSettings,
    *,
    share: tuple[int, int],
    image_ids: Sequence[str],
    progress: Callable[[int, int], None],
) -> list[Receipt]:
    """Write the missing shards of a share, one after the other.

    Args:
        images: image folder.
        output: region store; `join_shards` makes it valid when all shards are there.
        extractor: the region extractor.
        settings: settings of the extraction.
        share: number of the share and of all shares; share `i` of `n` has every `n`-th shard.
        image_ids: all images, in order.
        progress: called with the number of finished shards of this share, and of all.

    Raises:
        FileExistsError: if the store is finished, or the folder holds something else.
        ValueError: if the store has another header, or a shard is being written.
    """
    _check_unfinished(output)
    number, total = share
    size = settings.shard_images
    mine = range(number, -(-len(image_ids) // size), total)
    missing = [unit for unit in missing_shards(output, len(image_ids), size) if unit in mine]
    receipts = []
    for done, unit in enumerate(missing, start=len(mine) - len(missing)):
        progress(done, len(mine))
        part = image_ids[unit * size : (unit + 1) * size]
        receipts.append(extract_shard(images, output, unit, part, extractor, settings))
    progress(len(mine), len(mine))
    return receipts


def extract_shard(
    images: Path,
    output: Path,
    unit: int,
    image_ids: Sequence[str],
    extractor: RegionExtractor,
    settings: ExtractionSettings,
) -> Receipt:
    """Write one shard of a store; resumes an interrupted one.

    Args:
        images: image folder.
        output: region store.
        unit: number of the shard.
        image_ids: the images of the shard.
        extractor: the region extractor.
        settings: settings of the extraction.

    Raises:
        ValueError: if the shard was begun with another header.
        OSError: if it cannot be written.
    """
    started = time.monotonic()
    folder = output / f"part-{unit:06d}"
    header = store_header(extractor, settings)
    folder.mkdir(parents=True, exist_ok=True)
    # A process that outlives its killed job, or another job with the same shard, ends first.
    with closing(FolderLock(folder, file=LOCK, wait=True)):
        if (folder / LOCK).exists():  # otherwise another process has completed the shard
            _write_part(images, folder, image_ids, extractor, settings)
            for _, part in find_files(folder, "shard"):
                (folder / file_name(0, part)).replace(output / file_name(unit, part))
            shutil.rmtree(folder)
    names = [file_name(*name) for name in find_files(output, "shard") if name[0] == unit]
    shards = [open_shard(output / name, header) for name in names]
    return Receipt(
        shard=unit,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        images=sum(map(len, shards)),
        failures=tuple(failure for shard in shards for failure in shard.failures()),
        files={shard.file.path.name: shard.file.metadata["checksum"] for shard in shards},
        seconds=time.monotonic() - started,
    )


def _write_part(
    images: Path,
    folder: Path,
    image_ids: Sequence[str],
    extractor: RegionExtractor,
    settings: ExtractionSettings,
) -> None:
    """Write the images of a shard as a store of their own, if they are not there yet."""
    if is_finished(folder):
        return
    header = store_header(extractor, settings)
    with StoreWriter(folder, header, lock=False, shard_images=settings.shard_images) as writer:
        present = writer.done | {failure.image_id for failure in writer.failures}
        remaining = [image_id for image_id in image_ids if image_id not in present]
        for item in extract_images(images, remaining, extractor, settings):
            writer.add(item)
        writer.finish()


def join_shards(output: Path, num_images: int, size: int) -> RegionStore:
    """Write the index of a store whose shards are all there, which makes it valid.

    Args:
        output: the region store.
        num_images: number of images that were to be extracted.
        size: images per shard.

    Raises:
        FileExistsError: if the store is finished.
        ValueError: if shards are missing, damaged or have other images.
    """
    _check_unfinished(output)
    missing = missing_shards(output, num_images, size)
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(
            f"{output} lacks {count(len(missing), 'shard')} of {-(-num_images // size)} "
            f"({listed}): run `lxmert extract` with --shard for them first"
        )
    names = find_files(output, "shard")
    header = read_header(map_tensors(output / file_name(*names[0])), StoreHeader)
    shards = (open_shard(output / file_name(*name), header) for name in names)
    found = sum(len(shard) + len(shard.failures()) for shard in shards)
    if found != num_images:
        raise ValueError(
            f"{output} has shards of {count(found, 'image')}, expected {num_images}: extract with "
            "the same images and the same --shard-images, or remove the folder"
        )
    write_index(output, header)
    return RegionStore(output)


def _check_unfinished(output: Path) -> None:
    if is_finished(output):
        raise FileExistsError(f"{output} is a finished region store: name another folder")


def _unit_of(path: Path) -> int:
    number = path.name.removeprefix("part-")
    return int(number) if number.isdecimal() else -1
