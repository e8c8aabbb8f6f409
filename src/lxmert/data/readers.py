"""Files of questions and captions -> examples."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lxmert.schema import Example


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and object of every line of a JSONL file; blank lines are passed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line that is no JSON object.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}: a JSONL file, one JSON object a line, is needed")
    # utf-8-sig: editors on Windows put a byte-order mark first.
    with Path(path).open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path} line {number} is not a JSON object: {line.strip()[:60]}")
            yield number, record


def read_questions(path: str | Path) -> list[Example]:
    """Read a question set.

    Each line has `image` and `question`, and may have `answer` (a string) or `answers` (a list of
    strings by several annotators, or a mapping from answer to score), `question_id` and `family`.

    Raises:
        ValueError: naming the line and the key that is missing or of the wrong type.
    """
    examples = []
    for number, record in read_jsonl(path):
        where = f"{path} line {number}"
        examples.append(
            Example(
                example_id=str(record.get("question_id", number)),
                text=_text(record, "question", where),
                image_ids=(_text(record, "image", where),),
                answers=_answers(record, where),
                family=str(record.get("family", "")),
            )
        )
    return examples


def read_captions(path: str | Path) -> list[Example]:
    """Read a caption set: each line has `image` and `caption`."""
    return [
        Example(
            example_id=f"{Path(path).stem}-{number}",
            text=_text(record, "caption", f"{path} line {number}"),
            image_ids=(_text(record, "image", f"{path} line {number}"),),
        )
        for number, record in read_jsonl(path)
    ]


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    """Return a text field, which must be there and must not be blank."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} must be a text, got {value!r}")
    return value


def _answers(record: Mapping[str, Any], where: str) -> dict[str, float]:
    """Return answers with scores; several annotators share one point as often as they agree."""
    if "answers" not in record:
        return {_text(record, "answer", where): 1.0} if "answer" in record else {}
    answers = record["answers"]
    if isinstance(answers, Mapping) and all(
        isinstance(score, int | float) and 0 <= score <= 1 for score in answers.values()
    ):
        return {str(answer): float(score) for answer, score in answers.items()}
    if isinstance(answers, list) and all(isinstance(answer, str) for answer in answers):
        return {answer: answers.count(answer) / len(answers) for answer in answers}
    raise ValueError(
        f"{where}: 'answers' must be a list of texts, or a mapping from text to score in [0, 1]"
    )
