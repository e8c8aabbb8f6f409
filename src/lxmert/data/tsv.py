"""Reads, writes and imports the TSV format of the original region features.

A file has one line per image, no header, and ten columns separated by tabs. Numbers are text;
arrays are base64 of little-endian bytes: ids int64, the rest float32. Boxes are in pixels of the
image. The six columns of bottom-up-attention, which has no objects and attributes, are read too.
"""

import binascii
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert.boxes import are_valid
from lxmert.data.store import RegionStore, is_finished
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.files import atomic_path
from lxmert.schema import Failure, Regions

COLUMNS = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
)

SIX_COLUMNS = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
"""Columns of bottom-up-attention, by our names; the width precedes the height."""

PUBLISHED_EXTRACTOR = "bottom-up-attention/caffe-36"
"""Fingerprint of the extractor of the published files, whose weights are not available."""

FEATURE_DIM, OBJECTS, ATTRIBUTES = 2048, 1600, 400
"""Width of the published features, and the numbers of classes and attributes."""

TOLERANCE = 1e-5
"""How far a box may exceed its image, as a share of the image; as in the original code."""

LONGEST_LINE = 64 << 20
"""Maximum bytes of a line: about 6,000 regions. Longer lines are not TSV."""

_TINY_IMAGE = 2
"""Image sides up to this length in pixels may have boxes between 0 and 1."""

Progress = Callable[[int, int], None]
"""Called with the amount done and the total."""


class TsvFormat(NamedTuple):
    """Sizes and id ranges of a file.

    Attributes:
        feature_dim: width of a feature row.
        num_objects: number of object classes; ids are smaller.
        num_attributes: number of attributes; ids are smaller.
    """

    feature_dim: int = FEATURE_DIM
    num_objects: int = OBJECTS
    num_attributes: int = ATTRIBUTES


PUBLISHED_FORMAT = TsvFormat()


def read_tsv(
    path: str | Path, *, expected: TsvFormat = PUBLISHED_FORMAT
) -> Iterator[tuple[str, Regions]]:
    """Yield image id and regions of each line; the file is never held in memory.

    Args:
        path: the file, or a folder with several.
        expected: sizes and id ranges of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming line and column of the first error.
    """
    for _, item in scan_tsv(path, expected=expected):
        if isinstance(item, Failure):
            raise ValueError(f"{path} {item.reason}")
        yield item


def scan_tsv(
    path: str | Path, *, expected: TsvFormat = PUBLISHED_FORMAT, skip: Container[str] = ()
) -> Iterator[tuple[int, Extracted]]:
    """Yield the content of each line, and continue after invalid lines.

    Args:
        path: the file, or a folder that contains `.tsv` files, also in subfolders.
        expected: sizes and id ranges of the file.
        skip: image ids to skip; their arrays are not decoded.

    Yields:
        The number of bytes read so far, and the regions of an image or a `Failure` that names the
        line and the column, and the file if there are several.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is too long.
    """
    lines: dict[str, str] = {}
    position = 0
    for part in find_tsv(path):
        name = "" if part == Path(path) else f"{part.relative_to(path)} "
        with part.open("rb", buffering=1 << 20) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                position += len(line)
                if is_blank(line):
                    continue
                place = f"{name}line {number}"
                if len(line) == LONGEST_LINE:
                    raise ValueError(
                        f"{path} {place} has {LONGEST_LINE} bytes or more; expected a TSV file "
                        "of regions: check the file"
                    )
                item = _read_line(line, place, lines, expected, skip)
                if item is not None:
                    yield position, item


def _read_line(
    line: bytes, place: str, lines: dict[str, str], expected: TsvFormat, skip: Container[str]
) -> Extracted | None:
    """Return the content of a line; None for a skipped image.

    Args:
        line: the line.
        place: its place, for messages.
        lines: places of the images read so far; this one is added.
        expected: sizes and id ranges of the file.
        skip: image ids to skip.
    """
    image_id = place
    try:
        columns = _split(line)
        image_id = _image_id(columns["img_id"])
        if image_id in lines:
            raise _ColumnError("img_id", f"is {image_id!r}, which is already in {lines[image_id]}")
        lines[image_id] = place
        return None if image_id in skip else (image_id, _to_regions(columns, expected))
    except _ColumnError as error:
        end = "" if line.endswith(b"\n") else "; the file ends within the line and may be truncated"
        return Failure(image_id, f"{place}, {error}{end}")


