"""The files of a store of images: regions or resized pixels in shards, and an index.

A store is a folder of safetensors files:

    shard-UNIT-PART.safetensors        about a thousand images each
    saved-UNIT-PART-NUMBER.safetensors the images of a shard that is still being written
    previous.safetensors               the index of a finished store to which images are added
    index.safetensors                  where each image is; written last

The tensors of a shard, for `images` images with `rows` rows in all (a row is a region):

    starts       `[images + 1]` int64, the first row of each image, and the number of rows
    id_starts    `[images + 1]` int64, the first byte of each id, and the number of bytes
    ids          `[bytes]` uint8, image ids in UTF-8
    checksums    `[images]` uint32, CRC-32 of the rows of each image, column by column by name
    failures     `[bytes]` uint8, JSON lines: images without regions, with the reason

and the columns of its kind (`StoreHeader.columns`, `PixelHeader.columns`). The index has

    hashes       `[images]` uint64, the hashes of all ids (`hash_id`), sorted
    places       `[images]` uint32, the images that they belong to, in the order of shards
    shard_starts `[shards + 1]` int64, the first image of each shard, and the number of images
    shards       `[shards, 2]` int32, unit and part in the name of each shard
    shard_bytes  `[shards]` int64, file sizes
    shard_sums   `[shards]` uint32, the `checksum` in the header of each shard
    failures     as in a shard, of the whole store

All have the store's header as JSON in their metadata. Numbers are little-endian.
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Annotated, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lxmert.data.tensor_maps import Array, TensorMap, map_tensors, write_tensors
from lxmert.files import parse_json, shorten
from lxmert.records import Count, Items, Record
from lxmert.schema import REGION_ARRAYS, Failure, Regions

FORMAT = "lxmert-store-3"
INDEX, PREVIOUS, LOCK = "index.safetensors", "previous.safetensors", ".lock"
OLD_STORE_FILE = "images.bin"
"""File of a region store in an earlier format, which `lxmert convert` reads."""

UNIT = 1024
"""Images per shard, with and without regions, unless they exceed the size of a shard."""

_PAIR, _SUM = Struct("<2q"), Struct("<I")

_SHARD = re.compile(r"(?:shard|saved)-(\d{6,9})-(\d{1,5})(?:-(\d+))?\.safetensors")


class Packed(NamedTuple):
    """An image as it is stored.

    Attributes:
        rows: arrays with one row per region, by column.
        image: one row per image, by column.
    """

    rows: dict[str, Array]
    image: dict[str, Array]


class StoreHeader(Record):
    """Properties of all regions of a store.

    Attributes:
        fingerprint: fingerprint of the extractor that made the features.
        feature_dim: width of a feature row.
        dtype: data type of the stored features, `float16` or `float32`.
        precision: precision of the extractor, such as `fp32` or `bf16`.
        object_names: names by object id.
        attribute_names: names by attribute id.
        num_regions: minimum and maximum number of regions that were requested; None: the
            extractor's default. It does not affect features, and so does not bind a model.
    """

    kind: ClassVar[str] = "regions"
    row_columns: ClassVar[tuple[str, ...]] = tuple(sorted(REGION_ARRAYS))

    fingerprint: str
    feature_dim: Count
    dtype: str
    precision: str
    object_names: Items[str]
    attribute_names: Items[str]
    num_regions: Annotated[tuple[int, int], Field(strict=False)] | None = None

    def problems(self) -> Iterator[str]:
        """Yield whether the data type is unknown."""
        if self.dtype not in ("float16", "float32"):
            yield f"dtype: got {shorten(self.dtype)}, expected 'float16' or 'float32'"

    def columns(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Return data type and shape of a row of each column; None: the number of groups."""
        return {
            "attribute_ids": ("int32", (None,)),
            "attribute_scores": ("float32", (None,)),
            "boxes": ("float32", (4,)),
            "features": (self.dtype, (self.feature_dim,)),
            "object_ids": ("int32", ()),
            "object_scores": ("float32", ()),
            "image_sizes": ("int32", (2,)),
            "found": ("uint8", ()),
        }

    def pack(self, image_id: str, regions: Regions) -> Packed:
        """Return the columns of an image.

        Raises:
            ValueError: if the features do not have the shape of this store, or are not finite.
        """
        expected = (len(regions), self.feature_dim)
        if regions.features.shape != expected:
            raise ValueError(
                f"image {image_id!r} has {len(regions)} boxes and features of the shape "
                f"{list(regions.features.shape)}: the store expects {list(expected)}"
            )
        with np.errstate(over="ignore"):
            features = regions.features.astype(self.dtype)
        if not np.isfinite(features).all():
            raise ValueError(
                f"image {image_id!r} has features that are not finite in {self.dtype}, the "
                f"largest is {np.abs(regions.features).max()}: fix them, or store float32"
            )
        rows: dict[str, Array] = {name: getattr(regions, name) for name in self.row_columns}
        image: dict[str, Array] = {
            "image_sizes": np.array([regions.image_size]),
            "found": np.array([regions.found]),
        }
        return _cast(self, Packed({**rows, "features": features}, image))


