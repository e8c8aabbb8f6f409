"""The answer vocabulary: answers <-> class ids, and answer targets."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lxmert.schema import IGNORE_INDEX, FloatArray


class AnswerVocabulary:
    """Answers by class id; the same list as the model's `id2label`."""

    def __init__(self, answers: Sequence[str]) -> None:
        """Number the answers in the given order.

        Raises:
            ValueError: if the list is empty or has duplicates.
        """
        if not answers:
            raise ValueError("an answer vocabulary needs at least one answer, got none")
        self.answers = tuple(answers)
        self._ids = {answer: index for index, answer in enumerate(self.answers)}
        if len(self._ids) < len(self.answers):
            twice = next(answer for answer, count in Counter(answers).items() if count > 1)
            raise ValueError(f"answer {twice!r} is in the vocabulary more than once")

    @classmethod
    def build(cls, targets: Iterable[Mapping[str, float]]) -> "AnswerVocabulary":
        """Collect the answers of all targets, sorted by text."""
        return cls(sorted({answer for target in targets for answer in target}))

    @classmethod
    def from_id2label(cls, id2label: Mapping[int, str] | Mapping[str, str]) -> "AnswerVocabulary":
        """Take the answers from a model's configuration.

        Raises:
            ValueError: if the ids have gaps.
        """
        by_id = {int(index): answer for index, answer in id2label.items()}
        if sorted(by_id) != list(range(len(by_id))):
            raise ValueError(f"id2label has the ids {sorted(by_id)}, expected 0, 1, 2, ...")
        return cls([by_id[index] for index in range(len(by_id))])

    def __len__(self) -> int:
        return len(self.answers)

    def best_id(self, target: Mapping[str, float]) -> int:
        """Return the class id of the best known answer; `IGNORE_INDEX` if none is known."""
        known = {answer: score for answer, score in target.items() if answer in self._ids}
        return self._ids[max(known, key=lambda answer: known[answer])] if known else IGNORE_INDEX

    def scores(self, target: Mapping[str, float]) -> FloatArray:
        """Return the score of every class, `[answers]` in `[0, 1]`; unknown answers are ignored."""
        scores = np.zeros(len(self.answers), dtype=np.float32)
        for answer, score in target.items():
            if answer in self._ids:
                scores[self._ids[answer]] = score
        return scores
