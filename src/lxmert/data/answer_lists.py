"""Files that list answers, in the forms in which such lists are handed around."""

import json
from collections.abc import Sequence
from pathlib import Path

from lxmert.data.answers import AnswerVocabulary


def read_answers(path: str | Path) -> AnswerVocabulary:
    """Read a list of answers.

    Args:
        path: a JSON list of answers (`trainval_label2ans.json`), a JSON list of objects with the
            key `ans` (`all_ans.json`), a JSON object answer -> class id
            (`trainval_ans2label.json`) or class id -> answer (`id2label`), or a text with one
            answer on each line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has none of these forms, an answer twice, or ids with gaps.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of answers {path}: check the path")
    try:
        return AnswerVocabulary(_parse(path.read_text(encoding="utf-8-sig")))
    except ValueError as error:
        raise ValueError(
            f"{path} is no list of answers ({error}): expected a JSON list of answers, a JSON "
            "object answer -> class id, or one answer on each line"
        ) from error


def _parse(text: str) -> Sequence[str]:
    if not text.lstrip().startswith(("[", "{")):
        return text.splitlines()
    content: object = json.loads(text)
    if isinstance(content, dict):
        return _by_id(content)
    assert isinstance(content, list)
    return [_answer(index, entry) for index, entry in enumerate(content)]


def _answer(index: int, entry: object) -> str:
    answer = entry.get("ans") if isinstance(entry, dict) else entry
    if not isinstance(answer, str):
        raise ValueError(f"entry {index} is {entry!r}")
    return answer


def _by_id(ids: dict[str, object]) -> list[str]:
    """Return the answers of `answer -> id`, or of `id -> answer` as in `id2label`, by id."""
    answers: dict[int, str] = {}
    turned = all(key.isdecimal() and isinstance(name, str) for key, name in ids.items())
    for key, value in ids.items():
        answer, index = (str(value), int(key)) if turned else (key, value)
        if not isinstance(index, int) or index in answers:
            raise ValueError(f"answer {answer!r} has the id {index!r}")
        answers[index] = answer
    if sorted(answers) != list(range(len(answers))):
        raise ValueError("its ids are not 0, 1, 2, ...")
    return [answers[index] for index in range(len(answers))]
