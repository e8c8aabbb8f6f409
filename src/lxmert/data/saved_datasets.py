"""Reads data sets of Hugging Face's `datasets` as questions and images, with pyarrow alone.

These are a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote, a Parquet file,
and a folder of Parquet files named by split, as on the hub. Columns have the names of the keys of a
question file (`records.KEYS`); an image is a struct of `bytes` and `path`, bytes, or a path.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lxmert.data.parquet import has_header, import_pyarrow
from lxmert.data.records import KEYS
from lxmert.data.tsv import Progress
from lxmert.files import (
    atomic_path,
    check_absent,
    child_path,
    parse_json,
    read_json_object,
    shorten,
)
from lxmert.images import image_suffix
from lxmert.schema import Failure

IMAGES = "images"
"""Folder of the written images, in the target folder."""

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_ALL = "questions"
"""Name of the questions of a data set without splits."""

_BATCH = 64
_PARQUET_NAME = re.compile(r"(?P<split>\w[\w.]*?)(?:-\d+-of-\d+[\w-]*)?\.parquet")
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


class SavedDataset(NamedTuple):
    """A data set on the disk.

    Attributes:
        path: its file or folder.
        splits: the files of each split, in order.
    """

    path: Path
    splits: dict[str, list[Path]]

    @property
    def files(self) -> list[Path]:
        """The files of all splits."""
        return [file for files in self.splits.values() for file in files]

    @property
    def columns(self) -> list[str]:
        """The names of all columns, those of a question first."""
        names = dict.fromkeys(name for file in self.files for name in _schema(file).names)
        return sorted(names, key=lambda name: name not in KEYS)


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is a saved data set, or a Parquet file is none of regions."""
    if path.is_file():
        return not has_header(path)
    return any((path / name).is_file() for name in (_STATE, _SPLITS)) or bool(_parquets(path))


def open_saved_dataset(path: Path) -> SavedDataset:
    """Find the splits of a data set and their files.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file that lists others is damaged.
    """
    if path.is_file():
        splits = {_ALL: [path]}
    elif (path / _SPLITS).is_file():
        names = read_json_object(path / _SPLITS).get("splits")
        if not isinstance(names, list) or not all(map(_is_split_name, names)):
            raise ValueError(f"{path / _SPLITS} lists no splits: save the data set again")
        splits = {name: _listed(path / name) for name in names}
    elif (path / _STATE).is_file():
        splits = {_ALL: _listed(path)}
    else:
        splits = {}
        for file, split in _parquets(path):
            splits.setdefault(split, []).append(file)
    return SavedDataset(path, splits)


def describe_saved_dataset(data: SavedDataset) -> dict[str, object]:
    """Return the rows of each split, and the columns."""
    rows = {split: sum(map(_count, files)) for split, files in data.splits.items()}
    return {**rows, "columns": data.columns}


def write_questions(
    data: SavedDataset, folder: Path, *, progress: Progress | None = None
) -> list[Failure]:
    """Write a question file for each split, and the images that the data set contains.

    An image is written as it is to `images/`, once, under a name made of its SHA-256 checksum. The
    question files are written last and atomically; images that are there are not written again.

    Args:
        data: the data set.
        folder: receives `SPLIT.jsonl`, or `questions.jsonl` without splits, and `images/`.
        progress: called with the number of rows done and the total.

    Returns:
        The images that cannot be read, which are written nevertheless.

    Raises:
        FileExistsError: if a question file is there already.
        OSError: if a file cannot be written; no question file is left.
        ValueError: if columns are missing, or a file is damaged; the message names it.
    """
    targets = {split: folder / f"{split}.jsonl" for split in data.splits}
    for target in targets.values():
        check_absent(target)
    for file in data.files:
        _check_columns(file)
    total = sum(map(_count, data.files))
    folder.mkdir(exist_ok=True)
    images, done = _ImageWriter(folder), 0
    with ExitStack() as stack:
        for split, files in data.splits.items():
            part = stack.enter_context(atomic_path(targets[split]))
            output = stack.enter_context(part.open("w", encoding="utf-8"))
            for file in files:
                done = _write_rows(file, output, images, done, total, progress)
    return images.failures


def _write_rows(
    path: Path,
    output: TextIO,
    images: "_ImageWriter",
    done: int,
    total: int,
    progress: Progress | None,
) -> int:
    """Write the rows of one file as lines; return the number of rows done."""
    for number, row in enumerate(_read_rows(path), start=1):
        place = f"{path} row {number}"
        for key in row.keys() & {"image", "images"}:
            cell = row[key]
            row[key] = images.write(cell, place) if key == "image" else [
                images.write(image, place) for image in _as_list(cell)
            ]  # fmt: skip
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            output.write(line + "\n")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{place} has a value that a question cannot have ({error}): change or remove its "
                "column"
            ) from error
        done += 1
        if progress is not None:
            progress(done, total)
    return done


