"""Evaluates a model on questions or statements, a detector on boxes, or a file of predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from lxmert.data.coco import Names, read_coco
from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.data.modality import Modality
from lxmert.data.readers import read_questions
from lxmert.data.splits import draw_rows
from lxmert.exported import is_exported
from lxmert.files import read_json_object
from lxmert.hub import find_model
from lxmert.metrics.intervals import Limits
from lxmert.names import count
from lxmert.predict import (
    TRUTHS,
    Predictor,
    Progress,
    RegionReader,
    judges_statements,
    open_reader,
)
from lxmert.regions.configuration import CONFIG_NAME
from lxmert.regions.extract import DetectorExtractor, find_folder
from lxmert.regions.extractor import EXTRACTORS
from lxmert.schema import Example
from lxmert.study.robustness import one_modality
from lxmert.tasks.baselines import Baselines, judge
from lxmert.tasks.detection import score_detector
from lxmert.tasks.metrics import (
    accuracy_by_question_type,
    best_answer,
    intervals_by_question_type,
)
from lxmert.tasks.pairs import read_truths, score_truths
from lxmert.tasks.texts import draw_examples

Kind = Literal["detector", "statements", "questions"]


class AnswerReport(TypedDict):
    """Results of `evaluate_answers` and `evaluate_predictions`.

    Attributes:
        accuracy: mean score, `overall` and by question type; if no question has a type, by the kind
            of its answer: `yes/no`, `number`, `other`.
        intervals: lower and upper limit of the 95% confidence interval of each accuracy; images
            are resampled, so that questions about the same image count as dependent.
        question_only: the same as `accuracy` for the question-only baseline; empty without training
            questions.
        majority: the same for the majority baseline.
        count: number of scored questions.
        warnings: what limits the meaning of the numbers.
    """

    accuracy: dict[str, float]
    intervals: dict[str, Limits]
    question_only: dict[str, float]
    majority: dict[str, float]
    count: int
    warnings: list[str]


def kind_of(model: str | Path) -> Kind:
    """Return what a model is evaluated on, by its files.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if it is neither a detector, nor answers questions or judges statements.
    """
    path = Path(model)
    config = path / CONFIG_NAME
    if path.exists() and find_folder(path) is None:
        return "detector"
    if config.is_file() and read_json_object(config).get("model_type") in EXTRACTORS:
        return "detector"
    return "statements" if judges_statements(find_model(model)) else "questions"


def evaluate_answers(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    training: Path | None = None,
    limit: int | None = None,
    modality: Modality = "both",
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> AnswerReport:
    """Score the answers of a model to questions.

    Args:
        model: folder or hub name.
        data: JSONL file of questions with answers.
        images: image folder.
        stores: region stores to use instead of images.
        training: JSONL file of training questions, to compute the baselines from; None: those
            stored with the model.
        limit: number of questions, drawn at random with a fixed seed; None: all.
        modality: what the model sees of each question and image.
        device: where to compute.
        progress: called with the numbers of finished and of all questions.

    Raises:
        ValueError: if no question has an answer, or a question cannot be asked.
    """
    folder = find_model(model)
    corpus, warnings = with_answers(Corpus.read([data], strict=True), data)
    corpus = corpus.select(draw_rows(len(corpus), limit, seed=0))
    read = open_reader(folder, images=images, stores=stores, device=device)
    predictor = Predictor.from_pretrained(folder, device=device)
    seen = _one_modality(folder, corpus, read, modality)
    answers = [found.answer for found in predictor.predict(*seen, progress=progress)]
    unknown = [e for e in corpus if not e.answers.keys() & set(predictor.answers)]
    if unknown:
        warnings.append(
            f"{len(unknown):,} of {count(len(corpus), 'question')} "
            f"({len(unknown) / len(corpus):.1%}) without an answer that the model can give, "
            f"counted as wrong; the first is {unknown[0].text!r}: {dict(unknown[0].answers)}"
        )
    baselines = Baselines.load(folder) if training is None else _learn(training)
    return _report(corpus, answers, baselines, warnings)


def evaluate_predictions(
    data: Path, predictions: Path, *, training: Path | None = None
) -> AnswerReport:
    """Score a file of predictions from any source, such as `lxmert predict`.

    Args:
        data: JSONL file of questions with answers.
        predictions: JSONL file with `question_id` and `answer` on each line.
        training: as for `evaluate_answers`; None: no baselines.

    Raises:
        ValueError: if there is not exactly one prediction for each question.
    """
    corpus = Corpus.read([data], strict=True)
    given = read_predictions(predictions, corpus, data)
    scored, warnings = with_answers(corpus, data)
    baselines = None if training is None else _learn(training)
    return _report(scored, [given[example.example_id] for example in scored], baselines, warnings)


def evaluate_statements(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    limit: int | None = None,
    modality: Modality = "both",
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> dict[str, float]:
    """Score the judgments of a model on statements about two images each.

    Args:
        model: folder or hub name of a model that judges statements.
        data: JSONL file of statements with answers.
        images: image folder.
        stores: region stores to use instead of images.
        limit: number of examples (a statement with one pair of images), drawn at random with a
            fixed seed; None: all.
        modality: what the model sees of each statement and its images.
        device: where to compute.
        progress: called with the numbers of finished and of all examples.

    Returns:
        The scores of `score_truths`.
    """
    folder = find_model(model)
    statements = draw_examples(Corpus.read([data], strict=True), limit, seed=0)
    truths = read_truths(statements)
    read = open_reader(folder, images=images, stores=stores, device=device)
    judged = Predictor.from_pretrained(folder, device=device).predict(
        *_one_modality(folder, statements, read, modality), progress=progress
    )
    return score_truths(
        [statements.example_id(row) for row in range(len(statements))],
        truths.tolist(),
        [TRUTHS.index(found.answer) for found in judged],
    )


def _one_modality(
    folder: Path, corpus: Corpus, read: RegionReader, modality: Modality
) -> tuple[Corpus, RegionReader]:
    """Leave out text or image; exported graphs need at least one region."""
    if modality == "text" and is_exported(folder):
        raise ValueError(
            f"{folder} holds an exported model, which needs regions: name the PyTorch model for "
            "--modality text"
        )
    return one_modality(corpus, read, modality)


def evaluate_detector(
    extractor: Path, data: Path, images: Path, *, device: str = "cpu"
) -> dict[str, float]:
    """Score a detector on boxes in COCO's format; `score_detector` lists the scores.

    Categories and attributes are matched by name; those that the detector does not know are logged
    and left out.
    """
    detector = DetectorExtractor.from_pretrained(extractor, device=device).detector
    known = Names(detector.config.object_names, detector.config.attribute_groups)
    records = read_coco(data, image_folder=images, known=known).records
    return score_detector(detector, records, device=device, by_class=True)


def with_answers(corpus: Corpus, data: Path) -> tuple[Corpus, list[str]]:
    """Return the questions that can be scored, and a warning if there are others.

    Raises:
        ValueError: if there are none.
    """
    scored = corpus.select(np.flatnonzero(corpus.num_answers()))
    if not len(scored):
        raise ValueError(f"{data} has no question with an answer: add answers to some lines")
    lost = len(corpus) - len(scored)
    if not lost:
        return scored, []
    total = count(len(corpus), "question")
    return scored, [f"{lost:,} of {total} of {data} without answer: not scored"]


def _learn(training: Path) -> Baselines:
    return Baselines.learn(read_questions(training))


def _report(
    examples: Sequence[Example],
    predictions: Sequence[str],
    baselines: Baselines | None,
    warnings: Sequence[str],
) -> AnswerReport:
    """Score the predictions and the baselines."""
    if not any(example.question_type for example in examples):
        examples = [replace(example, question_type=_kind(example)) for example in examples]
    accuracy = accuracy_by_question_type(examples, predictions)
    if baselines is None:
        scores: dict[str, dict[str, float]] = {"question_only": {}, "majority": {}}
        verdict = (
            "the accuracy that is possible without the image is unknown: name the training "
            "questions with --training"
        )
    else:
        scores = baselines.scores(examples)
        verdict = judge(accuracy, scores)
    return {
        "accuracy": accuracy,
        "intervals": intervals_by_question_type(examples, predictions),
        "question_only": scores["question_only"],
        "majority": scores["majority"],
        "count": len(examples),
        "warnings": [*warnings, *([verdict] if verdict else [])],
    }


def _kind(example: Example) -> str:
    """Return the kind of the best answer, as in VQA's evaluation."""
    answer = best_answer(example.answers).lower()
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdecimal() else "other"


