"""Scores of a model on questions or statements about pictures, and of eyes, from pixels."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np

from lxmert.data.coco import read_coco
from lxmert.data.preprocessing import EYES_FOLDER
from lxmert.data.readers import read_questions
from lxmert.model.heads import LxmertForImagesAndTextClassification
from lxmert.pipeline import LxmertPipeline
from lxmert.tasks.detection import score_detector
from lxmert.tasks.metrics import accuracy_by_family, blind_guesses
from lxmert.tasks.pairs import PairsData, PairsSettings, PairsTask
from lxmert.tasks.texts import ModelSettings
from lxmert.vision.extract import RegionExtractor
from lxmert.workflows.extraction import ExtractionSettings, extract_folder, load_eyes
from lxmert.workflows.prediction import predict


class AnswerReport(TypedDict):
    """What `evaluate_answers` finds.

    Attributes:
        accuracy: mean score, `overall` and by family.
        blind: the same for the blind guess; empty without training questions.
        count: number of questions.
    """

    accuracy: dict[str, float]
    blind: dict[str, float]
    count: int


def evaluate_answers(
    model: str | Path,
    data: Path,
    images: Path,
    *,
    training: Path | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> AnswerReport:
    """Ask a model questions whose answers are known.

    Args:
        model: folder or hub name.
        data: JSONL file of questions with answers.
        images: folder of the pictures.
        training: JSONL file of training questions, from which the blind guess learns.
        limit: number of questions, drawn at random with a fixed seed; absent: all.
        progress: called with the numbers of questions done and in all.

    Raises:
        ValueError: if no question has an answer.
    """
    examples = [example for example in read_questions(data) if example.answers]
    if not examples:
        raise ValueError(f"{data} has no question with an answer: there is nothing to score")
    if limit is not None and limit < len(examples):
        chosen = np.random.default_rng(0).permutation(len(examples))[:limit]
        examples = [examples[index] for index in sorted(chosen.tolist())]
    pipeline = LxmertPipeline.from_pretrained(model)
    predictions = [best.answer for best in predict(pipeline, examples, images, progress)]
    blind = {}
    if training is not None:
        blind = accuracy_by_family(examples, blind_guesses(read_questions(training), examples))
    return {
        "accuracy": accuracy_by_family(examples, predictions),
        "blind": blind,
        "count": len(examples),
    }


def evaluate_statements(
    model: Path,
    data: Path,
    images: Path,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> dict[str, float]:
    """Let a model judge statements about two pictures each.

    Args:
        model: folder of a model of the task `pairs`, with its eyes.
        data: JSONL file of statements with answers.
        images: folder of the pictures.
        limit: number of statements, the first of the file; absent: all.
        progress: called with the numbers of pictures seen and in all.

    Returns:
        What `PairsTask.evaluate` returns.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "regions"
        eyes = load_eyes(model / EYES_FOLDER)
        extract_folder(images, store, eyes, ExtractionSettings("float32"), progress=progress)
        files = PairsData(str(data), str(data), str(store), str(store))
        task = PairsTask(PairsSettings(files, ModelSettings(start=str(model))), seed=0)
        task.model.eval()
        return task.evaluate(device="cpu", limit=limit)


def judges_statements(model: str | Path) -> bool:
    """Tell whether a folder holds a model of statements about two pictures."""
    config = Path(model) / "config.json"
    if not config.is_file():
        return False
    content: dict[str, object] = json.loads(config.read_text(encoding="utf-8"))
    return content.get("architectures") == [LxmertForImagesAndTextClassification.__name__]


def evaluate_eyes(eyes: Path, data: Path, images: Path) -> dict[str, float]:
    """Score a detector on boxes in COCO's format; `score_detector` says what the scores are."""
    detector = RegionExtractor.from_pretrained(eyes).detector
    records = read_coco(data, image_folder=images).records
    return score_detector(detector, records, device="cpu", by_class=True)
