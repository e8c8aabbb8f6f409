"""GQA grounding: attention on the regions that a question and its answer name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lxmert.files import shorten
from lxmert.metrics.fields import Record, number_field, record_field, text_field
from lxmert.metrics.files import collect, read_list, read_mapping
from lxmert.metrics.gqa import GqaQuestion

Box = tuple[float, float, float, float]
Attention = npt.NDArray[np.float64]

_LARGEST = 1e6
"""Upper limit of attention weights: scales above 1 are allowed within reason."""


def gold_regions(question: GqaQuestion, objects: Mapping[str, Box]) -> list[Box]:
    """Return the boxes of the objects named in a question and its full answer.

    There are no other gold regions. The official script intends to add the full image if the
    program refers to the scene, but looks for "scene" among the keys of each step (operation,
    argument, dependencies), so it never does; published scores are computed without it.

    Args:
        question: objects that are named twice count twice, as in the official script.
        objects: boxes of its image by object id, `(x1, y1, x2, y2)` as fractions of the image.

    Raises:
        ValueError: if the scene graph lacks an object.
    """
    missing = [key for key in question.object_ids if key not in objects]
    if missing:
        raise ValueError(
            f"the scene graph of image {question.image_id} lacks the object {missing[0]!r} of a "
            "question: check that scene graphs and questions belong to the same split"
        )
    return [objects[key] for key in question.object_ids]


def grounding_score(attention: Attention, regions: Sequence[Box]) -> float:
    """Sum the attention inside each region, weighting cells by the fraction that is inside.

    Args:
        attention: `[cells, cells]`, 7 x 7 in the official setting; the first index counts from
            left to right and the second from top to bottom, as in the official script.
        regions: `(x1, y1, x2, y2)` as fractions of the image; overlaps count several times.

    Source: the grid branch of the GQA evaluation script.
    """
    edges = np.arange(len(attention) + 1) / len(attention)
    return sum(
        float(_shares(edges, x1, x2) @ attention @ _shares(edges, y1, y2))
        for x1, y1, x2, y2 in regions
    )


def read_scene_graphs(path: Path) -> dict[str, dict[str, Box]]:
    """Return the object boxes of every image in an official file, as fractions of the image.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte or image with the error.
    """
    return collect(read_mapping(path, _objects), path)


def read_attentions(path: Path) -> Iterator[tuple[str, Attention]]:
    """Yield question ids and attention grids; errors as for the scene graphs.

    The file is a list of `{"questionId": str, "attention": [cells][cells] numbers}`.
    """
    return read_list(path, _attention)


def _shares(edges: Attention, start: float, end: float) -> Attention:
    """Return the fraction of each cell's side between start and end."""
    overlap = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    shares: Attention = np.maximum(overlap, 0.0) * (len(edges) - 1)
    return shares


def _objects(entry: Record) -> dict[str, Box]:
    width, height = number_field(entry, "width"), number_field(entry, "height")
    if not (width > 0 and height > 0):
        raise ValueError(
            f"'width' and 'height' are {width} and {height}, expected positive numbers"
        )
    objects = record_field(entry, "objects")
    return {key: _box(record_field(objects, key), width, height) for key in objects}


def _box(entry: Record, width: float, height: float) -> Box:
    x, y, w, h = (number_field(entry, key) for key in ("x", "y", "w", "h"))
    box = x / width, y / height, (x + w) / width, (y + h) / height
    if w < 0 or h < 0 or not all(-1 <= value <= 2 for value in box):  # some extend a little
        raise ValueError(
            f"the box {x, y, w, h} (x, y, w, h) is not inside its image of {width} x {height}"
        )
    return box


def _attention(entry: Record) -> tuple[str, Attention]:
    key, grid = text_field(entry, "questionId"), entry.get("attention")
    if not _is_grid(grid):
        raise ValueError(
            f"'attention' of question {key} is {shorten(grid)}, expected a square grid of numbers, "
            "such as 7 x 7: attention on objects cannot be scored"
        )
    return key, np.array(grid, dtype=np.float64)


def _is_grid(value: object) -> bool:
    """Return whether a value is a square list of lists of numbers in range."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(row, list)
            and len(row) == len(value)
            and all(type(cell) in (int, float) and abs(cell) <= _LARGEST for cell in row)
            for row in value
        )
    )
