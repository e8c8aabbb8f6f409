"""The region store: regions of many images on disk, memory-mapped, shared by all workers.

A store is a folder: `features.bin`, all region features one after the other; `index.npz`, which
rows belong to which image, with boxes, labels and confidences; `ids.json`, the image ids in order;
`header.json`, written last, which says what made the features. A folder without header is
unfinished; writing to it again takes up where it stopped.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from lxmert.schema import Regions

FORMAT = 1

_ROWS = "rows.partial.jsonl"


@dataclass(frozen=True)
class StoreHeader:
    """What is known of all regions of a store.

    Attributes:
        extractor: fingerprint of the extractor that made the features.
        feature_dim: width of a feature row.
        dtype: of the stored features, `float16` or `float32`.
        precision: in which the extractor computed them, `fp32` or `bf16`.
        object_names: names by object id.
        attribute_names: names by attribute id.
        format: version of this layout.
    """

    extractor: str
    feature_dim: int
    dtype: str
    precision: str
    object_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    format: int = FORMAT


class RegionStore:
    """Read access to the regions of many images by image id."""

    def __init__(self, folder: str | Path) -> None:
        """Open a finished store.

        Raises:
            FileNotFoundError: if the folder holds no finished store.
            ValueError: if its files do not belong together.
        """
        self.folder = Path(folder)
        if not (self.folder / "header.json").is_file():
            raise FileNotFoundError(
                f"{folder} is no finished region store (it has no header.json): "
                "make one with `lxmert extract IMAGES --eyes EYES -o STORE`"
            )
        header = json.loads((self.folder / "header.json").read_text(encoding="utf-8"))
        if header.get("format") != FORMAT:
            raise ValueError(f"{folder} has store format {header.get('format')}, expected {FORMAT}")
        header["object_names"] = tuple(header["object_names"])
        header["attribute_names"] = tuple(header["attribute_names"])
        self.header = StoreHeader(**header)
        self.image_ids: list[str] = json.loads(
            (self.folder / "ids.json").read_text(encoding="utf-8")
        )
        with np.load(self.folder / "index.npz") as index:
            self._index = {name: index[name] for name in index.files}
        self._rows = {image_id: row for row, image_id in enumerate(self.image_ids)}
        self._features = self._map_features()

    def _map_features(self) -> npt.NDArray[Any]:
        """Map the feature file into memory after a check of its size."""
        path, dtype = self.folder / "features.bin", np.dtype(self.header.dtype)
        shape = (int(self._index["offsets"][-1]), self.header.feature_dim)
        expected = shape[0] * shape[1] * dtype.itemsize
        if path.stat().st_size != expected:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, but its index expects {expected}: "
                "the store is damaged; extract it again"
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def __getitem__(self, image_id: str) -> Regions:
        """Return the regions of an image.

        Raises:
            KeyError: naming the image and the store, if it is not there.
        """
        if image_id not in self._rows:
            raise KeyError(f"image {image_id!r} is not in the region store {self.folder}")
        row = self._rows[image_id]
        index = self._index
        span = slice(int(index["offsets"][row]), int(index["offsets"][row + 1]))
        height, width = index["sizes"][row]
        return Regions(
            boxes=index["boxes"][span],
            features=np.asarray(self._features[span], dtype=np.float32),
            image_size=(int(height), int(width)),
            object_ids=index["object_ids"][span],
            object_scores=index["object_scores"][span],
            attribute_ids=index["attribute_ids"][span],
            attribute_scores=index["attribute_scores"][span],
            found=bool(index["found"][row]),
        )

    @staticmethod
    def write(
        folder: str | Path,
        image_ids: Sequence[str],
        extract: Callable[[Sequence[str]], Iterable[tuple[str, Regions]]],
        header: StoreHeader,
    ) -> "RegionStore":
        """Fill a store, taking up an unfinished one where it stopped.

        Args:
            folder: the store; an unfinished one must have been begun with the same header.
            image_ids: the images, in order.
            extract: yields the regions of the images that it is given, in that order.
            header: what is known of all of them.

        Raises:
            FileExistsError: if a finished store is there.
            ValueError: if an unfinished store was begun by another extractor or with images that
                are not wanted now.
        """
        folder = Path(folder)
        if (folder / "header.json").exists():
            raise FileExistsError(f"{folder} is a finished region store: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        rows = _begin(folder, header)
        done = {row["image_id"] for row in rows}
        gone = done - set(image_ids)
        if gone:
            raise ValueError(
                f"{folder} was begun with {len(gone)} images that are not there any more, such as "
                f"{min(gone)!r}: put them back, or remove the folder first"
            )
        remaining = [image_id for image_id in image_ids if image_id not in done]
        with (
            (folder / "features.bin").open("ab") as features,
            (folder / _ROWS).open("a", encoding="utf-8") as lines,
        ):
            for image_id, regions in extract(remaining):
                rows.append(_append(features, lines, image_id, regions, header))
        _finish(folder, rows, header)
        return RegionStore(folder)


def _begin(folder: Path, header: StoreHeader) -> list[dict[str, Any]]:
    """Read what an interrupted run wrote, and cut off what it had half written."""
    path = folder / _ROWS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = text.split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    if not rows:
        path.write_text(json.dumps(asdict(header)) + "\n", encoding="utf-8")
        (folder / "features.bin").write_bytes(b"")
        return []
    begun, rows = rows[0], rows[1:]
    if begun != json.loads(json.dumps(asdict(header))):
        raise ValueError(
            f"{folder} was begun by extractor {begun['extractor']} in {begun['precision']}, not by "
            f"{header.extractor} in {header.precision}: name another folder or remove it first"
        )
    row_bytes = header.feature_dim * np.dtype(header.dtype).itemsize
    ends = np.cumsum([len(row["boxes"]) * row_bytes for row in rows])
    # Features may lie in a cache that a power failure took, although their line was written.
    complete = int(np.searchsorted(ends, (folder / "features.bin").stat().st_size, side="right"))
    rows, lines = rows[:complete], lines[: complete + 1]
    os.truncate(path, len("".join(line + "\n" for line in lines).encode()))
    os.truncate(folder / "features.bin", int(ends[complete - 1]) if complete else 0)
    return rows


def _append(
    features: BinaryIO, lines: TextIO, image_id: str, regions: Regions, header: StoreHeader
) -> dict[str, Any]:
    """Write one image: features first, so that a complete line vouches for them."""
    if regions.features.shape[1] != header.feature_dim:
        raise ValueError(
            f"image {image_id!r} has features of width {regions.features.shape[1]}, "
            f"the store expects {header.feature_dim}"
        )
    features.write(np.ascontiguousarray(regions.features, dtype=header.dtype).tobytes())
    features.flush()
    row = {
        "image_id": image_id,
        "size": list(regions.image_size),
        "boxes": regions.boxes.tolist(),
        "object_ids": regions.object_ids.tolist(),
        "object_scores": regions.object_scores.tolist(),
        "attribute_ids": regions.attribute_ids.tolist(),
        "attribute_scores": regions.attribute_scores.tolist(),
        "found": regions.found,
    }
    lines.write(json.dumps(row) + "\n")
    lines.flush()
    return row


def _finish(folder: Path, rows: list[dict[str, Any]], header: StoreHeader) -> None:
    """Turn the rows into the index; the header comes last and makes the store valid."""

    def join(name: str, dtype: type, *width: int) -> npt.NDArray[Any]:
        parts: list[npt.NDArray[Any]] = [
            np.asarray(row[name], dtype).reshape(len(row["boxes"]), *width) for row in rows
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *width), dtype)

    groups = len(rows[0]["attribute_ids"][0]) if rows else 0
    counts = [len(row["boxes"]) for row in rows]
    np.savez(
        folder / "index.npz",
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        sizes=np.asarray([row["size"] for row in rows], np.int32).reshape(-1, 2),
        boxes=join("boxes", np.float32, 4),
        object_ids=join("object_ids", np.int64),
        object_scores=join("object_scores", np.float32),
        attribute_ids=join("attribute_ids", np.int64, groups),
        attribute_scores=join("attribute_scores", np.float32, groups),
        found=np.asarray([row["found"] for row in rows], bool),
    )
    ids = json.dumps([row["image_id"] for row in rows])
    (folder / "ids.json").write_text(ids, encoding="utf-8")
    partial = folder / "header.partial.json"
    partial.write_text(json.dumps(asdict(header), indent=1), encoding="utf-8")
    partial.rename(folder / "header.json")
    (folder / _ROWS).unlink()
