"""Read access to the images of a finished store, by id or by position; memory-mapped.

`store_layout` says which files there are and what is in them.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple

import numpy as np

from lxmert.data.remote import CACHE_BYTES, RemoteFolder, is_remote
from lxmert.data.store_layout import (
    INDEX,
    OLD_STORE_FILE,
    H,
    Shard,
    decode_id,
    encode_id,
    file_name,
    find_all,
    hash_id,
    old_format,
    open_shard,
    read_failures,
    read_header,
)
from lxmert.data.tensor_maps import Array, TensorMap, map_tensors
from lxmert.schema import Failure, IntArray

MOST_MAPPED = 20_000
"""Shards that are mapped at a time; Linux allows 65,530 mappings per process."""


_GROUP = 256
"""Hashes of a group, about; see `_group`."""


class Damage(NamedTuple):
    """Damage in a store.

    Attributes:
        file: name of the file.
        image_id: the damaged image; empty if the damage is outside of images.
        problem: what is wrong.
    """

    file: str
    image_id: str
    problem: str


class Shards(Generic[H]):
    """The images of a finished store; it is pickled as its path.

    Attributes:
        folder: the folder of the store; of a remote one, that of its local copies.
        header: properties of all images.
    """

    header_type: type[H]

    def __init__(
        self, folder: str | Path, cache: Path | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Open a finished store; memory does not grow with its size.

        Args:
            folder: a folder, or a URL that fsspec reads, such as `s3://bucket/regions`.
            cache: folder for copies of remote files; None: `~/.cache/lxmert/stores`.
            cache_bytes: size of the copies above which those used longest ago are removed.

        Raises:
            FileNotFoundError: if the folder holds no finished store.
            OSError: if a remote store cannot be read.
            ValueError: if the index is damaged, or a shard is missing or has another size.
        """
        self._remote: RemoteFolder | None = None
        self._arguments = (folder, cache, cache_bytes)
        if is_remote(folder):
            self._remote = RemoteFolder(str(folder), cache, cache_bytes)
            self.folder = self._remote.folder
            index = self._remote.fetch(INDEX)
        else:
            self.folder = Path(folder)
            index = self.folder / INDEX
            if not index.is_file():
                raise FileNotFoundError(_why_absent(self.folder))
        self._index = map_tensors(index, descriptor=True)
        if not self._index.is_intact():
            raise ValueError(
                f"{self._index.path} is damaged: its data do not have the checksum in its "
                "header; make the store again"
            )
        self.header: H = read_header(self._index, self.header_type)
        _check_index(self._index)
        tensors = self._index.tensors
        # As memory views and lists, which give single numbers faster than arrays do.
        self._hashes, self._places = tensors["hashes"].data, tensors["places"].data
        self._group_bits, self._group_starts = _group(tensors["hashes"])
        self._shard_starts = tensors["shard_starts"]
        self._names = tensors["shards"].tolist()
        if self._remote is None:
            self._check_sizes()
        self._mapped: dict[int, Shard] = {}
        self._checked = np.zeros(len(self), bool)  # images whose rows were compared, here

    def _check_sizes(self) -> None:
        """Raise `ValueError` if a shard is missing or has another size than in the index."""
        for name, expected in zip(
            self._names, self._index.tensors["shard_bytes"].tolist(), strict=True
        ):
            path = f"{self.folder}{os.sep}{file_name(*name)}"
            try:
                size = os.stat(path).st_size  # twice as fast as by Path
            except FileNotFoundError:
                raise ValueError(
                    f"{path} is missing: the store is damaged; make it again"
                ) from None
            if size != expected:
                raise ValueError(
                    f"{path} has {size} bytes, but the index says {expected}: the store is "
                    "damaged; make it again"
                )

    def __reduce__(self) -> tuple[type["Shards[H]"], tuple[object, ...]]:
        return type(self), self._arguments

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, image_id: str) -> bool:
        return self.find([image_id]) != [None]

    @property
    def image_ids(self) -> list[str]:
        """The ids of all images in the order of positions, read each time."""
        return [name for i in range(len(self._names)) for name in self._shard(i).image_ids()]

    @property
    def num_failed(self) -> int:
        """The number of images without regions."""
        return int(self._index.metadata["failed"])

    @property
    def num_regions(self) -> tuple[int, int, int]:
        """The number of regions in all, and the minimum and maximum per image."""
        regions, fewest, most = map(int, self._index.metadata["regions"].split())
        return regions, fewest, most

    @property
    def failures(self) -> list[Failure]:
        """The images without regions, with the reason, read each time."""
        return read_failures(self._index)

    def rows(self, image_ids: Iterable[str]) -> IntArray:
        """Return the position of each image.

        Raises:
            KeyError: naming the first image that is not there.
        """
        image_ids = list(image_ids)
        found = self.find(image_ids)
        if None in found:
            image_id = image_ids[found.index(None)]
            raise KeyError(
                f"image {image_id!r} is not in the region store {self.folder}: extract it first"
            )
        return np.asarray(found, dtype=np.int64)

    def find(self, image_ids: Sequence[str]) -> list[int | None]:
        """Return the position of each image; None for one that is not there."""
        keys = [encode_id(image_id) for image_id in image_ids]
        rows = [row for key in keys for row in self._candidates(hash_id(key))]
        places = zip(rows, self._where(rows), strict=True)
        found = {shard.image_id(place): row for row, (shard, place) in places}
        return [found.get(key) for key in keys]

    def shards(self) -> Iterator[Shard]:
        """Yield the shards that have images, in order; the rows of images are not checked."""
        shards = map(self._shard, range(len(self._names)))
        return (shard for shard in shards if len(shard))

    def verify(
        self,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    ) -> list[Damage]:
        """Read everything and compare it with the checksums.

        Args:
            progress: called with the number of images read, and of all.

        Returns:
            All damage in the order of files and images; empty for an intact store.
        """
        damages = []
        for number, name in enumerate(self._names):
            damages += self._verify_shard(number, file_name(*name))
            progress(self._shard_starts[number + 1], len(self))
        return damages

    def _verify_shard(self, number: int, name: str) -> list[Damage]:
        try:
            shard = self._shard(number)
        except ValueError as error:
            return [Damage(name, "", str(error))]
        if shard.file.is_intact():
            return []
        damaged = [place for place in range(len(shard)) if not shard.is_intact(place)]
        return [
            Damage(name, decode_id(shard.image_id(place)), f"image {place} of {len(shard)} is "
                   "not as it was written")
            for place in damaged
        ] or [Damage(name, "", "its data do not have the checksum in its header")]  # fmt: skip

    def locate(self, rows: Sequence[int] | IntArray) -> list[tuple[Shard, int]]:
        """Return the shard of each image, and its place there.

        Raises:
            IndexError: if there is no such image.
            ValueError: if an image is not as it was written.
        """
        for row in rows:
            if not 0 <= row < len(self):
                raise IndexError(f"there is no image {row} in {self.folder}, which has {len(self)}")
        found = list(self._where(rows))
        for row, (shard, place) in zip(rows, found, strict=True):
            if not self._checked[row]:
                if not shard.is_intact(place):
                    raise ValueError(
                        f"{shard.file.path} is damaged: image {place} of {len(shard)} does not "
                        "have its checksum; list all damage with `lxmert verify`, and make the "
                        "store again"
                    )
                self._checked[row] = True
        return found

    def _where(self, rows: Sequence[int] | IntArray) -> Iterator[tuple[Shard, int]]:
        """Return the shard of each image, and its place there, unchecked."""
        rows = np.asarray(rows, np.int64)
        numbers = self._shard_starts.searchsorted(rows, "right") - 1
        places = rows - self._shard_starts[numbers]
        return zip(map(self._shard, numbers.tolist()), places.tolist(), strict=True)

    def _candidates(self, hashed: int) -> list[int]:
        """Return the positions of the images whose ids have a hash."""
        group = hashed >> (64 - self._group_bits)
        first, last = self._group_starts[group], self._group_starts[group + 1]
        first = bisect_left(self._hashes, hashed, first, last)
        rows = []
        while first < last and self._hashes[first] == hashed:
            rows.append(self._places[first])
            first += 1
        return rows

    def _shard(self, number: int) -> Shard:
        """Return a mapped shard; those that were mapped first are unmapped if there are many."""
        shard = self._mapped.get(number)
        if shard is None:
            shard = open_shard(self._path(number), self.header)
            start, end = self._shard_starts[number : number + 2]
            checksum = f"{self._index.tensors['shard_sums'][number]:08x}"
            if len(shard) != end - start or shard.file.metadata["checksum"] != checksum:
                raise ValueError(
                    f"{shard.file.path} is not the shard that the index of its store lists: make "
                    "the store again"
                )
            if self._remote is not None:  # a removed copy takes space until it is unmapped
                mapped = self._mapped.items()
                self._mapped = {n: one for n, one in mapped if one.file.path.exists()}
            if len(self._mapped) >= MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]
            self._mapped[number] = shard
        return shard

    def _path(self, number: int) -> Path:
        """Return the path of a shard, which is copied first if it is remote."""
        name = file_name(*self._names[number])
        if self._remote is None:
            return self.folder / name
        return self._remote.fetch(name, f"{self._index.tensors['shard_sums'][number]:08x}")


