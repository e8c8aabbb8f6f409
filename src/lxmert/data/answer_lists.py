"""Reads answer lists in their common file formats."""

from collections.abc import Sequence
from pathlib import Path

from lxmert.data.answers import AnswerVocabulary
from lxmert.files import parse_json, read_text, shorten
from lxmert.vocabularies import ANSWERS


def read_answers(path: str | Path) -> AnswerVocabulary:
    """Read an answer list.

    Args:
        path: a JSON list of answers (`trainval_label2ans.json`), a JSON list of objects with the
            key `ans` (`all_ans.json`), a JSON object answer -> class id
            (`trainval_ans2label.json`) or class id -> answer (the `id2label` of a configuration),
            or a text file with one answer per line; `vqa`, `gqa` or `pretraining`, if there is no
            such file, for the list of the published models.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another format, a duplicate answer, or gaps in the ids.
    """
    path = Path(path) if Path(path).exists() else ANSWERS.get(str(path), Path(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no answer list {path}: check the path, or name a published list, one of "
            f"{', '.join(ANSWERS)}"
        )
    try:
        return AnswerVocabulary(_parse(read_text(path)))
    except ValueError as error:
        raise ValueError(
            f"{path} is not a list of answers ({error}): expected a JSON list of answers, a JSON "
            "object answer -> class id or class id -> answer, or one answer per line"
        ) from error


def _parse(text: str) -> Sequence[str]:
    if not text.lstrip().startswith(("[", "{")):
        return text.splitlines()
    content: object = parse_json(text, "it")
    if isinstance(content, dict):
        return _from_id2label(content) if _is_id2label(content) else _by_id(content)
    assert isinstance(content, list)
    return [_answer(index, entry) for index, entry in enumerate(content)]


def _answer(index: int, entry: object) -> str:
    answer = entry.get("ans") if isinstance(entry, dict) else entry
    if not isinstance(answer, str):
        raise ValueError(f"entry {index} is {shorten(entry)}")
    return answer


def _is_id2label(content: dict[str, object]) -> bool:
    """Return whether keys are ids, as in {"0": "yes"}, but not in {"yes": 0} or {"0": 0}."""
    return bool(content) and all(isinstance(answer, str) for answer in content.values())


def _from_id2label(content: dict[str, object]) -> list[str]:
    expected = [str(index) for index in range(len(content))]
    if content.keys() != set(expected):
        raise ValueError("its ids are not 0, 1, 2, ...")
    return [str(content[index]) for index in expected]


def _by_id(ids: dict[str, object]) -> list[str]:
    answers: dict[int, str] = {}
    for answer, index in ids.items():
        if type(index) is not int or index in answers:
            raise ValueError(f"answer {answer!r} has the id {shorten(index)}")
        answers[index] = answer
    if sorted(answers) != list(range(len(answers))):
        raise ValueError("its ids are not 0, 1, 2, ...")
    return [answers[index] for index in range(len(answers))]
