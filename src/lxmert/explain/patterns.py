"""What each attention head reads, over many questions: the next word, what a word names, ...

A pattern is a set of pairs of a reader and what it could read. How strongly a head follows it is
the share of its attention on these pairs, the mean over all readers that have one; beside it
stands the share of a head that reads everything alike. The paper shows such heads one by one (Tan
and Bansal, EMNLP 2019, appendix).
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
"""`[readers, read]`, True for a pair of a pattern."""


class Pattern(NamedTuple):
    """A pattern.

    Attributes:
        kind: of the maps that it is about, a field of `AttentionMaps`.
        title: what is read by whom.
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
    "asked_regions": Pattern("text_over_regions", "cross: [CLS] on what is asked about"),
    "naming_words": Pattern("regions_over_text", "cross: words that name the region"),
    "next_word_in_cross": Pattern("text_over_text", "cross layers: the next word"),
    "previous_word_in_cross": Pattern("text_over_text", "cross layers: the previous word"),
}
"""Name -> pattern, in the order in which they are shown."""


class Seen(NamedTuple):
    """A question and an image, as far as patterns depend on them.

    Attributes:
        words: tokens from `[CLS]` to `[SEP]`.
        objects: name of each region's object.
        boxes: `[regions, 4]`.
        targets: `[boxes, 4]` of what is asked about; may be empty.
    """

    words: Sequence[str]
    objects: Sequence[str]
    boxes: FloatArray
    targets: FloatArray


@dataclass
class Share:
    """How strongly heads follow a pattern: sums over readers.

    Attributes:
        total: `[layers, heads]`, the sum of the shares.
        even: the sum of the shares of a head that reads everything alike.
        readers: how many there were.
    """

    total: npt.NDArray[np.float64]
    even: float = 0.0
    readers: int = 0

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """`[layers, heads]` in `[0, 1]`; zero where nobody could follow the pattern."""
        return self.total / max(self.readers, 1)

    @property
    def mean_even(self) -> float:
        """The share in `[0, 1]` of a head that reads everything alike."""
        return self.even / max(self.readers, 1)


def find_pairs(seen: Seen) -> dict[str, Pairs]:
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


def add_shares(shares: dict[str, Share], maps: AttentionMaps, batch: Sequence[Seen]) -> None:
    """Add what the heads of a batch read to the sums.

    Args:
        shares: by the name of a pattern; patterns of kinds without a layer are left out.
        maps: of the batch, padded behind words and regions.
        batch: as many examples.
    """
    kinds = maps.kinds()
    for row, seen in enumerate(batch):
        for name, pairs in find_pairs(seen).items():
            layers = kinds[PATTERNS[name].kind]
            if layers and pairs.any():
                sums = share_of(layers, row, pairs)
                found = shares.setdefault(name, Share(np.zeros(sums.shape)))
                readers = pairs.any(axis=1)
                found.total += sums
                found.even += float(pairs.mean(axis=1)[readers].sum())
                found.readers += int(readers.sum())


def share_of(layers: Layers, row: int, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Return how much of its attention each head has on some pairs, summed over the readers.

    Args:
        layers: each `[batch, heads, readers, read]`, which may be padded at the ends.
        row: the example of the batch.
        pairs: `[readers, read]` of this example, without padding.

    Returns:
        `[layers, heads]`.
    """
    mask: Tensor = torch.from_numpy(pairs)
    readers, read = pairs.shape
    own = [layer[row, :, :readers, :read].cpu().double() for layer in layers]
    return torch.stack([(each * mask).sum(dim=(1, 2)) for each in own]).numpy()