def read_predictions(path: Path, corpus: Corpus, data: Path) -> dict[str, str]:
    """Return answers by question id, from lines with `question_id` and `answer`.

    Args:
        path: the file of predictions.
        corpus: the questions.
        data: their file, for messages.

    Raises:
        ValueError: if there is not exactly one prediction for each question.
    """
    answers: dict[str, str] = {}
    for line in scan_lines(path):
        record = line.record or {}
        example_id, answer = record.get("question_id"), record.get("answer")
        if not isinstance(example_id, str | int) or not isinstance(answer, str):
            raise ValueError(
                f"{path} line {line.number}: expected an object with 'question_id' and a text as "
                "'answer', as written by `lxmert predict`"
            )
        if str(example_id) in answers:
            raise ValueError(
                f"{path} line {line.number}: a second answer to {example_id!r}: remove one of them"
            )
        answers[str(example_id)] = answer
    _check_ids([corpus.example_id(row) for row in range(len(corpus))], data, answers, path)
    return answers


def _check_ids(ids: Sequence[str], data: Path, given: Mapping[str, str], predictions: Path) -> None:
    """Raise `ValueError` unless there is one prediction for each question."""
    twice, times = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if times > 1:
        raise ValueError(f"{data} has the question_id {twice!r} more than once: make them unique")
    missing = [example_id for example_id in ids if example_id not in given]
    if missing:
        raise ValueError(
            f"{predictions} lacks {len(missing):,} of the {count(len(ids), 'question')} of {data}, "
            f"such as {missing[0]!r}: answer every question"
        )
    unknown = sorted(given.keys() - set(ids))
    if unknown:
        raise ValueError(
            f"{predictions} answers {count(len(unknown), 'question')} that {data} does not ask, "
            f"such as {unknown[0]!r}: use the predictions for this file"
        )
