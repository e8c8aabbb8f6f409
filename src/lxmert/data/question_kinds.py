"""Kinds of questions by their first words, and the answers that each kind suggests."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from lxmert.schema import FloatArray, IntArray

MOST_WORDS = 4
"""Most words of a kind."""

LEAST_SHARE = 1 / 500
"""Share of the questions that must begin with the same words to form a kind."""


class QuestionKinds:
    """Assigns questions to kinds such as "how many" or "is the", as VQA's question types do.

    The kind of a question is the longest beginning, of at most `MOST_WORDS` words, that at least
    `LEAST_SHARE` of the given questions share; without one, it is the empty kind.

    Attributes:
        names: the kinds; the first is the empty one.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Find the kinds of questions."""
        counts: Counter[str] = Counter()
        total = 0
        for text in texts:
            total += 1
            counts.update(_beginnings(text))
        least = max(2.0, total * LEAST_SHARE)
        self.names = ["", *sorted(name for name, number in counts.items() if number >= least)]
        self._places = {name: place for place, name in enumerate(self.names)}

    def place(self, text: str) -> int:
        """Return the position in `names` of the kind of a question."""
        found = (self._places.get(name, 0) for name in reversed(_beginnings(text)))
        return next((place for place in found if place), 0)


def answer_priors(kinds: IntArray, scores: Iterable[FloatArray], num_kinds: int) -> FloatArray:
    """Return the mean score of each answer to each kind of question, `[kinds, answers]`.

    Args:
        kinds: `[questions]`.
        scores: for each question the score of each answer, `[answers]`.
        num_kinds: number of kinds; kinds without questions get zeros.
    """
    sums: FloatArray | None = None
    for kind, row in zip(kinds.tolist(), scores, strict=True):
        if sums is None:
            sums = np.zeros((num_kinds, len(row)), np.float32)
        sums[kind] += row
    assert sums is not None
    counts = np.maximum(np.bincount(kinds, minlength=num_kinds), 1)
    return (sums / counts[:, None]).astype(np.float32)


def _beginnings(text: str) -> Sequence[str]:
    """Return the first word, the first two words and so on, in lower case."""
    words = text.lower().rstrip("?. ").split()[:MOST_WORDS]
    return [" ".join(words[: number + 1]) for number in range(len(words))]
