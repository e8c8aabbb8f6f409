"""Data sets that are drawn by weight instead of by size."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.names import unknown_name
from lxmert.schema import IntArray


@dataclass(frozen=True)
class Mixture:
    """Data sets of a task and their weights.

    Attributes:
        groups: indices of the examples of each data set; none is empty.
        weights: share of the draws of each data set, relative to the others; positive.
    """

    groups: tuple[IntArray, ...]
    weights: tuple[float, ...]

    def quotas(self, num_draws: int) -> list[int]:
        """Return how many of the draws of an epoch each data set has."""
        shares = np.cumsum(self.weights) / sum(self.weights)
        ends = np.rint(shares * num_draws).astype(np.int64)
        quotas: list[int] = np.diff(ends, prepend=0).tolist()
        return quotas


def mix(corpus: Corpus, weights: Mapping[str, float] | None) -> Mixture | None:
    """Return the mixture of the files of a corpus; None without weights.

    Args:
        corpus: training examples.
        weights: weight by file name, without folder and suffix.

    Raises:
        ValueError: if a weight lacks its file or a file its weight, or one is drawn never.
    """
    if not weights:
        return None
    groups = corpus.by_source()
    for name in weights:
        if name not in groups:
            raise ValueError(f"data.mix: {unknown_name(name, groups)}")
    for name in groups:
        if name not in weights:
            raise ValueError(
                f"data.mix has no weight of {name}; expected one for each of "
                f"{', '.join(groups)}: add it"
            )
    mixture = Mixture(tuple(groups[name] for name in weights), tuple(weights.values()))
    for name, quota in zip(weights, mixture.quotas(len(corpus)), strict=True):
        if not quota:
            raise ValueError(
                f"data.mix gives {name} none of the {len(corpus):,} draws of an epoch: raise its "
                "weight, or remove the file"
            )
    return mixture
