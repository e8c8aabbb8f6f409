"""What can be answered without looking at any picture: the floor on which every accuracy stands.

Two guesses are learned from the training questions. `majority` gives the most frequent answer to
everything; `question_only` gives the most frequent answer to the identical question, to a question
that was never asked that of its family, and else the most frequent of all.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lxmert.schema import Example
from lxmert.tasks.metrics import OVERALL, accuracy_by_family, best_answer

FILE_NAME = "blind.json"
"""Where a model folder keeps what can be guessed, so that it is known wherever the model goes."""

GUESSES = ("question_only", "majority")

Scores = dict[str, dict[str, float]]
"""Accuracy, overall and by family, of each of the `GUESSES`."""


@dataclass(frozen=True)
class Blind:
    """The guesses.

    Attributes:
        majority: the most frequent answer.
        families: the most frequent answer by family.
        texts: the most frequent answer by question.
    """

    majority: str
    families: Mapping[str, str]
    texts: Mapping[str, str]

    @classmethod
    def learn(cls, training: Iterable[Example]) -> "Blind":
        """Count the best answers of the training questions; of equally many the first wins."""
        overall: Counter[str] = Counter()
        by_text: dict[str, Counter[str]] = defaultdict(Counter)
        by_family: dict[str, Counter[str]] = defaultdict(Counter)
        for example in training:
            if example.answers:
                answer = best_answer(example.answers)
                for counts in (overall, by_family[example.family], by_text[example.text]):
                    counts[answer] += 1
        by_family.pop("", None)
        return cls(
            _most_common(overall),
            {family: _most_common(counts) for family, counts in by_family.items()},
            {text: _most_common(counts) for text, counts in by_text.items()},
        )

    def guess(self, text: str, family: str = "") -> str:
        """Answer a question without looking; empty where nothing was learned."""
        return self.texts.get(text, self.families.get(family, self.majority))

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return what the guesses reach on questions."""
        guesses = {
            "question_only": [self.guess(example.text, example.family) for example in questions],
            "majority": [self.majority] * len(questions),
        }
        return {name: accuracy_by_family(questions, guesses[name]) for name in GUESSES}

    def to_text(self) -> str:
        """Return the content of `FILE_NAME`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Blind":
        """Take what `to_text` returned."""
        return cls(**json.loads(text))

    @classmethod
    def load(cls, folder: str | Path) -> "Blind | None":
        """Read what a model folder keeps; None where it keeps nothing.

        Raises:
            ValueError: if the file is damaged.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return None
        try:
            return cls.from_text(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): copy it again, or remove it and name the training "
                "questions with --training"
            ) from error


def judge(accuracy: Mapping[str, float], blind: Scores) -> str:
    """Return a warning where a model is no better than a guess; empty where it is."""
    reached = accuracy[OVERALL]
    majority, guessed = blind["majority"][OVERALL], blind["question_only"][OVERALL]
    if reached <= majority:
        return (
            f"the accuracy of {reached:.1%} is not above the {majority:.1%} of one answer given to "
            "every question: nothing was learned"
        )
    if reached <= guessed:
        return (
            f"the accuracy of {reached:.1%} is not above the {guessed:.1%} of guessing from the "
            "question alone: nothing was learned from the pictures"
        )
    return ""


def _most_common(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""
