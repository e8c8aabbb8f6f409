"""Region stores as Parquet files, one row per image, for other programs and for exchange.

Columns: `image_id`, `height`, `width`, `found`, and lists with one item per region: `boxes` (4
numbers), `features`, `object_ids`, `object_scores`, `attribute_ids` and `attribute_scores` (one
number per group; absent without groups). The schema's metadata has the header of the store as JSON.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.store import RegionStore
from lxmert.data.store_layout import Shard, StoreHeader
from lxmert.data.store_writing import Extracted
from lxmert.data.tsv import Progress
from lxmert.files import atomic_path, parse_json
from lxmert.schema import REGION_ARRAYS, Regions

_HEADER = b"lxmert_header"
_BATCH = 64


def write_parquet(
    path: str | Path, store: RegionStore, *, progress: Progress | None = None
) -> None:
    """Write a store as a Parquet file atomically; a shard becomes a row group.

    Args:
        path: the file.
        store: the region store.
        progress: called with the number of images done and the total.

    Raises:
        ModuleNotFoundError: if pyarrow is not installed.
        OSError: if the file cannot be written; an existing file is kept.
        ValueError: if the store has no image, or not all have as many attribute groups.
    """
    arrow, parquet = import_pyarrow()
    header = {_HEADER: json.dumps(store.header.to_dict()).encode()}
    writer, done = None, 0
    with atomic_path(Path(path)) as partial:
        try:
            for shard in store.shards():
                table = _to_table(arrow, shard).replace_schema_metadata(header)
                writer = writer or parquet.ParquetWriter(partial, table.schema)
                if table.schema != writer.schema:
                    raise ValueError(
                        f"{store.folder} has images with different numbers of attribute groups, "
                        "which one Parquet file cannot hold: convert it to a TSV file"
                    )
                writer.write_table(table)
                done += len(shard)
                if progress is not None:
                    progress(done, len(store))
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise ValueError(f"{store.folder} has no image with regions: there is nothing to write")


def has_header(path: str | Path) -> bool:
    """Return whether a Parquet file has the header of a region store; errors are the same."""
    return _HEADER in (_open(path).schema_arrow.metadata or {})


def read_parquet_header(path: str | Path) -> tuple[StoreHeader, int]:
    """Return the header of the store that a file was written from, and its number of images.

    Raises:
        ModuleNotFoundError: if pyarrow is not installed.
        ValueError: if the file is damaged or was not written by `write_parquet`.
    """
    file = _open(path)
    stored = (file.schema_arrow.metadata or {}).get(_HEADER)
    if stored is None:
        raise ValueError(
            f"{path} has no header of a region store: expected a Parquet file that `lxmert "
            "convert` wrote"
        )
    try:
        header = StoreHeader(**parse_json(stored, str(path)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}: convert the store again") from error
    return header, file.metadata.num_rows


def read_parquet(path: str | Path, skip: frozenset[str]) -> Iterator[Extracted]:
    """Yield the regions of each image that is not in `skip`.

    Raises:
        ValueError: if the file is damaged.
    """
    arrow, _ = import_pyarrow()
    try:
        for batch in _open(path).iter_batches(batch_size=_BATCH):
            for row in range(len(batch)):
                image_id = str(batch.column("image_id")[row].as_py())
                if image_id not in skip:
                    yield image_id, _to_regions(batch, row)
    except (arrow.ArrowException, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): convert the store again") from error


def _to_table(arrow: Any, shard: Shard) -> Any:
    """Return the images of a shard; their numbers are not copied."""
    tensors = shard.file.tensors
    height, width = tensors["image_sizes"].T
    columns = {
        "image_id": shard.image_ids(),
        "height": np.ascontiguousarray(height),
        "width": np.ascontiguousarray(width),
        "found": tensors["found"].astype(bool),
    }
    starts = arrow.array(shard.starts.astype(np.int32))
    for name in StoreHeader.row_columns:
        if tensors[name].ndim == 2 and not tensors[name].shape[1]:
            continue  # a list of no numbers ends the process, by a division in pyarrow 26
        values = arrow.array(tensors[name].reshape(-1))
        if tensors[name].ndim == 2:
            values = arrow.FixedSizeListArray.from_arrays(
                values, type=arrow.list_(values.type, tensors[name].shape[1])
            )
        columns[name] = arrow.ListArray.from_arrays(starts, values)
    return arrow.table(columns)


def _to_regions(batch: Any, row: int) -> Regions:
    def rows(name: str) -> Any:
        if name not in batch.schema.names:
            return np.zeros((len(rows("object_ids")), 0))
        values = batch.column(name)[row].values
        count = len(values)
        flat = values.flatten() if hasattr(values.type, "list_size") else values
        side = [values.type.list_size] if hasattr(values.type, "list_size") else []
        return flat.to_numpy(zero_copy_only=False).reshape(count, *side)

    def number(name: str) -> int:
        return int(batch.column(name)[row].as_py())

    return Regions.of_columns(
        {name: rows(name) for name in REGION_ARRAYS},
        image_size=(number("height"), number("width")),
        found=bool(number("found")),
    )


def _open(path: str | Path) -> Any:
    arrow, parquet = import_pyarrow()
    try:
        return parquet.ParquetFile(path)
    except arrow.ArrowException as error:
        raise ValueError(f"{path} is damaged ({error}): write it again") from error


def import_pyarrow() -> Sequence[Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet and Arrow files need pyarrow, which is not installed: pip install "
            "'lxmert[cluster]'"
        ) from error
    return pyarrow, pyarrow.parquet
