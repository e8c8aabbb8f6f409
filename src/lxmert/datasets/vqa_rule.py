"""The soft scores and the answer list of VQA v2, by the rule that the original's files follow."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from lxmert.metrics.vqa_answers import clean_answer

MIN_QUESTIONS = 9
"""Questions whose majority answer an answer has to be, to get into the list."""


def build_vocabulary(majority_answers: Iterable[str]) -> list[str]:
    """Return the answers to choose from, sorted: 3,129 for the training and validation questions.

    An answer is in the list if, cleaned, it is the majority answer of nine questions. One of them
    is the empty answer, to which nothing but an article is cleaned.

    Args:
        majority_answers: the `multiple_choice_answer` of every question, as written.

    Source: the data of the original VQA fine-tuning (bottom-up attention's recipe).
    """
    counts = Counter(clean_answer(answer) for answer in majority_answers)
    return sorted(answer for answer, count in counts.items() if count >= MIN_QUESTIONS)


def soft_scores(annotators: Sequence[str], vocabulary: Collection[str]) -> dict[str, float]:
    """Return the score of each answer of the list that an annotator gave.

    The answers are counted as they are written; only those that are in the list as they stand get
    a score. An empty answer gets none: it cannot be asked for.

    Args:
        annotators: the answers, ten in the official files.
        vocabulary: the answers to choose from.

    Source: the data of the original VQA fine-tuning (bottom-up attention's recipe).
    """
    counts = Counter(answer for answer in annotators if answer and answer in vocabulary)
    return {answer: soft_score(count, len(annotators)) for answer, count in counts.items()}


def soft_score(count: int, annotators: int = 10) -> float:
    """Return how right an answer is that `count` of the annotators gave.

    It is the mean of `min(1, others / 3)` over all ways to leave out one annotator, where `others`
    of those left gave the answer: 0.3, 0.6, 0.9 and 1 for one, two, three and more of ten.

    Source: VQA paper, section on evaluation.
    """
    without_one = count * min(3, count - 1) + (annotators - count) * min(3, count)
    return without_one / (3 * annotators)
