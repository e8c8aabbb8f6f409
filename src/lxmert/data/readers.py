"""Reads question and caption files as examples; `records` defines the format of a line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lxmert.data.records import Row, read_rows, require
from lxmert.schema import Example, FloatArray


class LocatedQuestion(NamedTuple):
    """A question and the boxes of the objects that it asks about.

    Attributes:
        example: the question.
        boxes: `[boxes, 4]`, `(x1, y1, x2, y2)` in pixels of its first image; may be empty.
    """

    example: Example
    boxes: FloatArray


def stream_questions(path: str | Path) -> Iterator[Example]:
    """Yield the questions of a file in bounded memory: JSONL, a table (CSV, TSV) or a JSON array.

    Each line has `image` and `question`, and may have `answer` or `answers` (a string, a list of
    strings by several annotators, a list of `{"answer": string}`, or a mapping from answer to
    score), `question_id`, `question_type`, `split`, `boxes`, and `images` with two entries instead
    of `image`. Numbers as answers are converted to strings, true and false to yes and no; a
    byte-order mark and Windows line ends are accepted. `check_data` reports all of this before
    training.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the first line that cannot be used, and the reason.
    """
    for row in read_rows(path):
        yield require(row, path)


def read_questions(path: str | Path) -> list[Example]:
    """Read a question file into a list; format and errors are those of `stream_questions`."""
    return list(stream_questions(path))


def check_unique_ids(rows: Iterable[Row], path: str | Path) -> Iterator[Row]:
    """Yield rows with unique ids, because answers are matched by id.

    Raises:
        ValueError: naming the first two lines with the same id.
    """
    lines: dict[str, int] = {}
    for row in rows:
        if row.example is not None:
            example_id = row.example.example_id
            first = lines.setdefault(example_id, row.line)
            if first != row.line:
                raise ValueError(
                    f"{path} lines {first} and {row.line} have the same question_id "
                    f"{example_id[:60]!r}: make the ids unique, or remove all of them to number "
                    "the questions by line"
                )
        yield row


def read_located_questions(path: str | Path) -> list[LocatedQuestion]:
    """Read a question file with its `boxes`; errors are those of `stream_questions`."""
    none = np.zeros((0, 4), np.float32)
    return [
        LocatedQuestion(require(row, path), row.boxes[0] if row.boxes else none)
        for row in read_rows(path)
    ]
