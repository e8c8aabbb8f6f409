"""Two losses that ground words in the cells of a drawing whose content is known.

Without them, question answering alone stayed near chance for the first 200,000 questions.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lxmert.lab.drawings.drawing import IntArray
from lxmert.lab.drawings.phrases import NOUNS, pluralize
from lxmert.lab.drawings.shapes import COLORS, SHAPES, SYNONYMS

_NOTHING_WEIGHT = 0.15
"""Weight of cells with nothing in the matching loss; most cells are such."""

_NAMES = (*COLORS, *SHAPES)
WORDS = {name: [w for w in SYNONYMS.get(name, (name,)) if " " not in w] for name in _NAMES}
"""Color or shape -> its single words."""

_OF_WORD = {
    form: name
    for name, words in WORDS.items()
    for word in words
    for form in (word, pluralize(word))
}
_ANY_SHAPE = {form for noun in (*NOUNS, "block", "bar", "column") for form in (noun, noun + "s")}


class Mention(NamedTuple):
    """A word of a question that names something in the drawing.

    Attributes:
        position: of the word in the text, from 0.
        cells: `[rows, columns]` bool: where the things are that it names.
    """

    position: int
    cells: npt.NDArray[np.bool_]


def find_mentions(words: Sequence[str], colors: IntArray, shapes: IntArray) -> Iterator[Mention]:
    """Yield the words that name a color or a kind of thing that the drawing has.

    A color names all things of the color; a noun those of its shape and of the color before it.

    Args:
        words: of the question, in lower case.
        colors: `[rows, columns]`, as `Drawing.cells` returns them.
        shapes: `[rows, columns]`, likewise.
    """
    color = ""
    for position, word in enumerate(words):
        name = _OF_WORD.get(word, "")
        if name in COLORS:
            color = name
            named = _has(name, colors)
        elif name in SHAPES or (word in _ANY_SHAPE and color):
            named = _has(name, shapes) & _has(color, colors)
            color = ""
        else:
            if word not in _SIZE_WORDS:
                color = ""
            continue
        if named.any():
            yield Mention(position, named)


_SIZE_WORDS = {word for size in ("small", "medium", "large") for word in SYNONYMS[size]}


def _has(name: str, cells: IntArray) -> npt.NDArray[np.bool_]:
    """Return where a grid has a color or shape; everywhere for the empty name."""
    if not name:
        return np.ones(cells.shape, np.bool_)
    known = tuple(COLORS) if name in COLORS else SHAPES
    found: npt.NDArray[np.bool_] = cells == known.index(name) + 1
    return found


def match_words(cells: Tensor, words: Tensor, nothing: Tensor) -> Tensor:
    """Score how well each word, or nothing, fits each cell.

    Source: the region-word scores of Li et al. 2022, "Grounded language-image pre-training"
    (equation 3), here of the states of the region encoder and the word embeddings.

    Args:
        cells: `[drawings, cells, hidden]`, encoded.
        words: `[words, hidden]`.
        nothing: `[hidden]`, learned.

    Returns:
        `[drawings, cells, 1 + words]`, that of nothing first.
    """
    return cells @ torch.cat([nothing[None], words]).to(cells.dtype).T


def matching_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the word of each cell, summed over cells by their weight.

    Args:
        scores: `[drawings, cells, 1 + words]`.
        targets: `[drawings, cells]`; 0 for nothing.
    """
    weight = scores.new_ones(scores.shape[-1], dtype=torch.float32)
    weight[0] = _NOTHING_WEIGHT
    return functional.cross_entropy(
        scores.float().flatten(0, 1), targets.flatten(), weight, reduction="sum"
    )


def matching_count(targets: Tensor) -> float:
    """Return the sum of the weights of the cells, `[drawings, cells]`."""
    is_thing = targets > 0
    return float(is_thing.sum() + _NOTHING_WEIGHT * (~is_thing).sum())
