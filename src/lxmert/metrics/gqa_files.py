"""Reads the official GQA files: questions, predictions, choices."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from lxmert.files import shorten
from lxmert.metrics.fields import Record, record_field, records_field, text_field, texts_field
from lxmert.metrics.files import collect, distinct, read_answers, read_mapping
from lxmert.metrics.gqa import GqaChoices, GqaQuestion

_NO_STEPS = ("exist", "query: name", "choose name")
"""Operations whose text contains one of these are not reasoning steps."""


def read_gqa_questions(path: Path) -> dict[str, GqaQuestion]:
    """Return official questions by id.

    Args:
        path: a file, or a folder with the parts of the full training questions.

    Raises:
        FileNotFoundError: if there is no such file, or no part in the folder.
        ValueError: naming the byte or question with the error, or an id that occurs twice.
    """
    parts = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not parts:
        raise FileNotFoundError(f"no *.json files in the folder {path}: unpack the questions there")
    pairs = chain.from_iterable(read_mapping(part, _question) for part in parts)
    return collect(pairs, path)


def read_gqa_predictions(path: Path) -> dict[str, str]:
    """Return predicted answers by question id; errors as for the questions.

    Accepts the official list of `{"questionId": str, "prediction": str}`, JSON lines of such
    objects, and an object that maps question ids to answers.
    """
    return read_answers(path, _prediction, key="questionId", answer="prediction")


def read_gqa_choices(path: Path) -> Iterator[tuple[str, GqaChoices]]:
    """Yield valid and plausible answers by question id; errors as for the questions."""
    return distinct(read_mapping(path, _choices), path)


def _question(entry: Record) -> GqaQuestion:
    types, program = record_field(entry, "types"), records_field(entry, "semantic")
    annotations = record_field(entry, "annotations")
    group = record_field(entry, "groups").get("global")
    if not isinstance(group, str | None):
        raise ValueError(f"'global' in 'groups' is {shorten(group)}, expected a text or null")
    operations = [_operation(step) for step in program]
    return GqaQuestion(
        answer=text_field(entry, "answer"),
        balanced=_flag(entry, "isBalanced"),
        structural=text_field(types, "structural"),
        semantic=text_field(types, "semantic"),
        common="Common" in text_field(types, "detailed"),
        num_words=len(text_field(entry, "question").split()),
        num_steps=sum(not any(sign in text for sign in _NO_STEPS) for text in operations),
        group=group,
        entailed=tuple(texts_field(entry, "entailed")),
        image_id=text_field(entry, "imageId"),
        object_ids=tuple(
            text_field(record_field(annotations, part), word)
            for part in ("question", "fullAnswer")
            for word in record_field(annotations, part)
        ),
    )


def _operation(step: Record) -> str:
    return f"{text_field(step, 'operation')}: {text_field(step, 'argument')}"


def _flag(entry: Record, key: str) -> bool:
    value = entry.get(key)
    if not isinstance(value, bool):
        raise ValueError(f"{key!r} is {shorten(value)}, expected true or false")
    return value


def _prediction(entry: Record) -> tuple[str, str]:
    return text_field(entry, "questionId"), text_field(entry, "prediction")


def _choices(entry: Record) -> GqaChoices:
    return GqaChoices(texts_field(entry, "valid"), texts_field(entry, "plausible"))