class PixelHeader(Record):
    """Properties of all images of a pixel store.

    Attributes:
        height: height of the images in pixels.
        width: width of the images in pixels.
        images: hash of all image ids, by which stores of other images are distinguished.
    """

    kind: ClassVar[str] = "pixels"
    row_columns: ClassVar[tuple[str, ...]] = ("pixels",)

    height: Annotated[int, Field(ge=1, le=1 << 16)]
    width: Annotated[int, Field(ge=1, le=1 << 16)]
    images: str

    def columns(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Return data type and shape of a row of each column."""
        return {"pixels": ("uint8", (self.height, self.width, 3))}

    def pack(self, image_id: str, pixels: Array) -> Packed:
        """Return the column of an image, `[height, width, 3]` uint8 RGB."""
        assert pixels.shape == (self.height, self.width, 3), (image_id, pixels.shape)
        return _cast(self, Packed({"pixels": pixels[None]}, {}))


Header = StoreHeader | PixelHeader
H = TypeVar("H", bound=Header)
Entry = tuple[str, Packed] | Failure
"""What a writer holds of an image."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A mapped shard, whose small tensors have been checked.

    Of a store with thousands of shards, most of what a read touches is in no cache of the
    processor. Hence images are read from two objects, instead of an array per tensor.

    Attributes:
        file: the mapped file.
        data: the bytes of all tensors.
        layout: pairs of int64: first bytes of `id_starts` and `ids`, of `starts` and `checksums`,
            and for each column with a row per region, in the order of names, its first byte and
            the bytes of a row.
    """

    file: TensorMap
    data: memoryview
    layout: bytes

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The first row of each image, and the number of rows."""
        return self.file.tensors["starts"]

    def image_id(self, place: int) -> bytes:
        """Return the id of an image."""
        id_starts, ids = _PAIR.unpack_from(self.layout)
        start, end = _PAIR.unpack_from(self.data, id_starts + 8 * place)
        return bytes(self.data[ids + start : ids + end])

    def image_ids(self) -> list[str]:
        """Return the ids of all images."""
        return [decode_id(self.image_id(place)) for place in range(len(self))]

    def span(self, place: int) -> tuple[int, int]:
        """Return the first row of an image, and that after its last."""
        starts, _ = _PAIR.unpack_from(self.layout, _PAIR.size)
        span: tuple[int, int] = _PAIR.unpack_from(self.data, starts + 8 * place)
        return span

    def is_intact(self, place: int) -> bool:
        """Compare the rows of an image with their checksum."""
        _, (_, checksums), *columns = _PAIR.iter_unpack(self.layout)
        start, end = self.span(place)
        (expected,) = _SUM.unpack_from(self.data, checksums + 4 * place)
        checksum = 0
        for first, width in columns:
            checksum = zlib.crc32(self.data[first + start * width : first + end * width], checksum)
        return bool(checksum == expected)

    def failures(self) -> list[Failure]:
        """Return the images without regions."""
        return read_failures(self.file)


def encode_id(image_id: str) -> bytes:
    """Return an image id as it is stored; file names need not be valid text."""
    return image_id.encode("utf-8", "surrogateescape")


def decode_id(stored: bytes) -> str:
    """Return the image id that was stored."""
    return stored.decode("utf-8", "surrogateescape")


def hash_id(stored: bytes) -> int:
    """Return the hash of an image id by which the index is sorted: BLAKE2b with 8 bytes."""
    return int.from_bytes(blake2b(stored, digest_size=8).digest(), "little")


def file_name(*numbers: int) -> str:
    """Return the file name of a shard (unit and part), or of saved images (and their number)."""
    unit, part, *rest = numbers
    prefix = "saved" if rest else "shard"
    return f"{prefix}-{unit:06d}-{'-'.join(map(str, (part, *rest)))}.safetensors"


def find_files(folder: Path, prefix: str) -> list[tuple[int, ...]]:
    """Return the sorted numbers in the names of the files `shard-...` or `saved-...`."""
    matches = (_SHARD.fullmatch(path.name) for path in folder.glob(f"{prefix}-*.safetensors"))
    return sorted(
        tuple(int(number) for number in match.groups() if number) for match in matches if match
    )


def find_all(folder: Path) -> list[Path]:
    """Return the paths of all shards, and of the images saved for the next one."""
    numbers = find_files(folder, "shard") + find_files(folder, "saved")
    return [folder / file_name(*number) for number in numbers]


def write_shard(path: Path, header: Header, entries: Sequence[Entry], *, sync: bool = True) -> None:
    """Write a shard; all images have rows of the same shape."""
    images = [entry for entry in entries if not isinstance(entry, Failure)]
    failures = [entry for entry in entries if isinstance(entry, Failure)]
    ids = [np.frombuffer(encode_id(image_id), np.uint8) for image_id, _ in images]
    counts = [len(next(iter(packed.rows.values()))) for _, packed in images]
    sums = [_checksum(packed.rows.values()) for _, packed in images]
    table = {
        "starts": np.cumsum([0, *counts], dtype="<i8"),
        "id_starts": np.cumsum([0, *map(len, ids)], dtype="<i8"),
        "ids": np.concatenate([np.zeros(0, np.uint8), *ids]),
        "checksums": np.array(sums, "<u4"),
        "failures": encode_failures(failures),
    }
    for name in images[0][1].image if images else ():
        table[name] = np.concatenate([packed.image[name] for _, packed in images])
    rows = {
        name: [packed.rows[name] for _, packed in images]
        for name in (header.row_columns if images else ())
    }
    metadata = describe(header) | {"table_checksum": table_checksum(table)}
    write_tensors(path, {name: [part] for name, part in table.items()} | rows, metadata, sync=sync)


def open_shard(path: Path, header: Header) -> Shard:
    """Map a shard and check everything but the rows of its images.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged, or of a store with another header.
    """
    file = map_tensors(path)
    if file.metadata.get("header") != describe(header)["header"]:
        check_same(path.parent, read_header(file, type(header)), header)
    table = {name: part for name, part in file.tensors.items() if name not in header.row_columns}
    if file.metadata.get("table_checksum") != table_checksum(table):
        raise ValueError(
            f"{path} is damaged: its ids or sizes do not have their checksum; make the store again"
        )
    try:
        starts, id_starts = file.tensors["starts"], file.tensors["id_starts"]
        _check_tensors(file, header, starts, id_starts)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} lacks the tensor {error}: make the store again") from error
    columns = [name for name in header.row_columns if name in file.tensors]
    layout = [file.begin(name) for name in ("id_starts", "ids", "starts", "checksums")]
    for name in columns:
        layout += [file.begin(name), file.tensors[name][:1].nbytes]
    return Shard(file, file.data.data, np.array(layout, "<i8").tobytes())


