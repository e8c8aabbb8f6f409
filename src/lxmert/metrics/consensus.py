"""Consensus score: does a model answer all paraphrases of a question."""

import math
from collections.abc import Sequence


def consensus_score(scores: Sequence[float], size: int) -> float:
    """Return the share of the subsets of a group whose answers are all correct.

    Args:
        scores: score of the answer to each paraphrase of a group, in `[0, 1]`; an answer is
            correct if it is above 0.
        size: paraphrases in a subset, at most those of the group.

    Source: Shah et al. 2019, Cycle-Consistency for Robust Visual Question Answering, the
    definition of CS(k).
    """
    correct = sum(score > 0 for score in scores)
    return math.comb(correct, size) / math.comb(len(scores), size)
