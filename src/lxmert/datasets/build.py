"""What a builder is given, what it yields, and how it counts what it leaves out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lxmert.datasets.downloads import Downloads

_MOST_CASES = 100
"""Cases of a reason that are kept."""


class Sentence(NamedTuple):
    """A text about one or two images, as an official file has it.

    Attributes:
        source: the data set, by the name of its builder.
        split: `train`, `valid`, `test` or `testdev`.
        images: official names without ending: COCO's file names, Visual Genome's numbers.
        text: a question, a caption or a statement.
        sentence_id: of the question or caption, unique in its source.
        answers: acceptable answers with scores; None for a caption, empty where none is known.
        question_type: type of question; empty where unknown.
    """

    source: str
    split: str
    images: tuple[str, ...]
    text: str
    sentence_id: int | str
    answers: Mapping[str, float] | None = None
    question_type: str = ""


@dataclass
class LeftOut:
    """What was left out and why.

    Attributes:
        counts: by reason.
        cases: the first hundred of each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    cases: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, case: object) -> None:
        """Count a case."""
        self.counts[reason] += 1
        cases = self.cases.setdefault(reason, [])
        if len(cases) < _MOST_CASES:
            cases.append(str(case))


@dataclass
class Build:
    """What a builder works with.

    Attributes:
        downloads: the official files.
        minival: tells whether an image of val2014 is kept for validation.
        answers: the answers to choose from: those that are asked for, or else, from the builder on,
            those of its data set; None: it has no list, or not yet.
        left_out: what the builder leaves out.
    """

    downloads: Downloads
    minival: Callable[[str], bool]
    answers: Sequence[str] | None = None
    left_out: LeftOut = field(default_factory=LeftOut)

    def single(self, answer: str, case: object) -> dict[str, float]:
        """Return the only answer with its score; nothing, and count it, for an empty one."""
        if answer.strip():
            return {answer.strip(): 1.0}
        self.left_out.add("empty answer: the question is kept as a sentence", case)
        return {}