@cache
def describe(header: Header) -> dict[str, str]:
    """Return the metadata that all files of a store have."""
    return {"format": FORMAT, "kind": header.kind, "header": json.dumps(header.to_dict())}


def read_header(file: TensorMap, kind: type[H]) -> H:
    """Return the header that a file of a store has.

    Raises:
        ValueError: if it is of another format or kind, or wrong.
    """
    found = [file.metadata.get(name) for name in ("format", "kind")]
    if found != [FORMAT, kind.kind]:
        raise ValueError(
            f"{file.path} has format and kind {found}, expected {[FORMAT, kind.kind]}: make the "
            "store again"
        )
    try:
        return kind(**parse_json(file.metadata.get("header", ""), str(file.path)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file.path}: {error}: make the store again") from error


def check_same(folder: Path, begun: Header, header: Header) -> None:
    """Raise `ValueError` if images have another header than a store; name the first difference."""
    new = dict(header)
    for name, old in begun:
        if old != new[name]:
            raise ValueError(
                f"{folder} was started with the {name} {_short(old)}, not with "
                f"{_short(new[name])}: name another folder, or remove it first"
            )


def old_format(folder: Path) -> str:
    """Return the message for a store in an earlier format."""
    return (
        f"{folder} is a region store in an earlier format: convert it with "
        f"`lxmert convert {folder} NEW`"
    )


def encode_failures(failures: Iterable[Failure]) -> npt.NDArray[np.uint8]:
    """Return failures as the bytes of JSON lines."""
    lines = (json.dumps([failure.image_id, failure.reason]) + "\n" for failure in failures)
    return np.frombuffer("".join(lines).encode(), np.uint8)


def read_failures(file: TensorMap) -> list[Failure]:
    """Return the failures that a shard or an index lists."""
    lines = file.tensors["failures"].tobytes().decode().splitlines()
    return [Failure(*parse_json(line, str(file.path))) for line in lines]


def _cast(header: Header, packed: Packed) -> Packed:
    """Return contiguous columns of the data types of a store, in the order of their names."""
    types = {name: dtype for name, (dtype, _) in header.columns().items()}

    def cast(columns: dict[str, Array]) -> dict[str, Array]:
        return {name: np.ascontiguousarray(columns[name], types[name]) for name in sorted(columns)}

    return Packed(cast(packed.rows), cast(packed.image))


def _check_tensors(file: TensorMap, header: Header, starts: Array, id_starts: Array) -> None:
    """Raise `ValueError` if the tensors of a shard do not fit its header or one another."""
    images = len(starts) - 1
    for name, (dtype, shape) in header.columns().items() if images > 0 else ():
        tensor = file.tensors[name]
        count = starts[-1] if name in header.row_columns else images
        groups = tensor.shape[1] if None in shape else 0
        expected = (count, *(groups if side is None else side for side in shape))
        if tensor.shape != expected or tensor.dtype != dtype:
            raise ValueError(
                f"{file.path} has a tensor {name} of type {tensor.dtype} and shape "
                f"{list(tensor.shape)}, expected {dtype} {shorten([*map(int, expected)])}: make "
                "the store again"
            )
    sums, ids = file.tensors["checksums"], file.tensors["ids"]
    valid = (
        starts.shape == id_starts.shape == (images + 1,)
        and sums.shape == (images,)
        and [part.dtype for part in (starts, id_starts, sums)] == ["<i8", "<i8", "<u4"]
        and starts[0] == id_starts[0] == 0
        and id_starts[-1] == len(ids)
        and bool((np.diff(starts) >= 0).all() and (np.diff(id_starts) >= 0).all())
    )
    if not valid:
        raise ValueError(f"{file.path} has ids or rows out of order: make the store again")


def _checksum(parts: Iterable[Array]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part.data, checksum)
    return checksum


def table_checksum(table: dict[str, Array]) -> str:
    """Return the checksum of all tensors of a shard but the rows of images."""
    return f"{_checksum(table[name] for name in sorted(table)):08x}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
