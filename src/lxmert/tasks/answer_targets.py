"""The answers of a corpus as classes of a table: which are known, and which one to train."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from lxmert.data.corpus import Corpus
from lxmert.model.answers import match_answers
from lxmert.schema import IGNORE_INDEX, IntArray

Colliding = Literal["max", "sum", "last"]
"""What becomes of answers to one question that are the same class: the best score, the sum of them
up to 1, or the last one, as in the code of 2019."""


class AnswerTargets:
    """Finds the class of every answer once, by its words; answers outside of the table have none.

    Source: section 3.1.3 of the paper, and the labels of the original pretraining code.
    """

    def __init__(self, corpus: Corpus, table: Sequence[str], *, colliding: Colliding) -> None:
        """Look up the answers.

        Args:
            corpus: questions with their answers, and texts without.
            table: answers by class id.
            colliding: what counts where two answers are the same class.
        """
        self._corpus = corpus
        self._colliding = colliding
        found = match_answers(table, corpus.answer_names)
        self._classes = np.array(
            [IGNORE_INDEX if place is None else place for place in found], dtype=np.int64
        )

    def known(self, index: int) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """Return the classes of an example's answers with their scores, in the order given.

        Answers outside of the table, and those with score 0, are left out.
        """
        names, scores = self._corpus.answer_ids(index)
        merged: dict[int, float] = {}
        for place, score in zip(self._classes[names].tolist(), scores.tolist(), strict=True):
            if place == IGNORE_INDEX or score <= 0:
                continue
            old = merged.get(place, 0.0)
            options = {"max": max(old, score), "sum": min(1.0, old + score), "last": score}
            merged[place] = options[self._colliding]
        return np.array(list(merged), np.int64), np.array(list(merged.values()))

    def best(self, index: int) -> int:
        """Return the class with the highest score; `IGNORE_INDEX` where none is known."""
        classes, scores = self.known(index)
        return int(classes[scores.argmax()]) if len(classes) else IGNORE_INDEX

    def draw(self, index: int, generator: np.random.Generator) -> int:
        """Return a class drawn in proportion to the scores; `IGNORE_INDEX` where none is known."""
        classes, scores = self.known(index)
        if len(classes) < 2:
            return int(classes[0]) if len(classes) else IGNORE_INDEX
        return int(generator.choice(classes, p=scores / scores.sum()))

    def count(self) -> tuple[int, int]:
        """Count the examples that have answers, and those of them that have none in the table."""
        asked = lost = 0
        for index in range(len(self._corpus)):
            names, _ = self._corpus.answer_ids(index)
            if len(names):
                asked += 1
                lost += bool((self._classes[names] == IGNORE_INDEX).all())
        return asked, lost
