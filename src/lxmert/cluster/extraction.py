"""Extraction cut into shards, which any number of processes and machines write.

Shard `n` of a store holds the images `n * size` to `(n + 1) * size` of the sorted list of images. A
process writes it into a folder of its own below the store, resumes there, and moves the finished
files into the store. The result has the bytes of a store written by one process. The shards that
are there are what is done; no other state exists.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from lxmert.cluster.shards import Job, Receipt, absolute, worker_name
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
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_images,
    find_images,
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

    def anywhere(self) -> "Loading":
        """Return the same with absolute paths; see `shards.absolute`."""

        def find(path: Path | None) -> Path | None:
            return None if path is None else absolute(path)

        path, objects, attributes = map(find, (self.path, self.objects, self.attributes))
        return replace(self, path=path, objects=objects, attributes=attributes)

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
class RegionWriter:
    """Writes shards of a region store; see `shards.ShardWriter`.

    Attributes:
        images: image folder.
        output: region store; `join_shards` makes it valid when all shards are there.
        extractor: the region extractor.
        settings: settings of the extraction.
    """

    images: Path
    output: Path
    extractor: RegionExtractor
    settings: ExtractionSettings

    @property
    def identity(self) -> str:
        """The fingerprint of the extractor."""
        return self.extractor.fingerprint

    def write(self, unit: int, part: Sequence[str]) -> Receipt:
        """Write the regions of the images of a shard."""
        return extract_shard(self.images, self.output, unit, part, self.extractor, self.settings)


def extraction_job(
    images: Path, output: Path, loading: Loading, settings: ExtractionSettings
) -> Job:
    """Return what is missing of a region store.

    Args:
        images: image folder; all machines must see it at the same path.
        output: region store, also on a disk that all machines see.
        loading: how each worker loads the region extractor.
        settings: settings of the extraction.

    Raises:
        FileExistsError: if the store is finished.
        FileNotFoundError: if the folder has no image.
    """
    _check_unfinished(output)
    image_ids, size = find_images(images), settings.shard_images
    missing = missing_shards(output, len(image_ids), size)
    figures = None if settings.figures is None else settings.figures.absolute()
    return Job(
        partial(
            _load_writer,
            images.resolve(),
            output.resolve(),
            loading.anywhere(),
            replace(settings, figures=figures),
        ),
        {unit: image_ids[unit * size : (unit + 1) * size] for unit in missing},
        -(-len(image_ids) // size),
    )


def _load_writer(
    images: Path, output: Path, loading: Loading, settings: ExtractionSettings, device: str
) -> RegionWriter:
    return RegionWriter(images, output, loading.load(device), settings)


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
        ValueError: if the shard was started with another header.
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
        worker=worker_name(),
        done=sum(map(len, shards)),
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


def join_shards(output: Path, image_ids: Sequence[str], size: int) -> RegionStore:
    """Write the index of a store whose shards are all there, which makes it valid.

    Args:
        output: the region store.
        image_ids: the images that were to be extracted, in order.
        size: images per shard.

    Raises:
        FileExistsError: if the store is finished.
        ValueError: if shards are missing, damaged or have other images.
    """
    _check_unfinished(output)
    missing = missing_shards(output, len(image_ids), size)
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(
            f"{output} lacks {count(len(missing), 'shard')} of {-(-len(image_ids) // size)} "
            f"({listed}): run `lxmert extract` with --shard for them first"
        )
    names = find_files(output, "shard")
    header = read_header(map_tensors(output / file_name(*names[0])), StoreHeader)
    for unit, files in groupby(names, key=itemgetter(0)):
        shards = [open_shard(output / file_name(*name), header) for name in files]
        found = [image_id for shard in shards for image_id in shard.image_ids()]
        found += [failure.image_id for shard in shards for failure in shard.failures()]
        _check_images(output, unit, found, image_ids[unit * size : (unit + 1) * size])
    write_index(output, header)
    return RegionStore(output)


def _check_images(output: Path, unit: int, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise `ValueError` if a shard has other images than it should have."""
    if sorted(found) == sorted(expected):
        return
    others = sorted(set(found) ^ set(expected)) or sorted(found)
    raise ValueError(
        f"shard {unit} of {output} has {count(len(found), 'image')}, expected {len(expected)}, and "
        f"{'has' if others[0] in found else 'lacks'} {others[0]!r}: extract with the same images "
        "and the same --shard-images, or remove the folder"
    )


def _check_unfinished(output: Path) -> None:
    if is_finished(output):
        raise FileExistsError(f"{output} is a finished region store: name another folder")


def _unit_of(path: Path) -> int:
    number = path.name.removeprefix("part-")
    return int(number) if number.isdecimal() else -1
