"""Scores of a model on questions or statements about images, of eyes, and of predictions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from lxmert.data.coco import Names, read_coco
from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.data.readers import read_questions
from lxmert.hub import find_model
from lxmert.names import count
from lxmert.pipeline import LxmertPipeline
from lxmert.regions.extract import DetectorExtractor
from lxmert.schema import Example
from lxmert.tasks.baselines import Baselines, judge
from lxmert.tasks.detection import score_detector
from lxmert.tasks.metrics import accuracy_by_question_type, best_answer
from lxmert.tasks.pairs import read_truths, score_truths
from lxmert.tasks.texts import draw_examples
from lxmert.workflows.prediction import predict, read_asked
from lxmert.workflows.submission import Asked, answer_corpus


class AnswerReport(TypedDict):
    """What `evaluate_answers` and `evaluate_predictions` find.

    Attributes:
        accuracy: mean score, `overall` and by question type; where no question has one, by the kind of its
            answer: `yes/no`, `number`, `other`.
        question_only: the same for the most frequent answer to the identical question; empty where
            nothing is known of the training questions.
        majority: the same for the most frequent answer of all.
        count: number of questions, all of which are scored.
        warnings: what one should know before one believes the numbers.
    """

    accuracy: dict[str, float]
    question_only: dict[str, float]
    majority: dict[str, float]
    count: int
    warnings: list[str]


def evaluate_answers(
    model: str | Path,
    data: Path,
    images: Path,
    *,
    training: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> AnswerReport:
    """Ask a model questions whose answers are known.

    Args:
        model: folder or hub name.
        data: JSONL file of questions with answers.
        images: folder of the images.
        training: JSONL file of training questions, from which guesses without an image are
            learned; absent: the model folder knows them.
        limit: number of questions, drawn at random with a fixed seed; absent: all.
        device: where to compute.
        progress: called with the numbers of questions done and in all.

    Raises:
        ValueError: if no question has an answer, or a question cannot be asked.
    """
    asked = read_asked(data, images)
    examples, warnings = _with_answers(asked, data)
    if limit is not None and limit < len(examples):
        chosen = np.random.default_rng(0).permutation(len(examples))[:limit]
        examples = [examples[index] for index in sorted(chosen.tolist())]
    pipeline = LxmertPipeline.from_pretrained(model, device=device)
    answers = predict(pipeline, examples, images, progress)
    predictions = [best.answer for best in answers]
    unknown = [e for e in examples if not e.answers.keys() & set(pipeline.answers)]
    if unknown:
        warnings.append(
            f"{len(unknown):,} of {count(len(examples), 'question')} "
            f"({len(unknown) / len(examples):.1%}) without an answer that the model can give, "
            f"counted as wrong; the first is {unknown[0].text!r}: {dict(unknown[0].answers)}"
        )
    baselines = Baselines.load(find_model(model)) if training is None else _learn(training)
    return _report(examples, predictions, baselines, warnings)


def evaluate_predictions(
    data: Path, predictions: Path, *, training: Path | None = None
) -> AnswerReport:
    """Score a file of predictions, such as `lxmert predict` writes, whoever made it.

    Args:
        data: JSONL file of questions with answers.
        predictions: JSONL file with `question_id` and `answer` on each line.
        training: as for `evaluate_answers`; absent: there are no guesses to compare with.

    Raises:
        ValueError: if there is not exactly one prediction for each question.
    """
    examples = read_questions(data)
    given = _read_predictions(predictions)
    _check_ids([example.example_id for example in examples], data, given, predictions)
    scored, warnings = _with_answers(examples, data)
    baselines = None if training is None else _learn(training)
    return _report(scored, [given[example.example_id] for example in scored], baselines, warnings)


def evaluate_statements(
    model: Path,
    data: Path,
    images: Path,
    *,
    limit: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> dict[str, float]:
    """Let a model judge statements about two images each.

    Args:
        model: folder of a model that judges statements, with its eyes.
        data: JSONL file of statements with answers.
        images: folder of the images.
        limit: number of examples, a statement with one pair of images each, drawn at random with
            a fixed seed; absent: all.
        device: where to compute.
        progress: called with the numbers of examples done and in all.

    Returns:
        What `score_truths` returns.
    """
    statements = draw_examples(Corpus.read([str(data)], strict=True), limit, seed=0)
    truths = read_truths(statements)
    judged = answer_corpus(model, statements, Asked(data, images), device=device, progress=progress)
    return score_truths(
        [statements.example_id(row) for row in range(len(statements))],
        truths.tolist(),
        [int(truth.answer == "True") for truth in judged],
    )


def evaluate_detector(
    extractor: Path, data: Path, images: Path, *, device: str = "cpu"
) -> dict[str, float]:
    """Score a detector on boxes in COCO's format; `score_detector` says what the scores are.

    Categories and attributes are matched by name; those that the detector does not know are logged
    and left out.
    """
    detector = DetectorExtractor.from_pretrained(extractor, device=device).detector
    known = Names(detector.config.object_names, detector.config.attribute_groups)
    records = read_coco(data, image_folder=images, known=known).records
    return score_detector(detector, records, device=device, by_class=True)


def _with_answers(examples: Sequence[Example], data: Path) -> tuple[list[Example], list[str]]:
    """Return the questions that can be scored, and a warning if others are there."""
    scored = [example for example in examples if example.answers]
    if not scored:
        raise ValueError(f"{data} has no question with an answer: there is nothing to score")
    lost = len(examples) - len(scored)
    if not lost:
        return scored, []
    reported = (
        f"{lost:,} of {count(len(examples), 'question')} of {data} without answer: not scored"
    )
    return scored, [reported]


def _learn(training: Path) -> Baselines:
    return Baselines.learn(read_questions(training))


def _report(
    examples: Sequence[Example],
    predictions: Sequence[str],
    baselines: Baselines | None,
    warnings: Sequence[str],
) -> AnswerReport:
    """Score the predictions, and the guesses beside them."""
    if not any(example.question_type for example in examples):
        examples = [replace(example, question_type=_kind(example)) for example in examples]
    accuracy = accuracy_by_question_type(examples, predictions)
    if baselines is None:
        scores: dict[str, dict[str, float]] = {"question_only": {}, "majority": {}}
        verdict = (
            "it is not known what guessing without an image would reach: name the training "
            "questions with --training"
        )
    else:
        scores = baselines.scores(examples)
        verdict = judge(accuracy, scores)
    return {
        "accuracy": accuracy,
        "question_only": scores["question_only"],
        "majority": scores["majority"],
        "count": len(examples),
        "warnings": [*warnings, *([verdict] if verdict else [])],
    }


def _kind(example: Example) -> str:
    """Return the kind of the best answer, as VQA's evaluation tells them apart."""
    answer = best_answer(example.answers).lower()
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdecimal() else "other"


