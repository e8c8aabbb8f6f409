"""The answer vocabulary of pretraining.

How the original 9,500 answers were chosen is unknown. This module keeps the normalized answers that
are accepted by the most training questions, breaks ties alphabetically, and sorts the result.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import numpy as np

NUM_ANSWERS = 9_500
"""Size of the original pretraining vocabulary."""


class AnswerCounts:
    """Counts how many questions accept each answer, by dataset."""

    def __init__(self, normalize: Callable[[str], str]) -> None:
        """Count answers after applying `normalize` to them."""
        self._normalize = normalize
        self._places: dict[str, int] = {}  # index of each answer, from 1
        self._normal: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._sources: dict[str, set[str]] = {}
        self._asked = array("i")  # answer indices of each question, followed by a 0

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
        """Normalize an answer, using the cached form if there is one."""
        found = self._normal.get(answer)
        if found is None:
            found = self._normal[answer] = self._normalize(answer)
        return found

    def most_frequent(self, number: int) -> list[str]:
        """Return the answers accepted by the most questions, sorted alphabetically."""
        ranked = sorted(self._counts, key=lambda answer: (-self._counts[answer], answer))
        return sorted(ranked[:number])

    def coverage(self, table: Collection[str]) -> float:
        """Return the fraction of questions that accept at least one answer of the table."""
        known = np.zeros(len(self._places) + 1, dtype=bool)
        known[[self._places[answer] for answer in table if answer in self._places]] = True
        asked = np.frombuffer(self._asked, dtype=np.intc)
        ends = np.flatnonzero(asked == 0)
        if not len(ends):
            return 0.0
        hits = np.concatenate([[0], np.cumsum(known[asked])])[ends + 1]
        return float((np.diff(hits, prepend=0) > 0).mean())

    def table(self, answers: Collection[str]) -> str:
        """Return a table as JSON in the original format: `[{"ans": ..., "dsets": [...]}, ...]`."""
        rows = [
            {"ans": answer, "dsets": sorted(self._sources.get(answer, ()))} for answer in answers
        ]
        return json.dumps(rows, indent=1) + "\n"
