"""The official VQA v2 accuracy: leave-one-out agreement with ten annotators."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from lxmert.metrics.fields import Record, int_field, records_field, text_field
from lxmert.metrics.files import collect, distinct, read_answers, read_list
from lxmert.metrics.vqa_answers import clean_answer, strip_answer

_MAX_DIGITS = 18
"""Maximum digits of a question id; official ids have at most nine."""


class VqaAnswer(NamedTuple):
    """The answer of one annotator; records are equal if all three fields are.

    Attributes:
        answer: the answer as written.
        confidence: "yes", "maybe" or "no"; None if the file does not say.
        answer_id: number of the annotator; None if the file does not say.
    """

    answer: str
    confidence: str | None
    answer_id: int | None


class VqaAnnotation(NamedTuple):
    """The annotation of one question."""

    question_id: int
    question_type: str
    answer_type: str
    answers: tuple[VqaAnswer, ...]


class VqaScores(TypedDict):
    """Mean accuracy in percent with two decimals.

    Attributes:
        overall: over all questions.
        per_answer_type: by answer type (yes/no, number, other).
        per_question_type: by first words ("how many", "is the", ...).
    """

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]


def read_vqa_questions(path: Path) -> list[int]:
    """Return the question ids of an official file in file order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte or entry with the error, or an id that occurs twice.
    """
    pairs = read_list(path, lambda entry: (int_field(entry, "question_id"), ""), member="questions")
    return list(collect(pairs, path))


def read_vqa_annotations(path: Path) -> Iterator[tuple[int, VqaAnnotation]]:
    """Yield question ids and annotations of an official file; errors as for the questions."""
    return distinct(read_list(path, _annotation, member="annotations"), path)


def read_vqa_results(path: Path) -> dict[int, str]:
    """Return answers by question id; errors as for the questions.

    Accepts the official list of `{"question_id": int, "answer": str}`, JSON lines of such objects,
    and an object that maps question ids to answers.
    """
    return read_answers(path, _result, key="question_id", answer="answer", to_key=to_question_id)


def to_question_id(given: object) -> object:
    """Convert an id in digits to an integer; return anything else unchanged."""
    is_number = isinstance(given, str) and given.isascii() and given.isdecimal()
    return int(str(given)) if is_number and len(str(given)) <= _MAX_DIGITS else given


def answer_accuracy(prediction: str, annotators: Sequence[VqaAnswer]) -> float:
    """Score one predicted answer.

    For each subset without one annotator, the answer is correct if three of the others gave it:
    the score is the mean of `min(1, matches / 3)`. Answers are only normalized if the annotators
    disagree.

    Args:
        prediction: the answer.
        annotators: at least one; ten in the official files.

    Returns:
        The score in `[0, 1]`: 0.3, 0.6, 0.9 and 1 for one, two, three and more of ten.

    Source: GT-Vision-Lab's `vqaEval`, including its quirks.
    """
    prediction = strip_answer(prediction)
    answers = [strip_answer(annotator.answer) for annotator in annotators]
    if len(set(answers)) > 1:
        prediction = clean_answer(prediction)
        answers = [clean_answer(answer) for answer in answers]
    matches = answers.count(prediction)
    if not matches:
        return 0.0
    # The official code leaves out all records that equal the current one, including confidence
    # and id. It also adds in this order.
    records = [
        (answer, *annotator[1:]) for answer, annotator in zip(answers, annotators, strict=True)
    ]
    others = [
        matches - records.count(record) if record[0] == prediction else matches
        for record in records
    ]
    return sum(min(1.0, count / 3) for count in others) / len(others)


def score_vqa(annotations: Iterable[VqaAnnotation], results: Mapping[int, str]) -> VqaScores:
    """Compute the mean accuracies.

    Args:
        annotations: one for each question; at least one.
        results: an answer for each of them, by question id.
    """
    overall: list[float] = []
    answer_types: dict[str, list[float]] = defaultdict(list)
    question_types: dict[str, list[float]] = defaultdict(list)
    for annotation in annotations:
        accuracy = answer_accuracy(results[annotation.question_id], annotation.answers)
        overall.append(accuracy)
        answer_types[annotation.answer_type].append(accuracy)
        question_types[annotation.question_type].append(accuracy)
    return {
        "overall": _percent(overall),
        "per_answer_type": {name: _percent(answer_types[name]) for name in sorted(answer_types)},
        "per_question_type": {
            name: _percent(question_types[name]) for name in sorted(question_types)
        },
    }


def _annotation(entry: Record) -> tuple[int, VqaAnnotation]:
    answers = tuple(
        VqaAnswer(
            text_field(answer, "answer"),
            text_field(answer, "answer_confidence") if "answer_confidence" in answer else None,
            int_field(answer, "answer_id") if "answer_id" in answer else None,
        )
        for answer in records_field(entry, "answers")
    )
    if not answers:
        raise ValueError("'answers' is empty, expected the answers of ten annotators")
    question_id = int_field(entry, "question_id")
    types = (text_field(entry, "question_type"), text_field(entry, "answer_type"))
    return question_id, VqaAnnotation(question_id, *types, answers)


def _result(entry: Record) -> tuple[int, str]:
    return int_field(entry, "question_id"), text_field(entry, "answer")


def _percent(scores: Sequence[float]) -> float:
    return round(100 * sum(scores) / len(scores), 2)