def find_tsv(path: str | Path) -> list[Path]:
    """Return a TSV file, or the sorted TSV files in a folder.

    Raises:
        FileNotFoundError: if there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    found = sorted(part for part in path.rglob("*.tsv") if part.is_file())
    if not found:
        raise FileNotFoundError(f"there is no file {path}: expected a TSV file of regions")
    return found


def import_tsv(
    path: str | Path,
    folder: str | Path,
    *,
    dtype: str = "float32",
    feature_dim: int = FEATURE_DIM,
    fingerprint: str = PUBLISHED_EXTRACTOR,
    object_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> RegionStore:
    """Import TSV files into one region store in one pass; resumes an interrupted import.

    Invalid lines are skipped and recorded in the store's `failures`. Memory is bounded: one line,
    one shard (`store_writing.MOST_BYTES`), and about 300 bytes for each image id.

    Args:
        path: the file, or a folder that contains `.tsv` files, also in subfolders.
        folder: the store to write.
        dtype: of the stored features, `float32`, or `float16` for half the space.
        feature_dim: width of a feature row.
        fingerprint: fingerprint of the extractor, for the header; models reject other regions.
        object_names: names by object id. None: 1,600 numbered names, as published.
        attribute_names: names by attribute id. None: 400 numbered names.
        progress: called with the number of bytes read and the total.

    Raises:
        FileExistsError: if a finished store without failures exists.
        FileNotFoundError: if there is no such file.
        ValueError: if no line is valid; naming the first error.
    """
    size = sum(part.stat().st_size for part in find_tsv(path))
    objects = _names(object_names, "object", OBJECTS)
    attributes = _names(attribute_names, "attribute", ATTRIBUTES)
    header = StoreHeader(
        fingerprint=fingerprint,
        feature_dim=feature_dim,
        dtype=dtype,
        precision="fp32",
        object_names=objects,
        attribute_names=attributes,
    )
    expected = TsvFormat(feature_dim, len(objects), len(attributes))
    if is_finished(folder) and not RegionStore(folder).failures:
        raise FileExistsError(f"{folder} is a finished region store: name another folder")
    with StoreWriter(folder, header) as writer:
        first: Failure | None = None
        for position, item in scan_tsv(path, expected=expected, skip=frozenset(writer.done)):
            item = fit(item, dtype)
            writer.add(item)
            first = first or (item if isinstance(item, Failure) else None)
            if progress is not None:
                progress(position, size)
        if not writer.done:
            problem = first.reason if first else "is empty"
            raise ValueError(f"{path} has no valid line: {problem}; expected a TSV file of regions")
        writer.finish()
    return RegionStore(folder)


def write_tsv(path: str | Path, store: RegionStore, *, progress: Progress | None = None) -> None:
    """Write a store as a TSV file atomically, in the order of its rows.

    The format has one attribute per region: the most confident one of several attribute groups, or
    attribute 0 with confidence 0 if there are none. It has no column for `found`, which is lost.


    Args:
        path: the file.
        store: the region store; a float32 store reproduces the imported bytes.
        progress: called with the number of images done and the total.

    Raises:
        OSError: if the file cannot be written; an existing file is kept.
        ValueError: if an image id contains a tab, a quote, a line end or a lone surrogate, which
            the format cannot represent; nothing is written in this case.
    """
    for image_id in store.image_ids:
        _check_id(image_id)
    with atomic_path(Path(path)) as partial, partial.open("wb", buffering=1 << 20) as file:
        for done, image_id in enumerate(store.image_ids, start=1):
            file.write(_to_line(image_id, store[image_id]))
            if progress is not None:
                progress(done, len(store))


def find_fault(regions: Regions, *, num_objects: int, num_attributes: int) -> tuple[str, str]:
    """Find the first invalid field of regions.

    Returns:
        The field of `Regions` and its problem; two empty strings if all fields are valid.
    """
    height, width = regions.image_size
    valid = are_valid(regions.boxes, regions.image_size, share=TOLERANCE)
    if not valid.all():
        index = int(valid.argmin())
        return "boxes", (
            f"has box {index} at {regions.boxes[index].tolist()}, expected x1 <= x2 and y1 <= y2 "
            f"within the image of {width} x {height} pixels"
        )
    if _look_normalized(regions):
        return "boxes", (
            f"seems to be normalized: all boxes are between 0 and 1 in an image of {width} x "
            f"{height} pixels; expected pixels: multiply x by the width and y by the height"
        )
    for name, limit in (("object_ids", num_objects), ("attribute_ids", num_attributes)):
        ids = getattr(regions, name)
        if ids.size and not 0 <= ids.min() <= ids.max() < limit:
            worst = ids.min() if ids.min() < 0 else ids.max()
            return name, f"has the id {worst}, expected 0 to {limit - 1}"
    for name in ("object_scores", "attribute_scores"):
        scores = getattr(regions, name)
        if scores.size and not (scores.min() >= -TOLERANCE and scores.max() <= 1 + TOLERANCE):
            return name, f"has the values {scores.min()} to {scores.max()}, expected 0 to 1"
    if not np.isfinite(regions.features).all():
        index = int((~np.isfinite(regions.features)).any(axis=1).argmax())
        return "features", f"has a value in row {index} that is not finite"
    return "", ""


def _look_normalized(regions: Regions) -> bool:
    """Return whether boxes seem to be shares of the image; boxes that are all 0 are ambiguous."""
    if max(regions.image_size) <= _TINY_IMAGE or not regions.boxes.size:
        return False
    return bool(0 < regions.boxes.max() <= 1 + TOLERANCE)


def fit(item: Extracted, dtype: str) -> Extracted:
    """Return regions unchanged, or a `Failure` if they exceed the range of this dtype."""
    if isinstance(item, Failure):
        return item
    image_id, regions = item
    largest = np.abs(regions.features).max(initial=0)
    if largest <= np.finfo(dtype).max:
        return item
    return Failure(
        image_id,
        f"{image_id}: features has the value {largest}, too large for {dtype}: store float32",
    )


def is_blank(line: bytes) -> bool:
    """Return whether a line is empty, as editors and `echo` may leave at the end of a file."""
    return not line.strip(b" \r\n")


def to_columns(fields: Sequence[bytes]) -> dict[str, bytes]:
    """Return the fields of a line by name; of an invalid line, the fields that exist."""
    six = len(fields) == len(SIX_COLUMNS) and all(field.isdigit() for field in fields[1:4])
    return dict(zip(SIX_COLUMNS if six else COLUMNS, fields, strict=False))


_COLUMN_OF = {
    "boxes": "boxes",
    "features": "features",
    "object_ids": "objects_id",
    "object_scores": "objects_conf",
    "attribute_ids": "attrs_id",
    "attribute_scores": "attrs_conf",
}


class _ColumnError(ValueError):
    """The problem of a line."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"column {column}: it {problem}")


