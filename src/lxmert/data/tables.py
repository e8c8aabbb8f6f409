"""Reads tables (CSV, TSV) and JSON arrays of questions as the lines of a JSONL file are read."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lxmert.files import bounded_decoder
from lxmert.names import count

MAX_LINE_BYTES = 1 << 18
"""Maximum length of a line: the 3129 answers of VQA with a score each take 0.08 MB."""

_JSON_COLUMNS = ("answers", "boxes", "images")
"""Columns of a table whose cells are JSON: lists and mappings."""
_BROKEN_ROW = "cannot be read (%s): check its quotation marks"
_GAP = re.compile(r"[\s,]*")
_CHUNK = 1 << 14
_DECODER = bounded_decoder()


class Problem(NamedTuple):
    """A problem of a line.

    Attributes:
        kind: one of `report.KINDS`.
        detail: what was given and what was expected, to be shown after file and line.
        refused: whether the line cannot be used because of the problem.
        about: the value or key concerned, to detect repeated problems; may be empty.
    """

    kind: str
    detail: str
    refused: bool = False
    about: str = ""


class Line(NamedTuple):
    """A line that is not blank, a row of a table, or an entry of a JSON array.

    Attributes:
        number: of the line or row in the file, or of the entry in the array; from 1.
        record: the JSON object; None if there is no usable one.
        problems: the problems of the line.
    """

    number: int
    record: dict[str, Any] | None
    problems: tuple[Problem, ...]


_NOT_UTF8 = Problem(
    "not_utf8",
    "it is not UTF-8; if the file is in Latin-1, convert it with `iconv -f LATIN1 -t UTF-8`",
    refused=True,
)


def scan_table(path: Path, mark: str) -> Iterator[Line]:
    """Yield the rows below the header of a table in UTF-8.

    Args:
        path: the file; its first row names the columns, like the keys of JSONL.
        mark: the character between cells.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        read: list[str] = []  # the lines of the row that was read last
        rows = csv.reader(_remember(file, read), delimiter=mark)
        try:
            head = next(cells for cells in rows if any(map(str.strip, cells)))
            _refuse_open_quote(read, mark)
        except csv.Error as error:
            yield Line(
                1, None, (Problem("csv", f"the first row {_BROKEN_ROW % error}", refused=True),)
            )
            return
        columns = [name.strip() for name in head]
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            detail = f"the column {twice!r} is there twice; expected different names: rename one"
            yield Line(1, None, (Problem("csv", detail, refused=True),))
            return
        while True:
            number = rows.line_num + 1
            read.clear()
            try:
                cells = next(rows)
                _refuse_open_quote(read, mark)
            except StopIteration:
                return
            except csv.Error as error:
                detail = f"the row of {count(len(read), 'line')} {_BROKEN_ROW % error}"
                yield Line(number, None, (Problem("wrong_row", detail, refused=True),))
                continue
            if any(cell.strip() for cell in cells):
                yield _line_of(number, columns, cells)


def _remember(file: TextIO, read: list[str]) -> Iterator[str]:
    """Yield the lines of a file, and add each to a list."""
    for line in file:
        read.append(line)
        yield line


def _refuse_open_quote(read: Sequence[str], mark: str) -> None:
    """Raise `csv.Error` for a row with a quotation mark that is not closed.

    The cell would silently take all rows up to the next quotation mark. Rows whose quotation marks
    merely look odd, such as those of `5" pipes` or `"so" he said`, are read as they are.
    """
    if len(read) > 1 or read[0].count('"') % 2:
        list(csv.reader(read, delimiter=mark, strict=True))


def _line_of(number: int, columns: list[str], cells: list[str]) -> Line:
    """Return a row of a table; an empty cell is a key that is not there."""
    if len(cells) > len(columns):
        detail = (
            f"the row has {len(cells)} cells, expected {len(columns)}: quote a cell that contains "
            "the separator"
        )
        return Line(number, None, (Problem("wrong_row", detail, refused=True),))
    given = {name: cell for name, cell in zip(columns, cells, strict=False) if cell and name}
    if _is_broken("".join(given.values())):
        return Line(number, None, (_NOT_UTF8,))
    record: dict[str, Any] = dict(given)
    for name in record.keys() & set(_JSON_COLUMNS):
        try:
            record[name] = _DECODER.decode(given[name])
        except (ValueError, RecursionError):
            detail = f"the cell of {name!r} is not JSON: {given[name][:60]}"
            return Line(number, None, (Problem("wrong_row", detail, refused=True),))
    return Line(number, record, ())


def scan_array(path: Path) -> Iterator[Line]:
    """Yield the entries of a JSON array in UTF-8, in bounded memory."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        buffer, number = file.read(_CHUNK).lstrip().removeprefix("["), 0
        while True:
            while not (buffer := _GAP.sub("", buffer, count=1)) and (more := file.read(_CHUNK)):
                buffer = more
            if buffer.startswith("]") or not buffer:
                break
            number += 1
            entry, buffer = _next_entry(buffer, file)
            if isinstance(entry, Problem):
                yield Line(number, None, (entry,))
                if entry.kind == "json_array":
                    return
            else:
                yield Line(number, entry, ())
        detail = ""
        if not buffer:
            detail = f"the array has no end after entry {number}: the file may be cut short"
        elif buffer[1:].strip() or any(
            more.strip() for more in iter(lambda: file.read(_CHUNK), "")
        ):
            detail = f"the array ends after entry {number}, but the file continues: join its arrays"
        if detail:
            yield Line(number + 1, None, (Problem("json_array", detail, refused=True),))


def _next_entry(buffer: str, file: TextIO) -> tuple[dict[str, Any] | Problem, str]:
    """Return the entry that a text starts with, and the text behind it; read on if needed."""
    while True:
        try:
            entry, end = _DECODER.raw_decode(buffer)
        except json.JSONDecodeError as error:
            more = file.read(_CHUNK) if len(buffer) < MAX_LINE_BYTES else ""
            if not more:
                detail = f"it is not JSON: {error.msg}; nothing behind it is read"
                return Problem("json_array", detail, refused=True), ""
            buffer += more
        except (ValueError, RecursionError) as error:  # a number out of bounds, or deep nesting
            detail = f"it is not usable JSON ({error}); nothing behind it is read"
            return Problem("json_array", detail, refused=True), ""
        else:
            rest = buffer[end:]
            if _is_broken(buffer[:end]):
                return _NOT_UTF8, rest
            if isinstance(entry, dict):
                return entry, rest
            shown = buffer[:end][:60]
            return Problem("not_json", f"it is not a JSON object: {shown}", refused=True), rest


def _is_broken(text: str) -> bool:
    """Return whether some of a text was not UTF-8, which is read as these surrogates."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
