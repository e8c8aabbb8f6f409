"""Parses a line of a question or caption file into an example and a list of its problems.

Harmless problems are fixed and reported: numbers and booleans become strings, and spaces around
answers are removed. Other problems reject the line: readers raise an error, data checks count it.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lxmert.boxes import are_valid
from lxmert.data.lines import scan_lines
from lxmert.data.tables import Line, Problem
from lxmert.names import nearest
from lxmert.schema import Example, FloatArray

SPLITS = ("train", "valid", "test")

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}

KEYS = (
    "image", "images", "question", "answer", "answers", "question_id", "question_type", "split",
    "boxes", "family",
    )  # fmt: skip
"""Keys of a line; `caption` replaces `question` in a caption file, `family` is an older name of
`question_type`."""

_KNOWN = {
    "question": frozenset(KEYS),
    "caption": frozenset({*KEYS, "caption"} - {"question"}),
}

_OTHER_NAMES = {
    **dict.fromkeys(("img", "image_id", "image_path", "file_name", "filename", "path"), "image"),
    **dict.fromkeys(("text", "query", "sentence", "q"), "question"),
    **dict.fromkeys(("label", "target", "a", "multiple_choice_answer"), "answer"),
    **dict.fromkeys(("id", "qid", "uid"), "question_id"),
    **dict.fromkeys(("type", "category"), "question_type"),
    **dict.fromkeys(("bbox", "bboxes", "box"), "boxes"),
}
"""Common other names of keys: they are not read, but the message names the right key."""


class Row(NamedTuple):
    """The content of a line.

    Attributes:
        line: its number, from 1.
        example: the example; None if the line cannot be used.
        split: `train`, `valid`, `test`, or empty if the line does not specify it.
        boxes: `[boxes, 4]` for each image, `(x1, y1, x2, y2)` in pixels; empty if not given.
        problems: the problems of the line; one of them is `refused` if there is no example.
        has_id: whether the line contains the example's id; otherwise it is the line number.
    """

    line: int
    example: Example | None
    split: str
    boxes: tuple[FloatArray, ...]
    problems: list[Problem]
    has_id: bool = False


def read_rows(path: str | Path, *, text_key: str = "question") -> Iterator[Row]:
    """Yield the content of every non-blank line, valid or not.

    Args:
        path: JSONL file, table or JSON array.
        text_key: `question` or `caption`.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    prefix = "" if text_key == "question" else f"{Path(path).stem}-"
    for line in scan_lines(path):
        yield parse(line, default_id=f"{prefix}{line.number}", text_key=text_key)


def require(row: Row, path: str | Path) -> Example:
    """Return the example of a line, which must be usable.

    Raises:
        ValueError: naming file and line, and why the line cannot be used.
    """
    if row.example is None:
        problem = next(problem for problem in row.problems if problem.refused)
        raise ValueError(f"{path} line {row.line}: {problem.detail}")
    return row.example


def parse(line: Line, *, default_id: str, text_key: str = "question") -> Row:
    """Parse a line.

    Args:
        line: as `scan_lines` yields it.
        default_id: the example's id if the line has no `question_id`.
        text_key: `question` or `caption`.
    """
    problems = list(line.problems)
    record = line.record
    if record is None:
        return Row(line.number, None, "", (), problems)
    _report_unknown(record, text_key, problems)
    text = _text(record, text_key, problems)
    image_ids = _image_ids(record, problems)
    answers = _answers(record, problems)
    split = _split(record, problems)
    boxes = _boxes(record, len(image_ids), problems)
    example_id = _label(record, "question_id", default_id, problems)
    question_type = _label(
        record, "question_type" if "question_type" in record else "family", "", problems
    )
    if any(problem.refused for problem in problems):
        return Row(line.number, None, split, (), problems)
    example = Example(example_id, text, image_ids, answers, question_type)
    has_id = record.get("question_id") is not None
    return Row(line.number, example, split, boxes, problems, has_id)


def _report_unknown(record: Mapping[str, Any], text_key: str, problems: list[Problem]) -> None:
    """Report the keys that are not read, and the keys that may be meant."""
    for key in sorted(record.keys() - _KNOWN[text_key]):
        meant = _meant(key)
        if meant and meant not in record:
            detail = f"unknown key {key!r}: rename it if you mean {meant!r}"
            problems.append(Problem("misspelled_key", detail, about=key))
        else:
            problems.append(Problem("unknown_key", f"{key!r} is ignored", about=key))


@lru_cache(maxsize=1024)  # files repeat the same few keys in every line
def _meant(key: str) -> str:
    """Return the key that an unknown key probably means; empty if there is none."""
    simple = key.strip().lower()
    close = nearest(simple, KEYS, cutoff=0.8)
    return _OTHER_NAMES.get(simple) or (close[0] if close else "")


def _text(record: Mapping[str, Any], key: str, problems: list[Problem]) -> str:
    """Return a required string field, which must not be blank."""
    value = record.get(key)
    if isinstance(value, str) and value.strip() and _is_valid_text(value):
        return value
    kind = "no_image" if key == "image" else "no_question"
    given = f"got {_show(value)}" if key in record else "it is missing"
    problems.append(Problem(kind, f"{key!r} must be a string, {given}", refused=True))
    return ""


def _image_ids(record: Mapping[str, Any], problems: list[Problem]) -> tuple[str, ...]:
    """Return the image, or the two images of a pair."""
    if "images" not in record:
        return (_text(record, "image", problems),)
    images = record["images"]
    detail = f"'images' must be a list of one or two strings, got {_show(images)}"
    texts = isinstance(images, list) and all(
        isinstance(name, str) and name.strip() and _is_valid_text(name) for name in images
    )
    if texts and len(images) in (1, 2):
        if record.get("image", images[0]) == images[0]:
            return tuple(images)
        detail = "'image' and 'images' name different images: keep one of the two keys"
    problems.append(Problem("no_image", detail, refused=True))
    return ()