def _group(hashes: Array) -> "tuple[int, memoryview[int]]":
    """Return where the hashes of each group start, those with the same first bits.

    A search within a group reads one or two pages of memory, one in all hashes up to 20 pages.

    Returns:
        The number of bits, at least 1, and `[groups + 1]` int64.
    """
    bits = max(1, (len(hashes) // _GROUP).bit_length())
    firsts = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
    return bits, np.append(hashes.searchsorted(firsts), len(hashes)).data


def _check_index(index: TensorMap) -> None:
    """Raise `ValueError` if the tensors of an index do not fit one another."""
    tensors = index.tensors
    try:
        shards, images = len(tensors["shards"]), len(tensors["hashes"])
        shapes = {
            "hashes": ("uint64", (images,)),
            "places": ("uint32", (images,)),
            "shards": ("int32", (shards, 2)),
            "shard_starts": ("int64", (shards + 1,)),
            "shard_bytes": ("int64", (shards,)),
            "shard_sums": ("uint32", (shards,)),
            "failures": ("uint8", tensors["failures"].shape),
        }
        starts = tensors["shard_starts"]
        valid = all(
            tensors[name].dtype == dtype and tensors[name].shape == shape
            for name, (dtype, shape) in shapes.items()
        )
        valid = valid and starts[0] == 0 and starts[-1] == images
        valid = valid and bool((np.diff(starts) >= 0).all())
        int(index.metadata["failed"])
        valid = valid and len([int(n) for n in index.metadata["regions"].split()]) == 3
    except (IndexError, KeyError, ValueError, TypeError):
        valid = False
    if not valid:
        raise ValueError(f"{index.path} is no index of a store: make the store again")


def _why_absent(folder: Path) -> str:
    """Return why a folder is no finished store, and what to do."""
    if (folder / OLD_STORE_FILE).is_file():
        return old_format(folder)
    remedy = "rerun the same command to resume" if find_all(folder) else "make one"
    return (
        f"{folder} is no finished region store (it has no {INDEX}): {remedy}, "
        "`lxmert extract IMAGES --extractor EXTRACTOR -o STORE` or "
        "`lxmert convert FILE.tsv STORE`"
    )
