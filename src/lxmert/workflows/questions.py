"""Questions whose answers are known, in batches, each picture being looked at once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from lxmert.data.readers import LocatedQuestion, read_located_questions
from lxmert.pipeline import LxmertPipeline
from lxmert.schema import Regions
from lxmert.workflows.prediction import locate_pictures

BATCH = 16
"""Questions that are computed at a time."""

Progress = Callable[[int, int], None]

SeenQuestion = tuple[LocatedQuestion, Regions]
"""A question, and what the eyes saw in its picture."""


def choose_questions(
    data: Path, images: Path, *, limit: int | None
) -> tuple[list[LocatedQuestion], int]:
    """Return the questions with an answer, those about one picture together.

    Args:
        data: JSONL file of questions.
        images: folder of their pictures, by whose paths below it the questions name them then.
        limit: number of questions, drawn at random with a fixed seed; None means all.

    Returns:
        The questions, and how many were left out as they have no answer.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if none is left, one is about two pictures, or a picture cannot be found.
    """
    rows = read_located_questions(data)
    asked = [row for row in rows if row.example.answers]
    if not asked:
        raise ValueError(f"{data} has no question with an answer: there is nothing to test")
    pair = next((row.example for row in asked if len(row.example.image_ids) > 1), None)
    if pair is not None:
        raise ValueError(
            f"{data}: {pair.example_id} is about two pictures, expected one: only answers about "
            "one picture can be explained"
        )
    left_out = len(rows) - len(asked)
    located = locate_pictures([row.example for row in asked], images, data)
    asked = [row._replace(example=example) for row, example in zip(asked, located, strict=True)]
    if limit is not None and limit < len(asked):
        chosen = np.random.default_rng(0).permutation(len(asked))[:limit]
        asked = [asked[index] for index in sorted(chosen.tolist())]
    places = {row.example.image_ids[0]: place for place, row in reversed([*enumerate(asked)])}
    return sorted(asked, key=lambda row: places[row.example.image_ids[0]]), left_out


def stream_batches(
    pipeline: LxmertPipeline, asked: Sequence[LocatedQuestion], images: Path
) -> Iterator[list[SeenQuestion]]:
    """Yield questions in batches, as `choose_questions` ordered them.

    Raises:
        ValueError: if a picture cannot be read.
    """
    by_image: dict[str, list[LocatedQuestion]] = {}
    for row in asked:
        by_image.setdefault(row.example.image_ids[0], []).append(row)
    pictures = ((image_id, images / image_id) for image_id in by_image)
    waiting: list[SeenQuestion] = []
    for image_id, regions in pipeline.processor.extractor.stream(pictures):
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