class _ImageWriter:
    """Writes each image once.

    Attributes:
        failures: images that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[bytes, str] = {}
        self.failures: list[Failure] = []

    def write(self, cell: object, place: str) -> object:
        """Return the name of an image, which is written if the cell contains it."""
        content, given = cell, ""
        if isinstance(cell, Mapping):
            content, given = cell.get("bytes"), str(cell.get("path"))
            if content is None:
                raise ValueError(
                    f"{place} has an image without bytes, only the path {shorten(given)}: save "
                    "the data set with `save_to_disk`, which includes the images"
                )
        if not isinstance(content, bytes):
            return content
        digest = sha256(content).digest()
        if digest not in self._names:
            self._names[digest] = self._write(content, digest.hex()[:32], place)
        return self._names[digest]

    def _write(self, content: bytes, name: str, place: str) -> str:
        try:
            name += image_suffix(io.BytesIO(content))
        except ValueError as error:
            name += ".jpg"  # the data check lists it as damaged
            self.failures.append(Failure(name, f"{place}: the image {name} is {error}"))
        path = self._folder / IMAGES / name
        # The question files come last: after a kill, an image of another size is written again.
        if not path.is_file() or path.stat().st_size != len(content):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return name


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the cells of each row by key of a question, without those that are null.

    Raises:
        ValueError: if the file is damaged.
    """
    names = [name for name in KEYS if name in _schema(path).names]
    features = _features(path)
    for batch in _read_batches(path, names):
        columns = {name: batch.column(name) for name in names}
        for row in range(len(batch)):
            cells = {name: _to_python(column[row]) for name, column in columns.items()}
            named = {name: _name_classes(cell, features.get(name)) for name, cell in cells.items()}
            yield {name: cell for name, cell in named.items() if cell is not None}


def _to_python(scalar: Any) -> Any:
    """Return a cell as Python values, with a list of answers for answers stored by field."""
    try:
        cell = scalar.as_py(maps_as_pydicts="strict")
    except KeyError as error:
        raise ValueError(f"a mapping has the key {error} twice: correct the data set") from error
    if isinstance(cell, Mapping) and isinstance(cell.get("answer"), list):
        return cell["answer"]
    return cell


def _name_classes(cell: Any, feature: object) -> Any:
    """Replace class ids by their names, which `datasets` stores beside the schema."""
    if isinstance(cell, list):
        inner = feature.get("feature") if isinstance(feature, Mapping) else feature
        inner = inner[0] if isinstance(inner, list) and inner else inner
        return [_name_classes(entry, inner) for entry in cell]
    names = feature.get("names") if isinstance(feature, Mapping) else None
    if not isinstance(cell, int) or not isinstance(names, Sequence):
        return cell
    return names[cell] if 0 <= cell < len(names) else None


def _features(path: Path) -> Mapping[str, object]:
    """Return the types of the columns as `datasets` describes them; empty if another wrote them."""
    stored = (_schema(path).metadata or {}).get(b"huggingface")
    with suppress(AttributeError):
        features = parse_json(stored, str(path)).get("info", {}).get("features") if stored else {}
        return features if isinstance(features, Mapping) else {}
    return {}


def _check_columns(path: Path) -> None:
    names = _schema(path).names
    if "question" not in names or not {"image", "images"} & {*names}:
        raise ValueError(
            f"{path} has the columns {shorten(names, limit=200)}; expected image, question, and "
            "answer or answers: rename them with `Dataset.rename_columns`"
        )
    twice = [name for name in KEYS if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} twice: rename or remove one")


def _schema(path: Path) -> Any:
    arrow, parquet = import_pyarrow()
    with _explain(path):
        if _is_parquet(path):
            return parquet.read_schema(path)
        with arrow.memory_map(str(path)) as source:
            return arrow.ipc.open_stream(source).schema


def _count(path: Path) -> int:
    arrow, parquet = import_pyarrow()
    with _explain(path):
        if _is_parquet(path):
            return int(parquet.read_metadata(path).num_rows)
        with arrow.memory_map(str(path)) as source:
            return sum(map(len, arrow.ipc.open_stream(source)))


def _read_batches(path: Path, names: list[str]) -> Iterator[Any]:
    """Yield batches of some columns, checked: offsets could point outside of the buffers."""
    arrow, parquet = import_pyarrow()
    with _explain(path), ExitStack() as stack:
        if _is_parquet(path):
            file = stack.enter_context(parquet.ParquetFile(path))
            batches = file.iter_batches(batch_size=_BATCH, columns=names)
        else:
            source = stack.enter_context(arrow.memory_map(str(path)))
            batches = (batch.select(names) for batch in arrow.ipc.open_stream(source))
        for batch in batches:
            batch.validate(full=True)
            yield batch


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn errors of pyarrow into one sentence that names the file."""
    arrow, _ = import_pyarrow()
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is damaged ({reason}): fetch or save the data set again"
        ) from error


def _listed(folder: Path) -> list[Path]:
    """Return the files of a saved data set; the folder may have others, of caches."""
    listed: Any = read_json_object(folder / _STATE).get("_data_files")
    names = [entry.get("filename") for entry in listed] if _are_objects(listed) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{folder / _STATE} lists no files: save the data set again")
    files = [child_path(folder, name) for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing, but listed in {_STATE}: copy it again")
    return files


def _parquets(folder: Path) -> list[tuple[Path, str]]:
    """Return the Parquet files of a folder or of its `data`, and their splits."""
    for place in (folder, folder / "data"):
        matches = ((file, _PARQUET_NAME.fullmatch(file.name)) for file in place.glob("*.parquet"))
        if found := sorted((file, match["split"]) for file, match in matches if match):
            return found
    return []


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _is_split_name(name: object) -> bool:
    return isinstance(name, str) and _SPLIT_NAME.fullmatch(name) is not None


def _are_objects(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _as_list(cell: object) -> list[object]:
    return cell if isinstance(cell, list) else [cell]
