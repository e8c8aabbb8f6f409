"""Question-only and majority baselines: the accuracy that is reachable without the image.

Both are learned from the training questions. `majority` always gives the most frequent answer.
`question_only` gives the most frequent answer to the identical question; for an unknown question,
that of its question type; otherwise the majority answer.
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
"""File of a model folder with the baselines, so that they stay with the model."""

BASELINES = ("question_only", "majority")

Scores = dict[str, dict[str, float]]
"""Accuracy, overall and by question type, of each of the `BASELINES`."""


class Baselines(Record):
    """The answers of both baselines.

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
        """Count the best answers of the training questions; the first one wins a tie."""
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
        """Answer a question without its image; empty if nothing was learned."""
        return self.texts.get(text, self.question_types.get(question_type, self.majority))

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the accuracies of the baselines on questions."""
        answers = {
            "question_only": [self.predict(each.text, each.question_type) for each in questions],
            "majority": [self.majority] * len(questions),
        }
        return {name: accuracy_by_question_type(questions, answers[name]) for name in BASELINES}

    def to_text(self) -> str:
        """Return the content of `FILE_NAME`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Baselines":
        """Parse the result of `to_text`."""
        return cls.from_dict(parse_json(text, "the text of baselines"))

    @classmethod
    def load(cls, folder: str | Path) -> "Baselines | None":
        """Read the baselines of a model folder; None if it has none.

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
                f"{path} is damaged ({error}): copy it again, or remove it and give the training "
                "questions with --training"
            ) from error


def scores_beside_baselines(
    questions: Sequence[Example], predictions: Sequence[str], baselines: str
) -> dict[str, float]:
    """Return the accuracy of predictions, overall and by question type, and of each baseline.

    Args:
        questions: the examples.
        predictions: one answer per example.
        baselines: the result of `Baselines.to_text`.
    """
    scores = Baselines.from_text(baselines).scores(questions)
    return accuracy_by_question_type(questions, predictions) | {
        name: accuracies[OVERALL] for name, accuracies in scores.items()
    }


def judge(accuracy: Mapping[str, float], baselines: Scores) -> str:
    """Return a warning if a model is no better than a baseline; else an empty string."""
    reached = accuracy[OVERALL]
    majority, question_only = baselines["majority"][OVERALL], baselines["question_only"][OVERALL]
    if reached <= majority:
        return (
            f"the accuracy of {reached:.1%} is not above the {majority:.1%} of the majority "
            "baseline (one answer to every question): the model learned nothing"
        )
    if reached <= question_only:
        return (
            f"the accuracy of {reached:.1%} is not above the {question_only:.1%} of the "
            "question-only baseline: the model learned nothing from the images"
        )
    return ""


def _most_common(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""
