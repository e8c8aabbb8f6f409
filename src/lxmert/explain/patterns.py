"""Measures which attention patterns each head follows, over many questions.

A pattern is a set of query-key pairs, such as "each word and the next word". A head's score is the
share of its attention on these pairs, averaged over all queries that have a pair; it is compared
with the share of uniform attention. The paper shows such heads one by one (Tan and Bansal, EMNLP
2019, appendix).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.boxes import iou
from lxmert.explain.maps import AttentionMaps, Layers
from lxmert.explain.pointing import lie_inside
from lxmert.schema import FloatArray

Pairs = npt.NDArray[np.bool_]
"""`[queries, keys]`, True for the pairs of a pattern."""


class Pattern(NamedTuple):
    """A pattern.

    Attributes:
        kind: kind of map, a field of `AttentionMaps`.
        title: title for figures.
    """

    kind: str
    title: str


PATTERNS = {
    "next_word": Pattern("language", "language: the next word"),
    "previous_word": Pattern("language", "language: the previous word"),
    "same_word": Pattern("language", "language: the word itself"),
    "sentence_ends": Pattern("language", "language: [CLS] and [SEP]"),
    "same_region": Pattern("relationship", "relationship: the region itself"),
    "overlapping_regions": Pattern("relationship", "relationship: overlapping regions"),
    "same_kind": Pattern("relationship", "relationship: other objects of the same name"),
    "named_regions": Pattern("text_over_regions", "cross: regions that the word names"),
    "asked_regions": Pattern("text_over_regions", "cross: [CLS] to the regions asked about"),
    "naming_words": Pattern("regions_over_text", "cross: words that name the region"),
    "next_word_in_cross": Pattern("text_over_text", "cross layers: the next word"),
    "previous_word_in_cross": Pattern("text_over_text", "cross layers: the previous word"),
}
"""Name -> pattern, in display order."""


class PatternInput(NamedTuple):
    """The properties of a question and image that patterns depend on.

    Attributes:
        words: tokens from `[CLS]` to `[SEP]`.
        objects: name of each region's object.
        boxes: `[regions, 4]`.
        targets: `[boxes, 4]`, objects that are asked about; may be empty.
    """

    words: Sequence[str]
    objects: Sequence[str]
    boxes: FloatArray
    targets: FloatArray


@dataclass
class PatternScore:
    """How strongly heads follow a pattern, as sums over queries.

    Attributes:
        total: `[layers, heads]`, summed attention shares.
        even: summed attention shares of uniform attention.
        readers: number of queries.
    """

    total: npt.NDArray[np.float64]
    even: float = 0.0
    readers: int = 0

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """`[layers, heads]` in `[0, 1]`; zero if no query has a pair."""
        return self.total / max(self.readers, 1)

    @property
    def mean_even(self) -> float:
        """The share of uniform attention, in `[0, 1]`."""
        return self.even / max(self.readers, 1)


def find_pairs(seen: PatternInput) -> dict[str, Pairs]:
    """Return the pairs of every pattern for one question about one image."""
    num_words, num_regions = len(seen.words), len(seen.objects)
    inner = np.arange(num_words)
    inside = (inner > 0) & (inner < num_words - 1)
    between = inside[:, None] & inside
    words = np.eye(num_words, dtype=bool)
    regions = np.eye(num_regions, dtype=bool)
    ends = inside[:, None] & ~inside
    objects = np.array([name.lower() for name in seen.objects], dtype=object)
    named = np.array([word.lower() for word in seen.words], dtype=object)[:, None] == objects
    asked = np.zeros((num_words, num_regions), dtype=bool)
    asked[0] = lie_inside(seen.boxes, seen.targets)
    following = np.eye(num_words, k=1, dtype=bool) & between
    overlap = iou(seen.boxes, seen.boxes) > 0
    return {
        "next_word": following,
        "previous_word": following.T,
        "same_word": words & between,
        "sentence_ends": ends,
        "same_region": regions,
        "overlapping_regions": overlap & ~regions,
        "same_kind": (objects[:, None] == objects) & ~regions,
        "named_regions": named,
        "asked_regions": asked,
        "naming_words": named.T,
        "next_word_in_cross": following,
        "previous_word_in_cross": following.T,
    }


def add_shares(
    shares: dict[str, PatternScore], maps: AttentionMaps, batch: Sequence[PatternInput]
) -> None:
    """Add the attention shares of a batch to the sums.

    Args:
        shares: by pattern name; patterns of kinds without a layer are omitted.
        maps: of the batch, padded at the ends.
        batch: the examples in the same order.
    """
    kinds = maps.kinds()
    for row, seen in enumerate(batch):
        for name, pairs in find_pairs(seen).items():
            layers = kinds[PATTERNS[name].kind]
            if layers and pairs.any():
                sums = share_of(layers, row, pairs)
                found = shares.setdefault(name, PatternScore(np.zeros(sums.shape)))
                readers = pairs.any(axis=1)
                found.total += sums
                found.even += float(pairs.mean(axis=1)[readers].sum())
                found.readers += int(readers.sum())


def share_of(layers: Layers, row: int, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Return each head's attention on some pairs, summed over queries.

    Args:
        layers: each `[batch, heads, queries, keys]`, which may be padded at the ends.
        row: row of the example in the batch.
        pairs: `[queries, keys]` of this example, without padding.

    Returns:
        `[layers, heads]`.
    """
    mask: Tensor = torch.from_numpy(pairs)
    readers, read = pairs.shape
    own = [layer[row, :, :readers, :read].cpu().double() for layer in layers]
    return torch.stack([(each * mask).sum(dim=(1, 2)) for each in own]).numpy()
