"""Input and output of the dataset builders, with counts of skipped entries."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lxmert.datasets.downloads import Downloads

_MOST_CASES = 100
"""Cases listed for each reason."""


class Sentence(NamedTuple):
    """A text about one or two images, as read from an official file.

    Attributes:
        source: the dataset, by the name of its builder.
        split: `train`, `valid`, `test` or `testdev`.
        images: official names without extension: COCO file names, Visual Genome numbers.
        text: a question, a caption or a statement.
        sentence_id: id of the question or caption, unique within its source.
        answers: accepted answers with scores; None for a caption, empty if none is known.
        question_type: type of question; empty if unknown.
        group: shared by paraphrases of a question; empty if there are none.
    """

    source: str
    split: str
    images: tuple[str, ...]
    text: str
    sentence_id: int | str
    answers: Mapping[str, float] | None = None
    question_type: str = ""
    group: str = ""


@dataclass
class LeftOut:
    """Skipped entries.

    Attributes:
        counts: number of entries by reason.
        cases: the first hundred entries of each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    cases: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, case: object) -> None:
        """Count an entry."""
        self.counts[reason] += 1
        cases = self.cases.setdefault(reason, [])
        if len(cases) < _MOST_CASES:
            cases.append(str(case))


@dataclass
class Build:
    """Inputs of a builder.

    Attributes:
        downloads: the official files.
        minival: returns whether an image of val2014 is held out for validation.
        answers: the answer vocabulary: the requested one, or else the one that the builder makes
            from its dataset. None: the dataset has no vocabulary, or it is not built yet.
        left_out: entries that the builder skipped.
    """

    downloads: Downloads
    minival: Callable[[str], bool]
    answers: Sequence[str] | None = None
    left_out: LeftOut = field(default_factory=LeftOut)

    def single(self, answer: str, case: object) -> dict[str, float]:
        """Return a single answer with score 1; count an empty one and return nothing."""
        if answer.strip():
            return {answer.strip(): 1.0}
        self.left_out.add("empty answer: the question is kept as a sentence", case)
        return {}
