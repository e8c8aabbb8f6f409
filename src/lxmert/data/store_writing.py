"""Writes a region store image by image, and takes up one that was interrupted."""

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np

from lxmert.data.store_layout import (
    FAILED,
    FEATURES,
    HEADER,
    IDS,
    IMAGE_RECORD,
    IMAGES,
    LOOKUP,
    REGIONS,
    STREAMS,
    UNFINISHED,
    Contents,
    ImageRecord,
    StoreHeader,
    build_lookup,
    decode_id,
    encode_id,
    file_checksum,
    load_header,
    map_file,
    map_parts,
    region_record,
    save_header,
)
from lxmert.locks import FolderLock
from lxmert.schema import Failure, Regions

Extracted = tuple[str, Regions] | Failure
"""What an extraction or an import yields for each image."""

SYNC_EVERY = 1000
"""Images after which the files are forced to the disk; later ones are checked after a crash."""


class StoreWriter:
    """Appends images to a store; use as a context, and call `finish` at its end.

    Files only ever grow, features first and the record of the image last: an image is there if its
    record is there. So a process may be killed at any instant, and readers of a store that is
    opened again for more images are not disturbed.

    Attributes:
        done: ids of the images that are there. An image that failed is not among them, so that it
            is tried again.
    """

    def __init__(self, folder: str | Path, header: StoreHeader) -> None:
        """Look at what is there; nothing is changed before the first `add`.

        Args:
            folder: a new one, an unfinished store, or a finished one that lacks images.
            header: what is known of all images; that of a store which is there must be equal.

        Raises:
            FileExistsError: if the folder holds something else.
            ValueError: if the store was begun with another header, or is being written now.
        """
        self.folder, self.header = Path(folder), header
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = next((name for name in (HEADER, UNFINISHED) if (self.folder / name).exists()), None)
        if begun is None:
            _check_unused(self.folder)
        else:
            _check_same(self.folder, load_header(self.folder / begun)[0], header)
        self._lock = FolderLock(self.folder, file=IMAGES)
        state = _recover(self.folder, header)
        self.done: set[str] = set(state.ids)
        self._ends = state.ends
        self._num_failed = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()

    def add(self, item: Extracted) -> None:
        """Append the regions of an image, or note that it has none.

        Raises:
            ValueError: if the image is there already, or its features are not as the header says.
        """
        self._start()
        if isinstance(item, Failure):
            self._num_failed += 1
            self._append(FAILED, json.dumps(asdict(item)).encode() + b"\n")
            return
        image_id, regions = item
        if not image_id or image_id in self.done:
            problem = "came twice" if image_id else "has an empty id"
            raise ValueError(f"image {image_id!r} {problem}: each needs an id of its own")
        features = self._to_rows(image_id, regions)
        parts = (features, _region_bytes(regions), encode_id(image_id))
        record = ImageRecord(
            first_region=self._ends[FEATURES] // max(1, self.header.row_bytes),
            first_byte=self._ends[REGIONS],
            id_start=self._ends[IDS],
            num_regions=len(regions),
            num_groups=regions.attribute_ids.shape[1],
            id_bytes=len(parts[2]),
            height=regions.image_size[0],
            width=regions.image_size[1],
            found=int(regions.found),
            features_checksum=zlib.crc32(parts[0]),
            regions_checksum=zlib.crc32(parts[1]),
            id_checksum=zlib.crc32(parts[2]),
        )
        for name, data in zip(STREAMS[:-1], parts, strict=True):
            self._append(name, data)
        self._append(IMAGES, np.array(tuple(record), IMAGE_RECORD).tobytes())
        self.done.add(image_id)
        if len(self.done) % SYNC_EVERY == 0:
            self._sync()

    def finish(self) -> None:
        """Write the lookup and then the header, which makes the store valid."""
        self._start()
        self._sync()
        images = map_file(self.folder / IMAGES, IMAGE_RECORD)
        partial = self.folder / f"{LOOKUP}.part"
        with partial.open("wb") as file:
            file.write(build_lookup(images["id_checksum"]))
            os.fsync(file.fileno())
        partial.replace(self.folder / LOOKUP)  # others may have mapped the old one
        names = (*STREAMS, LOOKUP, FAILED)
        contents = Contents(
            images=len(self.done),
            regions=self._ends[FEATURES] // max(1, self.header.row_bytes),
            failed=self._num_failed,
            sizes={name: (self.folder / name).stat().st_size for name in names},
            checksums={
                name: file_checksum(self.folder / name) for name in (IMAGES, LOOKUP, FAILED)
            },
        )
        save_header(self.folder / HEADER, self.header, contents)
        (self.folder / UNFINISHED).unlink()

    def _start(self) -> None:
        """Mark the store as unfinished, cut off what is half written, and open its files."""
        if self._files:
            return
        if (self.folder / HEADER).exists():
            (self.folder / HEADER).replace(self.folder / UNFINISHED)
        elif not (self.folder / UNFINISHED).exists():
            save_header(self.folder / UNFINISHED, self.header, None)
        for name in STREAMS:
            self._files[name] = (self.folder / name).open("ab")
            self._files[name].truncate(self._ends[name])
        self._files[FAILED] = (self.folder / FAILED).open("wb")

    def _append(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self._files[name].flush()
        if name in self._ends:
            self._ends[name] += len(data)

    def _sync(self) -> None:
        for file in self._files.values():
            os.fsync(file.fileno())

    def _to_rows(self, image_id: str, regions: Regions) -> bytes:
        """Return the features as they are stored, if they can be."""
        expected = (len(regions), self.header.feature_dim)
        if regions.features.shape != expected:
            raise ValueError(
                f"image {image_id!r} has {len(regions)} boxes and features of the shape "
                f"{list(regions.features.shape)}: the store expects {list(expected)}"
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(regions.features, np.dtype(self.header.dtype))
        if not np.isfinite(rows).all():
            raise ValueError(
                f"image {image_id!r} has features that are not finite in {self.header.dtype}, the "
                f"largest is {np.abs(regions.features).max()}: fix them, or store float32"
            )
        return rows.tobytes()


def _region_bytes(regions: Regions) -> bytes:
    """Return the records of an image's regions."""
    records = np.zeros(len(regions), region_record(regions.attribute_ids.shape[1]))
    records["box"] = regions.boxes
    records["object_id"] = regions.object_ids
    records["object_score"] = regions.object_scores
    records["attribute_ids"] = regions.attribute_ids
    records["attribute_scores"] = regions.attribute_scores
    return records.tobytes()


class _State(NamedTuple):
    """How far an interrupted run had come: the ids in order, and where each file ends."""

    ids: list[str]
    ends: dict[str, int]


def _recover(folder: Path, header: StoreHeader) -> _State:
    """Find the images that are there as a whole.

    All files were forced to the disk now and then: only what came later can have holes, as a power
    failure leaves them, so that only that is read again.
    """
    for name in STREAMS:
        (folder / name).touch()
    images = map_file(folder / IMAGES, IMAGE_RECORD)
    files = map_parts(folder)
    ends = dict.fromkeys(STREAMS, 0)
    ids = []
    for row, values in enumerate(images):
        record = ImageRecord(*values.item())
        spans = record.spans(header)
        follows = all(start == ends[name] for name, (start, _, _) in spans.items())
        unsure = row >= len(images) - SYNC_EVERY
        if not (follows and record.fits(header, files)):
            break
        if unsure and record.damage(header, files):
            break
        ends = {name: start + size for name, (start, size, _) in spans.items()}
        ends[IMAGES] = (row + 1) * IMAGE_RECORD.itemsize
        ids.append(decode_id(files[IDS][record.id_start : ends[IDS]].tobytes()))
    return _State(ids, ends)


def _check_unused(folder: Path) -> None:
    """Refuse to write into a folder that holds anything but the traces of a start."""
    for path in folder.iterdir():
        if path.suffix != ".part" and (path.is_dir() or path.stat().st_size):
            raise FileExistsError(
                f"{folder} holds {path.name!r}, but no region store of this version: name another "
                "folder, or remove it first"
            )


def _check_same(folder: Path, begun: StoreHeader, header: StoreHeader) -> None:
    """Refuse to mix features that were not made alike; name the first difference."""
    old, new = asdict(begun), asdict(header)
    for name in old:
        if old[name] != new[name]:
            raise ValueError(
                f"{folder} was begun with the {name} {_short(old[name])}, not with "
                f"{_short(new[name])}: name another folder, or remove it first"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
