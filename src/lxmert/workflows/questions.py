"""Questions whose answers are known, in batches, each image being looked at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lxmert.data.image_folder import ImageFolder
from lxmert.data.readers import LocatedQuestion, read_located_questions
from lxmert.pipeline import LxmertPipeline
from lxmert.regions.preprocess import load_image
from lxmert.schema import Regions

BATCH = 16
"""Questions that are computed at a time."""

Progress = Callable[[int, int], None]

SeenQuestion = tuple[LocatedQuestion, Regions]
"""A question, and what the eyes saw in its image."""


Findings = dict[str, dict[str, Any]]
"""What is wrong with some questions -> `count`, and up to three `first` cases."""

_Cases = dict[str, list[str]]

UNUSABLE = "questions left out, whose image is missing or cannot be read"
MISPLACED = "questions without a pointing game, whose boxes lie outside of the image"


def choose_questions(
    data: Path, images: Path, *, limit: int | None
) -> tuple[list[LocatedQuestion], int, Findings]:
    """Return the questions with an answer, those about one image together.

    Args:
        data: JSONL file of questions.
        images: folder of their images, by whose paths below it the questions name them then.
        limit: number of questions, drawn at random with a fixed seed; None means all.

    Returns:
        The questions, how many were left out as they have no answer, and what else is wrong:
        those whose image cannot be used are left out too, and boxes outside of it are dropped.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if none is left, or one is about two images.
    """
    rows = read_located_questions(data)
    asked = [row for row in rows if row.example.answers]
    if not asked:
        raise ValueError(f"{data} has no question with an answer: there is nothing to test")
    pair = next((row.example for row in asked if len(row.example.image_ids) > 1), None)
    if pair is not None:
        raise ValueError(
            f"{data}: {pair.example_id} is about two images, expected one: only answers about "
            "one image can be explained"
        )
    left_out = len(rows) - len(asked)
    cases: _Cases = {UNUSABLE: [], MISPLACED: []}
    asked = _find_images(asked, images, cases)
    if limit is not None and limit < len(asked):
        chosen = np.random.default_rng(0).permutation(len(asked))[:limit]
        asked = [asked[index] for index in sorted(chosen.tolist())]
    asked = _check_images(asked, images, cases)
    if not asked:
        raise ValueError(
            f"{data}: none of the images can be used, the first is of {cases[UNUSABLE][0]}: "
            "correct the names, or --images"
        )
    places = {row.example.image_ids[0]: place for place, row in reversed([*enumerate(asked)])}
    findings = {text: {"count": len(of), "first": of[:3]} for text, of in cases.items() if of}
    return sorted(asked, key=lambda row: places[row.example.image_ids[0]]), left_out, findings


def _find_images(
    rows: Sequence[LocatedQuestion], images: Path, cases: _Cases
) -> list[LocatedQuestion]:
    """Name images by their paths below the folder; leave out questions without one."""
    folder = ImageFolder(images)
    found = []
    for row in rows:
        match = folder.match(row.example.image_ids[0])
        if match.name is None:
            cases[UNUSABLE].append(f"{row.example.text!r}: {match.detail}")
        else:
            example = replace(row.example, image_ids=(match.name,))
            found.append(row._replace(example=example))
    return found


def _check_images(
    rows: Sequence[LocatedQuestion], images: Path, cases: _Cases
) -> list[LocatedQuestion]:
    """Leave out questions whose image cannot be read, and boxes that lie outside of it."""
    names = dict.fromkeys(row.example.image_ids[0] for row in rows)
    sizes = {name: _read_size(images / name) for name in names}
    usable = []
    for row in rows:
        name = row.example.image_ids[0]
        size = sizes[name]
        if isinstance(size, str):
            cases[UNUSABLE].append(f"{row.example.text!r}: {size}")
            continue
        height, width = size
        if len(row.boxes) and bool((row.boxes[:, :2] >= np.array([width, height])).any()):
            cases[MISPLACED].append(f"{row.example.text!r}: {name} has {width} x {height} pixels")
            row = row._replace(boxes=row.boxes[:0])
        usable.append(row)
    return usable


def _read_size(path: Path) -> tuple[int, int] | str:
    """Return (height, width) of an image, or why it cannot be read."""
    try:
        height, width = load_image(path).shape[:2]
    except (OSError, ValueError) as error:
        return str(error)
    return height, width


def stream_batches(
    pipeline: LxmertPipeline, asked: Sequence[LocatedQuestion], images: Path
) -> Iterator[list[SeenQuestion]]:
    """Yield questions in batches, as `choose_questions` ordered them.

    Raises:
        ValueError: if an image cannot be read.
    """
    by_image: dict[str, list[LocatedQuestion]] = {}
    for row in asked:
        by_image.setdefault(row.example.image_ids[0], []).append(row)
    paths = ((image_id, images / image_id) for image_id in by_image)
    waiting: list[SeenQuestion] = []
    for image_id, regions in pipeline.processor.extractor.stream(paths):
        waiting += [(row, regions) for row in by_image[image_id]]
        while len(waiting) >= BATCH:
            yield waiting[:BATCH]
            waiting = waiting[BATCH:]
    if waiting:
        yield waiting


def make_inputs(pipeline: LxmertPipeline, batch: Sequence[SeenQuestion]) -> dict[str, Tensor]:
    """Return the arguments of forward for a batch, on the model's device."""
    texts = [row.example.text for row, _ in batch]
    inputs = pipeline.processor.inputs([regions for _, regions in batch], texts)
    return {name: value.to(pipeline.device) for name, value in inputs.items()}
