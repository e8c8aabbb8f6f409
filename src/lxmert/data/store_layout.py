"""The files of a region store: their names, their records and the header; it reads no features.

A store is a folder:

    header.json    what made the features and what the other files hold; written last
    features.bin   `[regions, feature_dim]` of all images, one after the other
    regions.bin    a record for each region: box, object, attributes (`region_record`)
    images.bin     a record for each image: where its parts are (`IMAGE_RECORD`)
    ids.bin        image ids in UTF-8, one after the other
    lookup.bin     the checksums of all ids, sorted, and then the rows that they belong to
    failed.jsonl   images that have no regions, with the reason

While it is unfinished, a store has `unfinished.json` in the place of `header.json`, and no lookup.
Numbers are little-endian, and checksums are CRC-32. Every byte is covered: the header by its own
checksum; `images.bin`, `lookup.bin` and `failed.jsonl` by checksums in the header; the rest, image
by image, by checksums in `images.bin`.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lxmert.files import atomic_path, parse_json, read_json_object, shorten
from lxmert.records import Items, Record
from lxmert.schema import Failure

FORMAT = 2

HEADER, UNFINISHED = "header.json", "unfinished.json"
FEATURES, REGIONS, IMAGES, IDS = "features.bin", "regions.bin", "images.bin", "ids.bin"
LOOKUP, FAILED = "lookup.bin", "failed.jsonl"
STREAMS = (FEATURES, REGIONS, IDS, IMAGES)
"""The files that grow with each image, in the order of writing: the last vouches for the others."""

IMAGE_RECORD = np.dtype(
    [
        ("first_region", "<i8"),  # row of features.bin
        ("first_byte", "<i8"),  # of its records in regions.bin
        ("id_start", "<i8"),  # byte of ids.bin
        ("num_regions", "<i4"),
        ("num_groups", "<i4"),  # of attributes
        ("id_bytes", "<i4"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("found", "<i4"),
        ("features_checksum", "<u4"),
        ("regions_checksum", "<u4"),
        ("id_checksum", "<u4"),
    ]
)

StoreFiles = Mapping[str, npt.NDArray[np.uint8]]
"""The mapped bytes of the files that hold the parts of images: features, regions and ids."""

_CHUNK = 1 << 20

Size = Annotated[int, Field(ge=0)]


@cache
def region_record(num_groups: int) -> np.dtype[np.void]:
    """Return the record of a region in `regions.bin` for a number of attribute groups."""
    return np.dtype(
        [
            ("box", "<f4", (4,)),
            ("object_id", "<i4"),
            ("object_score", "<f4"),
            ("attribute_ids", "<i4", (num_groups,)),
            ("attribute_scores", "<f4", (num_groups,)),
        ]
    )


REGION_BYTES = region_record(0).itemsize
GROUP_BYTES = region_record(1).itemsize - REGION_BYTES


class ImageRecord(NamedTuple):
    """A row of `images.bin` as Python numbers; the fields of `IMAGE_RECORD` in their order."""

    first_region: int
    first_byte: int
    id_start: int
    num_regions: int
    num_groups: int
    id_bytes: int
    height: int
    width: int
    found: int
    features_checksum: int
    regions_checksum: int
    id_checksum: int

    def spans(self, header: "StoreHeader") -> dict[str, tuple[int, int, int]]:
        """Return the image's part of each file: its first byte, its bytes and its checksum."""
        row_bytes = header.row_bytes
        region_bytes = REGION_BYTES + GROUP_BYTES * self.num_groups
        return {
            FEATURES: (
                self.first_region * row_bytes,
                self.num_regions * row_bytes,
                self.features_checksum,
            ),
            REGIONS: (self.first_byte, self.num_regions * region_bytes, self.regions_checksum),
            IDS: (self.id_start, self.id_bytes, self.id_checksum),
        }

    def fits(self, header: "StoreHeader", files: StoreFiles) -> bool:
        """Return whether all parts lie inside of their files, and can be read."""
        # Written out, as every look-up comes here: by `spans` it takes twice as long.
        region_bytes = REGION_BYTES + GROUP_BYTES * self.num_groups
        last_region = self.first_region + self.num_regions
        return (
            min(self.first_region, self.first_byte, self.id_start) >= 0
            and min(self.id_bytes - 1, self.num_regions, self.num_groups) >= 0
            and last_region * header.row_bytes <= len(files[FEATURES])
            and self.first_byte + self.num_regions * region_bytes <= len(files[REGIONS])
            and self.id_start + self.id_bytes <= len(files[IDS])
        )

    def damage(self, header: "StoreHeader", files: StoreFiles) -> str:
        """Return the name of the file whose part is not as it was written; empty if all are."""
        if not self.fits(header, files):
            return IMAGES
        for name, (start, size, checksum) in self.spans(header).items():
            if zlib.crc32(files[name][start : start + size].data) != checksum:
                return name
        return ""


@dataclass(frozen=True)
class StoreHeader:
    """What is known of all regions of a store.

    Attributes:
        fingerprint: fingerprint of the extractor that made the features.
        feature_dim: width of a feature row.
        dtype: of the stored features, `float16` or `float32`.
        precision: in which the extractor computed them, `fp32` or `bf16`.
        object_names: names by object id.
        attribute_names: names by attribute id.
        format: version of this layout.
        num_regions: the fewest and the most regions that were asked for; None: as many as the
            extractor is made for. Says nothing about features, and so does not bind a model.
    """

    fingerprint: str
    feature_dim: int
    dtype: str
    precision: str
    object_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    format: int = FORMAT
    num_regions: tuple[int, int] | None = None

    @cached_property
    def row_bytes(self) -> int:
        """Size of a feature row in the file."""
        return self.feature_dim * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Contents:
    """What the files of a finished store hold.

    Attributes:
        images: images with regions.
        regions: regions of all images.
        failed: images that have none.
        sizes: bytes by file name.
        checksums: of the files that have no checksums by image, by file name.
    """

    images: int
    regions: int
    failed: int
    sizes: dict[str, int]
    checksums: dict[str, int]


