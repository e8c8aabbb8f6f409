"""Reads region stores in the format that preceded shards, for conversion.

`header.json` has the header; `images.bin` has a record per image, which says where its parts are in
`features.bin`, `regions.bin` and `ids.bin`, with a CRC-32 checksum of each; `failed.jsonl` lists
images without regions.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lxmert.data.store import RegionStore, is_finished
from lxmert.data.store_layout import OLD_STORE_FILE, StoreHeader, decode_id
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.files import parse_json, read_json_object, shorten
from lxmert.schema import Failure, Regions

FORMAT = 2
HEADER, IMAGES, FAILED = "header.json", OLD_STORE_FILE, "failed.jsonl"
_PARTS = {"features": "features.bin", "regions": "regions.bin", "id": "ids.bin"}
_RECORD = np.dtype(
    [(name, "<i8") for name in ("first_region", "first_byte", "id_start")]
    + [(name, "<i4") for name in ("num_regions", "num_groups", "id_bytes")]
    + [(name, "<i4") for name in ("height", "width", "found")]
    + [(f"{name}_checksum", "<u4") for name in _PARTS]
)


def convert_old_store(
    source: Path, target: Path, progress: Callable[[int, int], None]
) -> RegionStore:
    """Write a store in the present format; resumes an interrupted conversion.

    Images whose parts are damaged become failures.

    Raises:
        FileExistsError: if the target is a finished store.
        ValueError: if the source is not finished, or its header or images are damaged.
    """
    header, images = read_old_header(source)
    with StoreWriter(target, header) as writer:
        if writer.done and is_finished(target):
            raise FileExistsError(f"{target} is a finished region store: name another folder")
        for number, item in enumerate(_read(source, header, images), start=1):
            if isinstance(item, Failure) or item[0] not in writer.done:
                writer.add(item)
            progress(min(number, len(images)), len(images))
        writer.finish()
    return RegionStore(target)


def read_old_header(folder: Path) -> tuple[StoreHeader, npt.NDArray[np.void]]:
    """Return the header of a finished store, and the records of its images.

    Raises:
        ValueError: if it is not finished, or damaged.
    """
    if not (folder / HEADER).is_file():
        raise ValueError(
            f"{folder} is an unfinished region store in an earlier format: make it again"
        )
    values = read_json_object(folder / HEADER, remedy="make the store again")
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{folder / HEADER} has store format {shorten(values.get('format'))}, expected "
            f"{FORMAT}: make the store again"
        )
    fields = {name: values[name] for name in StoreHeader.model_fields if name in values}
    try:
        header = StoreHeader(**fields)
    except ValueError as error:
        raise ValueError(f"{folder / HEADER}: {error}: make the store again") from error
    return header, np.fromfile(folder / IMAGES, _RECORD)


def _read(folder: Path, header: StoreHeader, images: npt.NDArray[np.void]) -> Iterator[Extracted]:
    files = {
        part: np.memmap(folder / name, np.uint8, "r")
        if (folder / name).stat().st_size
        else np.zeros(0, np.uint8)
        for part, name in _PARTS.items()
    }
    for number, record in enumerate(images):
        yield _read_image(files, header, record, number)
    failed = folder / FAILED
    for line in failed.read_text(encoding="utf-8").splitlines() if failed.is_file() else ():
        found = parse_json(line, str(folder / FAILED), remedy="make the store again")
        yield Failure(str(found["image_id"]), str(found["reason"]))


def _read_image(
    files: dict[str, npt.NDArray[np.uint8]], header: StoreHeader, record: Any, number: int
) -> Extracted:
    """Return the regions of an image, or a failure if a part does not have its checksum."""
    count, groups = int(record["num_regions"]), int(record["num_groups"])
    row_bytes = header.feature_dim * np.dtype(header.dtype).itemsize
    region = _region_record(max(0, groups))
    spans = {
        "features": (int(record["first_region"]) * row_bytes, count * row_bytes),
        "regions": (int(record["first_byte"]), count * region.itemsize),
        "id": (int(record["id_start"]), int(record["id_bytes"])),
    }
    parts = {}
    for part, (start, size) in spans.items():
        content = files[part][start : start + size].tobytes() if min(start, size) >= 0 else b""
        if len(content) != size or zlib.crc32(content) != record[f"{part}_checksum"]:
            return Failure(f"image {number}", f"its part of {_PARTS[part]} is damaged")
        parts[part] = content
    rows = np.frombuffer(parts["regions"], region)
    return decode_id(parts["id"]), Regions(
        boxes=rows["box"],
        features=np.frombuffer(parts["features"], header.dtype)
        .reshape(count, header.feature_dim)
        .astype(np.float32),
        image_size=(int(record["height"]), int(record["width"])),
        object_ids=rows["object_id"].astype(np.int64),
        object_scores=rows["object_score"],
        attribute_ids=rows["attribute_ids"].astype(np.int64),
        attribute_scores=rows["attribute_scores"],
        found=bool(record["found"]),
    )


def _region_record(num_groups: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("box", "<f4", (4,)),
            ("object_id", "<i4"),
            ("object_score", "<f4"),
            ("attribute_ids", "<i4", (num_groups,)),
            ("attribute_scores", "<f4", (num_groups,)),
        ]
    )
