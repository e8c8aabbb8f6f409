"""What can be answered without looking at any image: the floor on which every accuracy stands.

Two guesses are learned from the training questions. `majority` gives the most frequent answer to
everything; `question_only` gives the most frequent answer to the identical question, to a question
that was never asked that of its question type, and else the most frequent of all.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lxmert.files import parse_json, read_json_object
from lxmert.records import Record
from lxmert.schema import Example
from lxmert.tasks.metrics import OVERALL, accuracy_by_question_type, best_answer

FILE_NAME = "baselines.json"
"""Where a model folder keeps what can be guessed, so that it is known wherever the model goes."""

BASELINES = ("question_only", "majority")

Scores = dict[str, dict[str, float]]
"""Accuracy, overall and by question type, of each of the `BASELINES`."""


class Baselines(Record):
    """The guesses.

    Attributes:
        majority: the most frequent answer.
        question_types: the most frequent answer by question type.
        texts: the most frequent answer by question.
    """

    majority: str
    question_types: Mapping[str, str]
    texts: Mapping[str, str]

    @classmethod
    def learn(cls, training: Iterable[Example]) -> "Baselines":
        """Count the best answers of the training questions; of equally many the first wins."""
        overall: Counter[str] = Counter()
        by_text: dict[str, Counter[str]] = defaultdict(Counter)
        by_question_type: dict[str, Counter[str]] = defaultdict(Counter)
        for example in training:
            if example.answers:
                answer = best_answer(example.answers)
                for counts in (
                    overall,
                    by_question_type[example.question_type],
                    by_text[example.text],
                ):
                    counts[answer] += 1
        by_question_type.pop("", None)
        return cls(
            majority=_most_common(overall),
            question_types={
                question_type: _most_common(counts)
                for question_type, counts in by_question_type.items()
            },
            texts={text: _most_common(counts) for text, counts in by_text.items()},
        )

    def predict(self, text: str, question_type: str = "") -> str:
        """Answer a question without looking; empty where nothing was learned."""
        return self.texts.get(text, self.question_types.get(question_type, self.majority))

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return what the guesses reach on questions."""
        scores_by_baseline = {
            "question_only": [
                self.predict(example.text, example.question_type) for example in questions
            ],
            "majority": [self.majority] * len(questions),
        }
        return {
            name: accuracy_by_question_type(questions, scores_by_baseline[name])
            for name in BASELINES
        }

    def to_text(self) -> str:
        """Return the content of `FILE_NAME`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Baselines":
        """Take what `to_text` returned."""
        return cls.from_dict(parse_json(text, "the text of baselines"))

    @classmethod
    def load(cls, folder: str | Path) -> "Baselines | None":
        """Read what a model folder keeps; None where it keeps nothing.

        Raises:
            ValueError: if the file is damaged.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return None
        try:
            return cls.from_dict(read_json_object(path))
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}): copy it again, or remove it and name the training "
                "questions with --training"
            ) from error


def judge(accuracy: Mapping[str, float], baselines: Scores) -> str:
    """Return a warning where a model is no better than a guess; empty where it is."""
    reached = accuracy[OVERALL]
    majority, question_only = baselines["majority"][OVERALL], baselines["question_only"][OVERALL]
    if reached <= majority:
        return (
            f"the accuracy of {reached:.1%} is not above the {majority:.1%} of one answer given to "
            "every question: nothing was learned"
        )
    if reached <= question_only:
        return (
            f"the accuracy of {reached:.1%} is not above the {question_only:.1%} of guessing from the "
            "question alone: nothing was learned from the images"
        )
    return ""


def _most_common(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""
