"""The table of answers that pretraining chooses from.

How the original's 9,500 were chosen is unknown. Here they are the normalised answers that the most
training questions accept, answers of equally many in the order of their text; sorted by text.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import numpy as np

NUM_ANSWERS = 9_500
"""As many as in the original's table."""


class AnswerCounts:
    """Counts the questions that accept each answer, by data set."""

    def __init__(self, normalize: Callable[[str], str]) -> None:
        """Count answers in the form to which `normalize` brings them."""
        self._normalize = normalize
        self._places: dict[str, int] = {}  # of each answer, from 1
        self._normal: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._sources: dict[str, set[str]] = {}
        self._asked = array("i")  # the answers of each question, then a 0

    def add(self, source: str, answers: Mapping[str, float]) -> None:
        """Count a training question."""
        found = {self._form(answer) for answer in answers}
        found.discard("")
        self._counts.update(found)
        for answer in found:
            self._sources.setdefault(answer, set()).add(source)
            self._asked.append(self._places.setdefault(answer, len(self._places) + 1))
        self._asked.append(0)

    def _form(self, answer: str) -> str:
        """Normalise an answer, each one once."""
        found = self._normal.get(answer)
        if found is None:
            found = self._normal[answer] = self._normalize(answer)
        return found

    def most_frequent(self, number: int) -> list[str]:
        """Return the answers that the most questions accept, sorted by text."""
        ranked = sorted(self._counts, key=lambda answer: (-self._counts[answer], answer))
        return sorted(ranked[:number])

    def coverage(self, table: Collection[str]) -> float:
        """Return the share of the questions that accept an answer of the table."""
        known = np.zeros(len(self._places) + 1, dtype=bool)
        known[[self._places[answer] for answer in table if answer in self._places]] = True
        asked = np.frombuffer(self._asked, dtype=np.intc)
        ends = np.flatnonzero(asked == 0)
        if not len(ends):
            return 0.0
        hits = np.concatenate([[0], np.cumsum(known[asked])])[ends + 1]
        return float((np.diff(hits, prepend=0) > 0).mean())

    def table(self, answers: Collection[str]) -> str:
        """Return a table as JSON in the original's form: `[{"ans": ..., "dsets": [...]}, ...]`."""
        rows = [
            {"ans": answer, "dsets": sorted(self._sources.get(answer, ()))} for answer in answers
        ]
        return json.dumps(rows, indent=1) + "\n"
