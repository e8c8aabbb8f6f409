"""Writes data sets as Hugging Face's `datasets` stores them, with pyarrow alone."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image


def encoded(color: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """Return an image file of 8 x 6 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(file, kind)
    return file.getvalue()


def save_to_disk(
    folder: Path, table: pyarrow.Table, features: Mapping[str, Any], files: int = 1
) -> None:
    """Write what `Dataset.save_to_disk` writes: Arrow streams, and two JSON files about them."""
    folder.mkdir(parents=True)
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    table = table.replace_schema_metadata(described)
    rows = -(-len(table) // files)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table.slice(number * rows, rows), max_chunksize=2)
    (folder / "cache-8f3.arrow").write_bytes(b"of another version")
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def save_splits(folder: Path, splits: Mapping[str, pyarrow.Table], **features: object) -> None:
    """Write what `DatasetDict.save_to_disk` writes."""
    for name, table in splits.items():
        save_to_disk(folder / name, table, features)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def table_of(images: Sequence[object], **columns: Sequence[object]) -> pyarrow.Table:
    """Return a table with images as `datasets` stores them, as bytes with a path."""
    cells = [
        {"bytes": cell, "path": f"{number}.png"} if isinstance(cell, bytes) else cell
        for number, cell in enumerate(images)
    ]
    return pyarrow.table({**columns, "image": cells})