def _answers(record: Mapping[str, Any], problems: list[Problem]) -> dict[str, float]:
    """Return answers with scores; several annotators share a total score of 1 equally."""
    key = "answers" if "answers" in record else "answer"
    answers = record.get(key, "")
    if key == "answer" and not isinstance(answers, list | Mapping):
        answer = _answer(answers, "'answer'", problems) if key in record else ""
        return {answer: 1.0} if answer else {}
    if isinstance(answers, Mapping):
        return _scores(answers, key, problems)
    if not isinstance(answers, list):
        detail = (
            "'answers' must be a list of strings, or a mapping from string to score in [0, 1], "
            f"got {_show(answers)}"
        )
        problems.append(Problem("wrong_answer", detail, refused=True))
        return {}
    counts: Counter[str] = Counter()
    for entry in answers:
        named = isinstance(entry, Mapping) and "answer" in entry
        value = entry["answer"] if named else entry
        counts[_answer(value, f"an entry of {key!r}", problems, several=True)] += 1
    del counts[""]  # annotators without an answer are not counted
    if answers and not counts:
        problems.append(Problem("empty_answer", f"all entries of {key!r} are empty", refused=True))
    return {answer: count / counts.total() for answer, count in counts.items()}


def _scores(answers: Mapping[str, Any], key: str, problems: list[Problem]) -> dict[str, float]:
    """Return answers that are given with scores."""
    scores: dict[str, float] = {}
    for answer, score in answers.items():
        name = _answer(answer, f"a key of {key!r}", problems)
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or not 0 <= score <= 1:
            detail = f"{key!r} must have scores in [0, 1], got {_show(score)} for {answer!r}"
            problems.append(Problem("wrong_answer", detail, refused=True))
        else:
            scores[name] = max(float(score), scores.get(name, 0.0))
    if scores and not any(scores.values()):
        # The best of them would be taught as the right answer.
        detail = f"all scores of {key!r} are 0: {_show(answers)}"
        problems.append(Problem("zero_scores", detail))
        return {}
    return scores


def _answer(value: object, what: str, problems: list[Problem], *, several: bool = False) -> str:
    """Return an answer as a string; empty if there is none.

    One of `several` answers may be empty: that annotator did not answer.
    """
    if isinstance(value, bool):
        text = "yes" if value else "no"
        detail = f"{what} is {str(value).lower()} and is read as {text!r}"
        problems.append(Problem("boolean_answer", detail, about=text))
        return text
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        text = str(int(value)) if value == int(value) else str(value)
        detail = f"{what} is the number {value} and is read as {text!r}"
        problems.append(Problem("number_answer", detail, about=text))
        return text
    if not isinstance(value, str) or not _is_valid_text(value):
        detail = f"{what} must be a string, got {_show(value)}"
        problems.append(Problem("wrong_answer", detail, refused=True))
        return ""
    text = value.strip()
    if not text:
        problems.append(Problem("empty_answer", f"{what} is empty", refused=not several))
    elif text != value:
        detail = f"{what} is {value!r} and is read as {text!r}"
        problems.append(Problem("answer_spaces", detail, about=text))
    return text


def _split(record: Mapping[str, Any], problems: list[Problem]) -> str:
    """Return the standard name of the split."""
    value = record.get("split")
    if value is None or value == "":
        return ""
    split = _SPLIT_NAMES.get(value.strip().lower(), "") if isinstance(value, str) else ""
    if not split:
        detail = f"'split' is {_show(value)}; expected train, val or test"
        problems.append(Problem("unknown_split", detail, refused=True))
    return split


def _boxes(
    record: Mapping[str, Any], num_images: int, problems: list[Problem]
) -> tuple[FloatArray, ...]:
    """Return the boxes of each image; for a pair of images a list of two lists is expected."""
    given = record.get("boxes")
    if given is None:
        return ()
    lists = [given] if num_images < 2 else given
    arrays = []
    # The values may not be numbers, have different lengths, or be too large.
    with contextlib.suppress(TypeError, ValueError, OverflowError), np.errstate(over="ignore"):
        arrays = [np.array(boxes, dtype=np.float32) for boxes in lists]
    if not arrays or len(arrays) != max(1, num_images) or not all(map(_are_boxes, arrays)):
        detail = (
            "'boxes' must be a list of [x1, y1, x2, y2] in pixels with 0 <= x1 < x2 and "
            f"0 <= y1 < y2 (for two images a list of two such lists), got {_show(given)}"
        )
        problems.append(Problem("wrong_boxes", detail, refused=True))
        return ()
    return tuple(arrays)


def _are_boxes(boxes: FloatArray) -> bool:
    """Return whether this is `[boxes, 4]` with at least one box, all of them valid."""
    return (
        boxes.ndim == 2
        and boxes.shape[1] == 4
        and len(boxes) > 0
        and bool(np.isfinite(boxes).all() and are_valid(boxes, allow_empty=False).all())
    )


def _label(record: Mapping[str, Any], key: str, default: str, problems: list[Problem]) -> str:
    """Return an id or a name, which may be a number."""
    value = record.get(key)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_label = isinstance(value, str | int) and not isinstance(value, bool)
    if is_label and _is_valid_text(str(value)):
        return str(value)
    detail = f"{key!r} must be a string or a number, got {_show(value)}"
    problems.append(Problem("wrong_label", detail, refused=True))
    return default


def _is_valid_text(text: str) -> bool:
    """Return whether there is no lone surrogate, which JSON's escapes can produce."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _show(value: object) -> str:
    """Return a short text for a value of any size."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