def _split(line: bytes) -> dict[str, bytes]:
    fields = line.rstrip(b"\r\n").split(b"\t")
    columns = to_columns(fields)
    if len(fields) != len(columns) or tuple(columns) not in (COLUMNS, SIX_COLUMNS):
        last = COLUMNS[min(len(fields), len(COLUMNS)) - 1]
        raise _ColumnError(
            last,
            f"is number {len(fields)} of the line, expected {len(COLUMNS)} in all, or the "
            f"{len(SIX_COLUMNS)} of bottom-up-attention",
        )
    return columns


def _image_id(field: bytes) -> str:
    try:
        image_id = field.decode()
    except UnicodeDecodeError as error:
        raise _ColumnError("img_id", f"is {field[:40]!r}, expected text in UTF-8") from error
    if not image_id:
        raise _ColumnError("img_id", "is empty, expected an image id")
    return image_id


def _to_regions(columns: dict[str, bytes], expected: TsvFormat) -> Regions:
    height, width = _number(columns, "img_h", least=1), _number(columns, "img_w", least=1)
    count = _number(columns, "num_boxes", least=0)
    regions = Regions(
        boxes=_array(columns, "boxes", np.float32, (count, 4)),
        features=_array(columns, "features", np.float32, (count, expected.feature_dim)),
        image_size=(height, width),
        **(_read_names(columns, count) if "objects_id" in columns else nameless(count)),
    )
    name, problem = find_fault(
        regions, num_objects=expected.num_objects, num_attributes=expected.num_attributes
    )
    if name:
        raise _ColumnError(_COLUMN_OF[name], problem)
    return regions


