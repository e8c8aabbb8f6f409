"""Predictions for a file of questions or statements, as JSONL or in a leaderboard's format."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lxmert.data.corpus import Corpus
from lxmert.data.readers import check_unique_ids
from lxmert.data.records import read_rows, require
from lxmert.files import atomic_path, to_json
from lxmert.hub import find_model
from lxmert.metrics.fields import Record, text_field
from lxmert.metrics.files import check_coverage, collect, read_json_lines, read_mapping
from lxmert.metrics.nlvr2 import sentence_key
from lxmert.metrics.submissions import (
    write_gqa_submission,
    write_nlvr2_submission,
    write_vqa_submission,
)
from lxmert.metrics.vqa import read_vqa_questions, to_question_id
from lxmert.predict import judges_statements
from lxmert.schema import Answer, Example

Form = Literal["jsonl", "vqa", "gqa", "nlvr2"]

_MOST_SHARD_QUESTIONS = 1_000_000


class Board(NamedTuple):
    """A leaderboard.

    Attributes:
        key: converts a question id to the leaderboard's; rejects one of the wrong form.
        read: reads the ids in an official file, in their order.
        write: writes the answers by id, in the order of the ids.
    """

    key: Callable[[str], Any]
    read: Callable[[Path], list[Any]]
    write: Callable[[Path, dict[Any, str], list[Any]], None]


@dataclass(frozen=True)
class Prediction:
    """What `lxmert predict` is asked for.

    Attributes:
        model: folder or hub name of a model that answers questions or judges statements.
        data: JSONL file of questions, or of statements about two images.
        output: file to write, atomically.
        images: image folder.
        stores: region stores to use instead of images.
        form: `jsonl` (see `write_predictions`), or a key of `BOARDS`.
        official: official file of the leaderboard, whose ids must all be answered, in its order;
            None: the ids of `data`.
        shard_questions: questions per shard; a batch never has questions of two.
    """

    model: str
    data: Path
    output: Path
    images: Path | None = None
    stores: tuple[Path, ...] = ()
    form: Form = "jsonl"
    official: Path | None = None
    shard_questions: int = 4096

    def __post_init__(self) -> None:
        if not 1 <= self.shard_questions <= _MOST_SHARD_QUESTIONS:
            raise ValueError(
                f"--shard-questions is {self.shard_questions}: expected 1 to "
                f"{_MOST_SHARD_QUESTIONS:,}"
            )


def read_questions(prediction: Prediction) -> Corpus:
    """Read all questions and check their ids, for the leaderboard if one is named.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a line cannot be used, the model is of another kind than the format, or the
            leaderboard would reject the ids.
    """
    form, data = prediction.form, prediction.data
    _check_form(find_model(prediction.model), form, prediction.official)
    corpus = Corpus.of(_read(data, ids_needed=form != "jsonl"))
    if not len(corpus):
        raise ValueError(f"{data} has no question; expected one JSON object per line")
    if form != "jsonl":
        _match_ids(BOARDS[form], corpus, data, prediction.official)
    return corpus


def write_board(prediction: Prediction, corpus: Corpus, answers: Iterable[str]) -> None:
    """Write the answers in the format of a leaderboard, atomically.

    Args:
        prediction: names the leaderboard in `form`.
        corpus: what `read_questions` returned.
        answers: the answer to each question, in their order.
    """
    board = BOARDS[prediction.form]
    ids, wanted = _match_ids(board, corpus, prediction.data, prediction.official)
    board.write(prediction.output, dict(zip(ids, answers, strict=True)), wanted)


def write_predictions(path: Path, examples: Iterable[Example], answers: Iterable[Answer]) -> None:
    """Write one JSON object per question, atomically, in the order of the questions.

    The keys are `question_id`, `image` (or `images`, for two), `question`, `answer` and `score`,
    the probability of the answer.
    """
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for example, found in zip(examples, answers, strict=True):
            images = example.image_ids
            record = {
                "question_id": example.example_id,
                **({"image": images[0]} if len(images) == 1 else {"images": list(images)}),
                "question": example.text,
                "answer": found.answer,
                "score": round(found.score, 6),
            }
            file.write(to_json(record, ensure_ascii=False) + "\n")


def _check_form(folder: Path, form: Form, official: Path | None) -> None:
    """Raise `ValueError` for a format that does not belong to the kind of the model."""
    judges = judges_statements(folder)
    if form == "jsonl" and official is not None:
        raise ValueError(f"--official {official} needs --format vqa, gqa or nlvr2: leave it out")
    if form != "jsonl" and judges != (form == "nlvr2"):
        does = "judges statements about two images" if judges else "answers questions"
        raise ValueError(
            f"{folder} {does}, which does not match --format {form}: use "
            f"--format {'nlvr2' if judges else 'vqa or gqa'}, or another model"
        )


def _read(path: Path, *, ids_needed: bool) -> Iterator[Example]:
    """Yield the questions of a file.

    Raises:
        ValueError: naming the first line that cannot be used, or the first two with the same id.
    """
    for row in check_unique_ids(read_rows(path), path):
        example = require(row, path)
        if ids_needed and not row.has_id:
            raise ValueError(
                f"{path} line {row.line} has no 'question_id', which the leaderboard needs: create "
                "the file with `lxmert data build`"
            )
        yield example


def _match_ids(
    board: Board, corpus: Corpus, data: Path, official: Path | None
) -> tuple[list[Any], list[Any]]:
    """Return the ids of the questions, and those that the leaderboard wants, in its order.

    Raises:
        ValueError: if they are not the same, one occurs twice, or has the wrong form.
    """
    ids = [board.key(corpus.example_id(row)) for row in range(len(corpus))]
    known = collect(((key, None) for key in ids), data)
    if official is None:
        return ids, ids
    wanted = board.read(official)
    check_coverage(known, wanted, name=str(data), reference=str(official))
    return ids, wanted


def _vqa_key(question_id: str) -> int:
    number = to_question_id(question_id)
    if not isinstance(number, int):
        raise ValueError(
            f"the question id {question_id[:60]!r} is no number of at most 18 digits, as VQA's "
            "are: use the questions of VQA"
        )
    return number


def _nlvr2_key(question_id: str) -> str:
    sentence_key(question_id)
    return question_id


def _read_gqa(path: Path) -> list[str]:
    return list(collect(read_mapping(path, len), path))


def _read_nlvr2(path: Path) -> list[str]:
    def parse(entry: Record) -> tuple[str, None]:
        return text_field(entry, "identifier"), None

    return list(collect(read_json_lines(path, parse), path))


def _write_nlvr2(path: Path, answers: dict[str, str], ids: list[str]) -> None:
    truths = {key: answer == "True" for key, answer in answers.items()}
    write_nlvr2_submission(path, truths, identifiers=ids)


BOARDS = {
    "vqa": Board(
        _vqa_key,
        read_vqa_questions,
        lambda path, answers, ids: write_vqa_submission(path, answers, question_ids=ids),
    ),
    "gqa": Board(
        str,
        _read_gqa,
        lambda path, answers, ids: write_gqa_submission(path, answers, question_ids=ids),
    ),
    "nlvr2": Board(_nlvr2_key, _read_nlvr2, _write_nlvr2),
}
"""Leaderboards by the name of their format."""