class _ContentsFile(Record):
    """`Contents` as it stands in a header."""

    images: Size
    regions: Size
    failed: Size
    sizes: dict[str, Size]
    checksums: dict[str, Size]


class _HeaderFile(Record):
    """`StoreHeader` and `Contents` as they stand in a header, with what relates them."""

    fingerprint: str
    feature_dim: Annotated[int, Field(ge=1, le=100_000)]
    dtype: Literal["float16", "float32"]
    precision: str
    object_names: Items[str]
    attribute_names: Items[str]
    format: int
    num_regions: list[int] | None = None
    contents: _ContentsFile | None = None

    def problems(self) -> Iterator[str]:
        """Yield which sizes and names of files do not fit the counts."""
        if self.num_regions is not None and len(self.num_regions) != 2:
            yield f"num_regions: got {len(self.num_regions)} numbers, expected 2"
        if self.contents is None:
            return
        sizes, images = self.contents.sizes, self.contents.images
        row_bytes = self.feature_dim * np.dtype(self.dtype).itemsize
        expected = {
            FEATURES: self.contents.regions * row_bytes,
            IMAGES: images * IMAGE_RECORD.itemsize,
            LOOKUP: images * 8,
        }
        for name, size in expected.items():
            if sizes.get(name) != size:
                yield f"contents.sizes: {name} has {sizes.get(name)} bytes, the counts need {size}"
        for name in (REGIONS, IDS):
            if name not in sizes:
                yield f"contents.sizes: {name} is missing"
        for name in {*sizes} - {*STREAMS, LOOKUP, FAILED}:
            yield f"contents.sizes: unknown file {shorten(name)}"
        for name in (IMAGES, LOOKUP):
            if name not in self.contents.checksums:
                yield f"contents.checksums: {name} is missing"
        for name in {*self.contents.checksums} - {IMAGES, LOOKUP, FAILED}:
            yield f"contents.checksums: unknown file {shorten(name)}"


def encode_id(image_id: str) -> bytes:
    """Return an image id as it is stored; names of files need not be valid text."""
    return image_id.encode("utf-8", "surrogateescape")


def decode_id(stored: bytes) -> str:
    """Return the image id that was stored."""
    return stored.decode("utf-8", "surrogateescape")


def build_lookup(id_checksums: npt.NDArray[np.uint32]) -> bytes:
    """Return the content of `lookup.bin` for the checksums of the ids in the order of rows."""
    rows = np.argsort(id_checksums, kind="stable")
    return id_checksums[rows].astype("<u4").tobytes() + rows.astype("<u4").tobytes()


def save_header(path: Path, header: StoreHeader, contents: Contents | None) -> None:
    """Write a header under a temporary name and rename it; without contents while unfinished."""
    record: dict[str, object] = asdict(header)
    if contents is not None:
        record["contents"] = asdict(contents)
    record["checksum"] = _checksum_of(record)
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(record, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def load_header(path: Path) -> tuple[StoreHeader, Contents | None]:
    """Read and check `header.json` or `unfinished.json`.

    Raises:
        ValueError: if the file is damaged, or of another version of this layout.
    """
    record = read_json_object(path, remedy=_remedy(path.parent))
    found = record.get("format")
    if found != FORMAT:
        raise ValueError(
            f"{path} has store format {shorten(found)}, expected {FORMAT}: {_remedy(path.parent)}"
        )
    if record.pop("checksum", None) != _checksum_of(record):
        raise ValueError(
            f"{path} is damaged or was edited: its content does not have the checksum that it "
            f"names: {_remedy(path.parent)}"
        )
    try:
        checked = _HeaderFile(**record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}: {_remedy(path.parent)}") from error
    values = dict(checked)
    contents = values.pop("contents")
    values["num_regions"] = None if checked.num_regions is None else tuple(checked.num_regions)
    return StoreHeader(**values), None if contents is None else Contents(**dict(contents))


def read_failures(folder: Path) -> list[Failure]:
    """Return the images of a store that have no regions; of an unfinished one, those so far."""
    path = folder / FAILED
    if not path.exists():
        return []
    # The last line may be half written while a store is unfinished.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [_read_failure(line, f"{path} line {i}") for i, line in enumerate(lines, start=1)]


def _read_failure(line: str, place: str) -> Failure:
    found = parse_json(line, place, remedy="make the store again")
    if (
        not isinstance(found, dict)
        or found.keys() != {"image_id", "reason"}
        or not all(isinstance(value, str) for value in found.values())
    ):
        raise ValueError(
            f"{place} is {shorten(found)}, expected an object with the texts image_id and reason: "
            "make the store again"
        )
    return Failure(**found)


def file_checksum(path: Path) -> int:
    """Return the checksum of a whole file."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def map_parts(folder: Path) -> StoreFiles:
    """Map the files that hold the parts of images."""
    return {name: map_file(folder / name, np.uint8) for name in STREAMS if name != IMAGES}


def map_file(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Map a whole file of records, read-only; an incomplete record at its end is left out."""
    count = path.stat().st_size // np.dtype(dtype).itemsize
    if count == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype)
    # A private mapping would count as memory in use, and a large store would not open.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))


def _checksum_of(record: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _remedy(folder: Path) -> str:
    return (
        f"remove the folder and make it again with `lxmert extract IMAGES --extractor EYES -o {folder}`"
        f" or, if it came from a TSV file, `lxmert convert FILE.tsv {folder}`"
    )