def _read_names(columns: dict[str, bytes], count: int) -> dict[str, Any]:
    return {
        "object_ids": _array(columns, "objects_id", np.int64, (count,)),
        "object_scores": _array(columns, "objects_conf", np.float32, (count,)),
        "attribute_ids": _array(columns, "attrs_id", np.int64, (count, 1)),
        "attribute_scores": _array(columns, "attrs_conf", np.float32, (count, 1)),
    }


def nameless(count: int) -> dict[str, Any]:
    """Return fields for regions without names: class 0 with confidence 0, no attributes."""
    return {
        "object_ids": np.zeros(count, np.int64),
        "object_scores": np.zeros(count, np.float32),
        "attribute_ids": np.zeros((count, 0), np.int64),
        "attribute_scores": np.zeros((count, 0), np.float32),
    }


def _number(columns: dict[str, bytes], name: str, *, least: int) -> int:
    field = columns[name]
    if not (field.isdigit() and len(field) <= 9 and int(field) >= least):
        raise _ColumnError(name, f"is {field[:40]!r}, expected an integer of at least {least}")
    return int(field)


def _array(
    columns: dict[str, bytes], name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    try:
        data = binascii.a2b_base64(columns[name], strict_mode=True)
    except binascii.Error as error:
        raise _ColumnError(name, f"is not base64 text ({error})") from error
    little = np.dtype(dtype).newbyteorder("<")
    size = int(np.prod(shape)) * little.itemsize
    if len(data) != size:
        form = " x ".join(map(str, shape))
        raise _ColumnError(
            name, f"holds {len(data)} bytes, expected {size} for {form} {little.name}"
        )
    return np.frombuffer(data, little).reshape(shape)


def _check_id(image_id: str) -> None:
    surrogates = any("\ud800" <= mark <= "\udfff" for mark in image_id)
    if surrogates or any(mark in image_id for mark in '\t\r\n\0"'):
        problem = "is not UTF-8 text" if surrogates else "has a tab, a quote or a line end"
        raise ValueError(
            f"the image id {image_id!r} {problem}, which a TSV file cannot hold: extract the image "
            "under another name"
        )


def _to_line(image_id: str, regions: Regions) -> bytes:
    ids, scores = _most_confident_attributes(regions)
    fields = (
        image_id.encode(),
        b"%d" % regions.image_size[0],
        b"%d" % regions.image_size[1],
        _base64(regions.object_ids, "<i8"),
        _base64(regions.object_scores, "<f4"),
        _base64(ids, "<i8"),
        _base64(scores, "<f4"),
        b"%d" % len(regions),
        _base64(regions.boxes, "<f4"),
        _base64(regions.features, "<f4"),
    )
    # The original was written with Python's csv module, which ends lines like this.
    return b"\t".join(fields) + b"\r\n"


def _most_confident_attributes(regions: Regions) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if not regions.attribute_ids.shape[1]:
        return np.zeros(len(regions), np.int64), np.zeros(len(regions), np.float32)
    best = regions.attribute_scores.argmax(axis=1, keepdims=True)
    pair = (regions.attribute_ids, regions.attribute_scores)
    ids, scores = (np.take_along_axis(values, best, axis=1) for values in pair)
    return ids, scores


def _base64(values: npt.NDArray[Any], dtype: str) -> bytes:
    return binascii.b2a_base64(np.ascontiguousarray(values, dtype).data, newline=False)


def _names(names: Sequence[str] | None, kind: str, count: int) -> tuple[str, ...]:
    return tuple(names) if names is not None else tuple(f"{kind} {i}" for i in range(count))
