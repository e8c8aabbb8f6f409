"""Soft scores and answer vocabulary of VQA v2, by the rule behind the original files."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from lxmert.metrics.vqa_answers import clean_answer

MIN_QUESTIONS = 9
"""How often an answer must be the majority answer to enter the vocabulary."""


def build_vocabulary(majority_answers: Iterable[str]) -> list[str]:
    """Return the sorted answer vocabulary: 3,129 answers for the train and validation questions.

    An answer is included if its cleaned form is the majority answer of at least nine questions.
    One of them is the empty answer, the cleaned form of a bare article.

    Args:
        majority_answers: the `multiple_choice_answer` of every question, as written.

    Source: the data of the original VQA fine-tuning (bottom-up attention's recipe).
    """
    counts = Counter(clean_answer(answer) for answer in majority_answers)
    return sorted(answer for answer, count in counts.items() if count >= MIN_QUESTIONS)


def soft_scores(annotators: Sequence[str], vocabulary: Collection[str]) -> dict[str, float]:
    """Return the scores of the annotators' answers that are in the vocabulary.

    Answers are counted as written and looked up without cleaning. The empty answer gets no score,
    since it cannot be predicted.

    Args:
        annotators: their answers, ten in the official files.
        vocabulary: the answer vocabulary.

    Source: the data of the original VQA fine-tuning (bottom-up attention's recipe).
    """
    counts = Counter(answer for answer in annotators if answer and answer in vocabulary)
    return {answer: soft_score(count, len(annotators)) for answer, count in counts.items()}


def soft_score(count: int, annotators: int = 10) -> float:
    """Return the accuracy of an answer given by `count` of the annotators.

    The score is the mean of `min(1, others / 3)` over all ways to leave out one annotator, where
    `others` is the number of remaining annotators who gave the answer: 0.3, 0.6, 0.9 and 1 for
    one, two, three and more of ten.

    Source: VQA paper, section on evaluation.
    """
    without_one = count * min(3, count - 1) + (annotators - count) * min(3, count)
    return without_one / (3 * annotators)
