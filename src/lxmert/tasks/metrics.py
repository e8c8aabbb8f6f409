"""Scores of answers: accuracy by family, and what a blind guess would get."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from lxmert.schema import Example

OVERALL = "overall"


def accuracy_by_family(examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """Return the mean score of the predicted answers, overall and for each family.

    An answer scores what the example grants it, in `[0, 1]`; an unknown one scores 0.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for example, prediction in zip(examples, predictions, strict=True):
        score = example.answers.get(prediction, 0.0)
        scores[OVERALL].append(score)
        if example.family:
            scores[example.family].append(score)
    return {family: sum(values) / len(values) for family, values in scores.items()}


def blind_guesses(training: Sequence[Example], questions: Sequence[Example]) -> list[str]:
    """Answer without looking: the majority answer to the identical question in training.

    A question that was never asked in training gets the majority answer of its family.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    for example in training:
        answer = best_answer(example.answers)
        by_text[example.text][answer] += 1
        by_family[example.family][answer] += 1
    guesses = []
    for example in questions:
        counts = by_text.get(example.text) or by_family.get(example.family) or Counter({"": 1})
        guesses.append(counts.most_common(1)[0][0])
    return guesses


def best_answer(answers: Mapping[str, float]) -> str:
    """Return the answer with the highest score; empty where there is none."""
    return max(answers, key=lambda answer: answers[answer], default="")
