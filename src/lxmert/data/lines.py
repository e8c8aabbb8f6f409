"""Reads the lines of a file of questions as JSON objects, with the problems of each line."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lxmert.data.tables import MAX_LINE_BYTES, Line, Problem, scan_array, scan_table
from lxmert.files import bounded_decoder

_HEAD_BYTES = 1 << 16

_DECODER = bounded_decoder()

_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte-order marks of other encodings; longer marks first, as some start with a shorter one."""

_TABLE_NAMES = {"image", "image_id", "question", "answer", "label", "text", "caption", "filename"}


def scan_lines(path: str | Path) -> Iterator[Line]:
    """Yield every non-blank line, valid or not, in bounded memory.

    JSONL, a table whose first row names the columns, and a JSON array are distinguished by their
    content. A file of another kind (another document, UTF-16) yields a single line without a
    record, whose problem says what to do.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is {folder_hint(path)}")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}: expected a JSONL file, one JSON object per line"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        other = _detect_other(path, head)
        if other is not None:
            yield Line(1, None, (other,))
            return
        text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace").lstrip()
        mark = _mark_of_table(text.split("\n", 1)[0].strip())
        if mark or text.startswith("["):
            yield from scan_table(path, mark) if mark else scan_array(path)
            return
        file.seek(0)
        yield from _scan(file)


def folder_hint(path: Path) -> str:
    """Return what to do about a folder in the place of a file of questions."""
    return (
        "a folder, expected a JSONL file: if it is a data set that Hugging Face's datasets saved, "
        f"write its questions with `lxmert convert {path} NEW`"
    )


def _scan(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a JSONL file."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        marks: tuple[Problem, ...] = ()
        if number == 1 and raw.startswith(codecs.BOM_UTF8):
            raw = raw.removeprefix(codecs.BOM_UTF8)
            marks = (Problem("byte_order_mark", "the file starts with a byte-order mark"),)
        if raw.endswith(b"\r\n"):
            marks = (*marks, Problem("windows_line_end", "the line ends with CR LF", about="crlf"))
        if not raw.strip():
            continue
        if len(raw) == MAX_LINE_BYTES:
            detail = f"the line has {MAX_LINE_BYTES} bytes or more; expected one question per line"
            yield Line(number, None, (*marks, Problem("not_json", detail, refused=True)))
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            continue
        record = _parse(raw)
        if isinstance(record, Problem):
            yield Line(number, None, (*marks, record))
        else:
            yield Line(number, record, marks)


def _parse(raw: bytes) -> dict[str, Any] | Problem:
    """Return the JSON object of a line, or the problem."""
    try:
        record = _DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        detail = (
            f"byte {raw[error.start]:#04x} at column {error.start + 1} is not UTF-8; if the file "
            "is in Latin-1, convert it with `iconv -f LATIN1 -t UTF-8`"
        )
        return Problem("not_utf8", detail, refused=True)
    except json.JSONDecodeError as error:
        detail = f"it is not JSON: {error.msg} at column {error.colno}"
        return Problem("not_json", detail, refused=True)
    except ValueError as error:  # an integer that is too long, NaN or infinity
        return Problem("not_json", f"it is not usable JSON: it has {error}", refused=True)
    except RecursionError:
        return Problem("not_json", "it is not usable JSON: it is nested too deep", refused=True)
    if not isinstance(record, dict):
        start = raw.decode().strip()[:60]
        return Problem("not_json", f"it is not a JSON object: {start}", refused=True)
    return record


def _detect_other(path: Path, head: bytes) -> Problem | None:
    """Return the problem of a file that cannot be read line by line; None if there is none."""
    wide = next((name for mark, name in _WIDE_MARKS.items() if head.startswith(mark)), None)
    if wide is None and head[1:200:2].count(0) > len(head[1:200:2]) // 2:
        wide = "UTF-16LE"
    if wide is not None:
        command = f"iconv -f {wide} -t UTF-8 {path} > {path.stem}-utf8{path.suffix}"
        return _other("wrong_encoding", f"the file is in {wide}, expected UTF-8: `{command}`")
    if head.startswith(b"PAR1"):
        return _other(
            "binary_file",
            "the file is a Parquet file: write its questions and images with "
            f"`lxmert convert {path} NEW`",
        )
    if b"\0" in head or head.startswith(b"\x1f\x8b"):
        return _other("binary_file", "the file is not text; if it is compressed, unpack it first")
    text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace").lstrip()
    first = text.split("\n", 1)[0].strip()
    if not text:
        return _other("empty_file", "the file is empty; expected one JSON object per line")
    if _is_document(first):
        return _other(
            "json_array",
            "the file is one JSON document; expected JSONL, one object per line, or an array: "
            "write each entry of its list of questions to a separate line",
        )
    return None


def _mark_of_table(first: str) -> str:
    """Return what separates the names of columns in the first line; empty if it has no names."""
    return next((mark for mark in ",;\t|" if _is_table_head(first, mark)), "")


def _is_document(first: str) -> bool:
    """Return whether the first line starts a JSON document with all questions."""
    if first in ("{", "{}"):
        return first == "{"
    try:
        record = _DECODER.decode(first)
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict) or {"image", "images", "question"} & set(record):
        return False
    tables = [record, *(value for value in record.values() if isinstance(value, dict))]
    return any(
        isinstance(value, list) and value and isinstance(value[0], dict)
        for table in tables
        for value in table.values()
    )


def _is_table_head(first: str, mark: str) -> bool:
    """Return whether the first line has column names."""
    names = {name.strip().strip("\"'").lower() for name in first.split(mark)}
    return not first.startswith("{") and len(names) > 1 and bool(names & _TABLE_NAMES)


def _other(kind: str, detail: str) -> Problem:
    return Problem(kind, detail, refused=True)
