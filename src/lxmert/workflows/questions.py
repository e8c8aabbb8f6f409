"""Questions with known answers about single images, in batches, for analyses of a model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lxmert.data.image_folder import ImageFolder
from lxmert.data.readers import LocatedQuestion, read_located_questions
from lxmert.data.splits import draw_rows
from lxmert.exported import ExportedModel, no_gradients
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.pipeline import LxmertPipeline
from lxmert.predict import ImageRegions, region_batches
from lxmert.schema import Regions

BATCH = 16
"""Questions per batch."""

SeenQuestion = tuple[LocatedQuestion, Regions]
"""A question and the regions of its image."""

Findings = dict[str, dict[str, Any]]
"""Kind of problem -> `count`, and up to three `first` cases."""

UNUSABLE = "questions left out, whose image is missing or cannot be read"
MISPLACED = "questions without a pointing game, whose boxes lie outside of the image"


def choose_questions(
    data: Path, images: Path, *, limit: int | None
) -> tuple[list[LocatedQuestion], int, Findings]:
    """Return the questions with an answer whose image can be used.

    Args:
        data: JSONL file of questions.
        images: image folder; names may differ from the files as in `ImageFolder`.
        limit: number of questions, drawn at random with a fixed seed; None means all.

    Returns:
        The questions, the number without an answer, and other problems: questions whose image
        cannot be used are left out, and boxes outside of the image are dropped.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if no question is left, or one is about two images.
    """
    rows = read_located_questions(data)
    asked = [row for row in rows if row.example.answers]
    if not asked:
        raise ValueError(f"{data} has no question with an answer: add answers to some lines")
    pair = next((row.example for row in asked if len(row.example.image_ids) > 1), None)
    if pair is not None:
        raise ValueError(
            f"{data}: {pair.example_id} is about two images, expected one: only answers about "
            "one image can be explained"
        )
    left_out = len(rows) - len(asked)
    folder = ImageFolder(images)
    missing, asked = _find_images(asked, folder)
    asked = [asked[row] for row in draw_rows(len(asked), limit, seed=0)]
    unreadable, misplaced, asked = _check_images(asked, folder)
    unusable = missing + unreadable
    if not asked:
        raise ValueError(
            f"{data}: none of the images can be used, the first is of {unusable[0]}: correct the "
            "names, or --images"
        )
    cases = {UNUSABLE: unusable, MISPLACED: misplaced}
    findings = {text: {"count": len(of), "first": of[:3]} for text, of in cases.items() if of}
    return _by_image(asked), left_out, findings


def _find_images(
    rows: Sequence[LocatedQuestion], folder: ImageFolder
) -> tuple[list[str], list[LocatedQuestion]]:
    """Return the cases without an image, and the other questions with the paths of theirs."""
    missing, found = [], []
    for row in rows:
        match = folder.match(row.example.image_ids[0])
        if match.name is None:
            missing.append(f"{row.example.text!r}: {match.detail}")
        else:
            found.append(row._replace(example=replace(row.example, image_ids=(match.name,))))
    return missing, found


def _check_images(
    rows: Sequence[LocatedQuestion], folder: ImageFolder
) -> tuple[list[str], list[str], list[LocatedQuestion]]:
    """Return cases of unreadable images and of boxes outside of them, and the other questions."""
    names = sorted({row.example.image_ids[0] for row in rows})
    sizes = dict(folder.open_all(names, decode=True))
    unreadable, misplaced, usable = [], [], []
    for row in rows:
        name = row.example.image_ids[0]
        size = sizes[name]
        if isinstance(size, str):
            unreadable.append(f"{row.example.text!r}: {folder.folder / name}: {size}")
            continue
        if len(row.boxes) and bool((row.boxes[:, :2] >= np.array(size[::-1])).any()):
            misplaced.append(f"{row.example.text!r}: {name} has {size[1]} x {size[0]} pixels")
            row = row._replace(boxes=row.boxes[:0])
        usable.append(row)
    return unreadable, misplaced, usable


def _by_image(rows: Sequence[LocatedQuestion]) -> list[LocatedQuestion]:
    """Order questions so that those about one image follow each other."""
    places: dict[str, int] = {}
    for row in rows:
        places.setdefault(row.example.image_ids[0], len(places))
    return sorted(rows, key=lambda row: places[row.example.image_ids[0]])


def open_answering(
    model: str | Path, *, device: str
) -> tuple[LxmertPipeline, LxmertForQuestionAnswering]:
    """Load a pipeline and its question-answering model.

    Raises:
        ValueError: if the model only matches captions, or is an exported one.
    """
    pipeline = LxmertPipeline.from_pretrained(model, device=device)
    if isinstance(pipeline.model, ExportedModel):
        raise no_gradients(pipeline.name, pipeline.model)
    if pipeline.answering is None:
        raise ValueError(f"{model} only matches captions: use a question-answering model")
    return pipeline, pipeline.answering


def stream_batches(
    pipeline: LxmertPipeline, asked: Sequence[LocatedQuestion], images: Path
) -> Iterator[list[SeenQuestion]]:
    """Yield questions in batches with the regions of their images, in the given order.

    Args:
        pipeline: extracts the regions.
        asked: questions as returned by `choose_questions`.
        images: image folder.
    """
    read = ImageRegions(images, pipeline.processor)
    examples = [row.example for row in asked]
    for indices, regions in region_batches(examples, read, batch_size=BATCH):
        yield [(asked[i], found[0]) for i, found in zip(indices, regions, strict=True)]


def make_inputs(pipeline: LxmertPipeline, batch: Sequence[SeenQuestion]) -> dict[str, Tensor]:
    """Return the arguments of forward for a batch, on the model's device."""
    texts = [row.example.text for row, _ in batch]
    inputs = pipeline.processor.inputs([regions for _, regions in batch], texts)
    return {name: value.to(pipeline.device) for name, value in inputs.items()}