def _read_predictions(path: Path) -> dict[str, str]:
    """Return answers by question id, from lines with `question_id` and `answer`."""
    answers: dict[str, str] = {}
    for line in scan_lines(path):
        record = line.record or {}
        example_id, answer = record.get("question_id"), record.get("answer")
        if not isinstance(example_id, str | int) or not isinstance(answer, str):
            raise ValueError(
                f"{path} line {line.number}: expected an object with 'question_id' and a text as "
                "'answer', as lxmert predict writes it"
            )
        if str(example_id) in answers:
            raise ValueError(f"{path} line {line.number}: {example_id!r} is answered already")
        answers[str(example_id)] = answer
    return answers


def _check_ids(ids: Sequence[str], data: Path, given: Mapping[str, str], predictions: Path) -> None:
    """Refuse predictions that are not one for each question."""
    twice, times = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if times > 1:
        raise ValueError(f"{data} has the question_id {twice!r} more than once: make them unique")
    missing = [example_id for example_id in ids if example_id not in given]
    if missing:
        raise ValueError(
            f"{predictions} lacks {len(missing):,} of the {count(len(ids), 'question')} of {data}, such "
            f"as {missing[0]!r}: all of them must be answered to be scored"
        )
    unknown = sorted(given.keys() - set(ids))
    if unknown:
        raise ValueError(
            f"{predictions} answers {count(len(unknown), 'question')} that {data} does not ask, such as "
            f"{unknown[0]!r}: are these the predictions for this file?"
        )
