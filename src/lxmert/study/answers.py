"""Answers of a model under changes, and whether it is sure for good reason: `--suite robust`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.splits import draw_rows
from lxmert.hub import find_model
from lxmert.metrics.intervals import Limits
from lxmert.names import count
from lxmert.predict import Predictor, Progress, RegionReader, check_images, open_reader
from lxmert.schema import Regions
from lxmert.study.confidence import RISK, ConfidenceReport, measure_confidence
from lxmert.study.robustness import CHANGES, RobustnessRow, measure_robustness
from lxmert.tasks.metrics import (
    accuracy_by_question_type,
    intervals_by_question_type,
    rows_by_question_type,
)

_IMAGES = 8
"""Images whose regions are extracted between two reports of progress."""


class AnswersReport(TypedDict):
    """Result of `measure_answers`.

    Attributes:
        count: number of questions.
        accuracy: accuracy by question type, in `[0, 1]`.
        intervals: limits of its 95% interval.
        counts: number of questions by question type.
        robustness: answers under each change; see `measure_robustness`.
        confidence: calibration and risk-coverage; see `measure_confidence`.
    """

    count: int
    accuracy: dict[str, float]
    intervals: dict[str, Limits]
    counts: dict[str, int]
    robustness: dict[str, RobustnessRow]
    confidence: ConfidenceReport


class Questions(NamedTuple):
    """Questions with answers, and what answers them.

    Attributes:
        predictor: the model.
        corpus: the questions.
        read: returns the regions of their images.
    """

    predictor: Predictor
    corpus: Corpus
    read: RegionReader


def silent(done: int, total: int | None) -> None:
    """Report no progress."""


def open_questions(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    reading: Progress = silent,
) -> Questions:
    """Load a model and questions with answers; the regions of images are extracted once.

    Args:
        model: folder or hub name of a model that answers questions about one image.
        data: JSONL file of questions with answers.
        images: image folder.
        stores: region stores to use instead of images.
        limit: number of questions, drawn at random; None: all.
        seed: seed of the draw.
        device: where to compute.
        reading: called with the numbers of images whose regions are known, and of all.

    Raises:
        ValueError: if the model answers no questions about one image, or nothing can be scored.
    """
    folder = find_model(model)
    predictor = Predictor.from_pretrained(folder, device=device)
    if predictor.num_images != 1:
        raise ValueError(
            f"{model} judges statements about two images: expected a model that answers questions"
        )
    corpus = _read(data, limit, seed)
    read = open_reader(folder, images=images, stores=stores, device=device)
    if images is not None:
        read = _remember(read, corpus, reading)
    return Questions(predictor, corpus, read)


def measure_answers(
    predictor: Predictor,
    corpus: Corpus,
    read: RegionReader,
    *,
    risk: float = RISK,
    seed: int = 0,
    progress: Progress = silent,
) -> AnswersReport:
    """Measure accuracy, robustness and confidence.

    Args:
        predictor: see `open_questions`, also for the next two.
        corpus: the questions.
        read: returns the regions of their images.
        risk: share of wrong answers to accept, in `[0, 1]`, when only confident ones are given.
        seed: seed of all random choices.
        progress: called with the numbers of finished and of all answers.

    Raises:
        ValueError: if all questions are about the same image.
    """
    examples = list(corpus)
    logits = _logits(predictor, corpus, read, progress)
    answers = [predictor.answers[place] for place in logits.argmax(axis=1)]
    types = rows_by_question_type(examples)
    return {
        "count": len(corpus),
        "accuracy": accuracy_by_question_type(examples, answers),
        "intervals": intervals_by_question_type(examples, answers),
        "counts": {name: len(rows) for name, rows in types.items()},
        "robustness": measure_robustness(
            predictor,
            corpus,
            read,
            answers,
            seed=seed,
            progress=lambda done, total: progress(len(corpus) + done, len(corpus) + (total or 0)),
        ),
        "confidence": measure_confidence(
            examples, logits, predictor.answers, accepted_risk=risk, seed=seed
        ),
    }


def _logits(
    predictor: Predictor, corpus: Corpus, read: RegionReader, progress: Progress
) -> np.ndarray:
    """Return the scores of all answers, `[questions, answers]`."""
    logits = np.zeros((len(corpus), len(predictor.answers)), np.float32)
    done, steps = 0, (1 + len(CHANGES)) * len(corpus)
    for indices, found in predictor.logits(corpus, read):
        logits[indices] = found
        done += len(indices)
        progress(done, steps)
    return logits


def _remember(read: RegionReader, corpus: Corpus, progress: Progress) -> RegionReader:
    """Read the regions of all images, since every image is read several times."""
    check_images(corpus, read, 1)
    names = [str(corpus.image_names[place]) for place in corpus.used_images]
    remembered = _Remembered(read)
    progress(0, len(names))
    for start in range(0, len(names), _IMAGES):
        remembered(names[start : start + _IMAGES])
        progress(min(start + _IMAGES, len(names)), len(names))
    return remembered


class _Remembered:
    """A reader that keeps the regions of all images."""

    def __init__(self, read: RegionReader) -> None:
        self._read = read
        self._known: dict[str, Regions] = {}
        self.name = read.name

    def problem(self, image_id: str) -> str | None:
        """Return why an image has no regions; None if it has."""
        return self._read.problem(image_id)

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the regions of each image."""
        new = [name for name in dict.fromkeys(image_ids) if name not in self._known]
        self._known |= zip(new, self._read(new) if new else (), strict=True)
        return [self._known[name] for name in image_ids]


def _read(data: Path, limit: int | None, seed: int) -> Corpus:
    """Read the questions with answers, and draw some of them."""
    corpus = Corpus.read([data], strict=True)
    corpus = corpus.select(np.flatnonzero(corpus.num_answers()))
    if len(corpus) < 2:
        raise ValueError(
            f"{data} has {count(len(corpus), 'question')} with an answer: expected at least two"
        )
    return corpus.select(draw_rows(len(corpus), limit, seed=seed))
