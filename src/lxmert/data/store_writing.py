"""Writes a store of images in shards, and resumes one that was interrupted."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.store_layout import (
    INDEX,
    LOCK,
    OLD_STORE_FILE,
    PREVIOUS,
    UNIT,
    Entry,
    Header,
    Packed,
    Shard,
    check_same,
    decode_id,
    describe,
    encode_failures,
    file_name,
    find_all,
    find_files,
    hash_id,
    old_format,
    open_shard,
    read_header,
    write_shard,
)
from lxmert.data.tensor_maps import Array, map_tensors, write_tensors
from lxmert.files import is_partial
from lxmert.locks import FolderLock
from lxmert.schema import Failure, Regions

Extracted = tuple[str, Regions] | Failure
"""What an extraction or an import yields for each image."""

MOST_BYTES = 256 << 20
"""Size of the rows from which a shard is closed; a writer holds as much in memory."""

SAVING = 0.02
"""Share of the time that is spent on saving the images of an unfinished shard."""


class StoreWriter:
    """Appends images to a store; use as a context, and call `finish` at its end.

    Images are collected in memory and written in shards. Until a shard is complete, its images are
    saved whenever saving took less than `SAVING` of the time, so that a killed process loses
    seconds of work, and the same shards result as without the interruption.

    Attributes:
        done: ids of the images that are there.
        failures: images without regions. Those of a finished store are not among them, so that
            they are tried again.
    """

    def __init__(
        self,
        folder: str | Path,
        header: Header,
        *,
        lock: bool = True,
        shard_images: int | None = None,
    ) -> None:
        """Read what is there; no image is changed before the first `add`.

        Args:
            folder: a new one, an unfinished store, or a finished one that lacks images.
            header: properties of all images; an existing store must have the same.
            lock: whether to lock the folder; False if the caller did.
            shard_images: images per shard. None: `UNIT`.

        Raises:
            FileExistsError: if the folder holds something else.
            ValueError: if the store has another header, or is being written by another process.
        """
        self.folder, self.header = Path(folder), header
        self._unit = shard_images or UNIT
        self.done: set[str] = set()
        self.failures: set[Failure] = set()
        self._name: tuple[int, ...] = (0, -1)
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._start_shard(0)
        self._started, self._seconds_saving = time.monotonic(), 0.0
        self._opened = False
        self._retried = 0  # shards of the finished store, whose failures are tried again
        _check_unused(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder, file=LOCK) if lock else None
        try:
            self._recover()
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):  # such as a full disk, which was reported already
                self._save()
        finally:
            self._unlock()

    def add(self, item: tuple[str, Any] | Failure) -> None:
        """Append an image, or note that it has no regions.

        Args:
            item: image id and what the header packs, `Regions` or pixels; or a `Failure`.

        Raises:
            ValueError: if the image is there already, or does not fit the header.
            OSError: if it cannot be written.
        """
        if isinstance(item, Failure):
            if item not in self.failures:  # an import that is resumed finds them again
                self._append(item)
            return
        image_id, content = item
        if not image_id or image_id in self.done:
            problem = "came twice" if image_id else "has an empty id"
            raise ValueError(f"image {image_id!r} {problem}: each needs an id of its own")
        self._append((image_id, self.header.pack(image_id, content)))

    def finish(self) -> None:
        """Write the last shard and then the index, which makes the store valid."""
        self._open()
        self._close_shard()
        write_index(self.folder, self.header, retried=self._retried)
        (self.folder / PREVIOUS).unlink(missing_ok=True)

    def _append(self, entry: Entry) -> None:
        self._open()
        if not isinstance(entry, Failure) and self._shapes not in (None, _shapes(entry[1])):
            self._close_shard()  # all images of a shard have as many groups of attributes
        self._note(entry)
        if (self._position + len(self._entries)) % self._unit == 0 or self._num_bytes >= MOST_BYTES:
            self._close_shard()
        elif self._seconds_saving <= SAVING * (time.monotonic() - self._started):
            self._save()

    def _note(self, entry: Entry) -> None:
        self._entries.append(entry)
        if isinstance(entry, Failure):
            self.failures.add(entry)
            return
        image_id, packed = entry
        self.done.add(image_id)
        self._shapes = _shapes(packed)
        self._num_bytes += sum(part.nbytes for part in packed.rows.values())

    def _open(self) -> None:
        """Mark a finished store as unfinished, and remove saved files that are of no use."""
        if self._opened:
            return
        if (self.folder / INDEX).exists():
            (self.folder / INDEX).replace(self.folder / PREVIOUS)
        for name in find_files(self.folder, "saved")[self._num_files :]:
            (self.folder / file_name(*name)).unlink()
        self._opened = True

    def _close_shard(self) -> None:
        """Write the collected images as a shard, and remove their saved files."""
        if not self._entries:
            return
        write_shard(self.folder / file_name(*self._name), self.header, self._entries)
        for number in range(self._num_files):
            (self.folder / file_name(*self._name, number)).unlink()
        self._start_shard(self._position + len(self._entries))

    def _start_shard(self, position: int) -> None:
        unit, part = self._name
        new = position // self._unit
        # Names only ever grow, even if the images per shard are others than before.
        self._position, self._name = position, (new, 0) if new > unit else (unit, part + 1)
        self._entries: list[Entry] = []
        self._shapes = None
        self._num_saved = self._num_files = self._num_bytes = 0

    def _save(self) -> None:
        """Save the images that no file holds yet."""
        if self._num_saved == len(self._entries):
            return
        started = time.monotonic()
        path = self.folder / file_name(*self._name, self._num_files)
        # A file that a power failure leaves incomplete is found by its checksum.
        write_shard(path, self.header, self._entries[self._num_saved :], sync=False)
        self._num_saved, self._num_files = len(self._entries), self._num_files + 1
        self._seconds_saving += time.monotonic() - started

    def _recover(self) -> None:
        """Read which images are there, and collect those of the unfinished shard."""
        for path in (self.folder / INDEX, self.folder / PREVIOUS):
            if path.is_file():
                index = map_tensors(path)
                check_same(self.folder, read_header(index, type(self.header)), self.header)
                self._retried = len(index.tensors["shards"])
                break
        for number, name in enumerate(find_files(self.folder, "shard")):
            shard = open_shard(self.folder / file_name(*name), self.header)
            failures = shard.failures()
            self.done.update(shard.image_ids())
            self.failures.update(failures if number >= self._retried else ())
            self._name = name
            self._start_shard(self._position + len(shard) + len(failures))
        for number, name in enumerate(find_files(self.folder, "saved")):
            if name != (*self._name, number) or not self._load(self.folder / file_name(*name)):
                break
            self._num_files = number + 1
        self._num_saved = len(self._entries)

    def _load(self, path: Path) -> bool:
        """Collect the images of a saved file; return whether it is intact."""
        try:
            intact = map_tensors(path).is_intact()
        except ValueError:
            intact = False
        if not intact:
            return False
        for entry in _entries_of(open_shard(path, self.header), self.header):
            self._note(entry)
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


def write_index(folder: Path, header: Header, *, retried: int = 0) -> None:
    """Write the index of the shards in a folder, which makes them a finished store.

    Args:
        folder: the folder.
        header: the header of all shards.
        retried: number of the first shards whose failures were tried again since.

    Raises:
        ValueError: if a shard is damaged or of another store, or two have the same image.
    """
    names = find_files(folder, "shard")
    counts, sizes, sums, hashes, rows = [0], [], [], [np.zeros(0, "<u8")], [np.zeros(0, "<i8")]
    failures: list[Failure] = []
    for number, name in enumerate(names):
        shard = open_shard(folder / file_name(*name), header)
        ids = map(shard.image_id, range(len(shard)))
        hashes.append(np.fromiter(map(hash_id, ids), "<u8", len(shard)))
        rows.append(np.diff(shard.starts))
        counts.append(len(shard))
        sizes.append(shard.file.path.stat().st_size)
        sums.append(int(shard.file.metadata["checksum"], 16))
        failures += shard.failures() if number >= retried else []
    unsorted, regions = np.concatenate(hashes), np.concatenate(rows)
    order = np.argsort(unsorted, kind="stable")
    index = {
        "hashes": unsorted[order],
        "places": order.astype("<u4"),
        "shard_starts": np.cumsum(counts, dtype="<i8"),
        "shards": np.array(names, "<i4").reshape(-1, 2),
        "shard_bytes": np.array(sizes, "<i8"),
        "shard_sums": np.array(sums, "<u4"),
    }
    _check_unique(folder, header, index)
    metadata = {
        "failed": str(len(failures)),
        "regions": " ".join(map(str, (regions.sum(), *_extremes(regions)))),
    }
    columns = {name: [column] for name, column in index.items()}
    columns["failures"] = [encode_failures(failures)]
    write_tensors(folder / INDEX, columns, describe(header) | metadata)


def _check_unique(folder: Path, header: Header, index: dict[str, Array]) -> None:
    """Raise `ValueError` if two shards have the same image."""
    hashes, places, starts = index["hashes"], index["places"], index["shard_starts"]

    def image_id(place: int) -> bytes:
        number = int(starts.searchsorted(place, "right")) - 1
        shard = open_shard(folder / file_name(*index["shards"][number]), header)
        return shard.image_id(place - int(starts[number]))

    for equal in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        one, other = image_id(places.item(equal)), image_id(places.item(equal + 1))
        if one == other:
            raise ValueError(
                f"{folder} has the image {decode_id(one)!r} twice: remove the shards of other "
                "runs, or make the store again"
            )


def _extremes(counts: Array) -> tuple[int, int]:
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def _shapes(packed: Packed) -> dict[str, tuple[int, ...]]:
    return {name: part.shape[1:] for name, part in packed.rows.items()}


def _entries_of(shard: Shard, header: Header) -> Iterator[Entry]:
    """Yield copies of the images of a shard, and its failures."""
    tensors = shard.file.tensors
    image_columns = header.columns().keys() - set(header.row_columns)
    for place, image_id in enumerate(shard.image_ids()):
        rows = slice(shard.starts.item(place), shard.starts.item(place + 1))
        yield (
            image_id,
            Packed(
                {name: tensors[name][rows].copy() for name in header.row_columns},
                {name: tensors[name][place : place + 1].copy() for name in sorted(image_columns)},
            ),
        )
    yield from shard.failures()


def _check_unused(folder: Path) -> None:
    """Raise `FileExistsError` if a folder holds anything but a store or the traces of a start."""
    if (folder / OLD_STORE_FILE).is_file():
        raise FileExistsError(old_format(folder))
    known = {INDEX, PREVIOUS, LOCK, *(path.name for path in find_all(folder))}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in known and not is_partial(path):
            raise FileExistsError(
                f"{folder} holds {path.name!r}, but no region store of this version: name another "
                "folder, or remove it first"
            )
