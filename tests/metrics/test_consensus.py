"""The consensus score equals a count over all subsets."""

from itertools import combinations

import pytest

from lxmert.metrics.consensus import consensus_score


@pytest.mark.parametrize("scores", [(1.0, 0.3, 0.0, 0.9), (0.0, 0.0), (1.0, 1.0, 1.0)])
def test_it_counts_subsets_without_a_wrong_answer(scores: tuple[float, ...]) -> None:
    for size in range(1, len(scores) + 1):
        subsets = list(combinations(scores, size))
        expected = sum(min(subset) > 0 for subset in subsets) / len(subsets)
        assert consensus_score(scores, size) == expected
    assert consensus_score((1.0, 0.3, 0.0, 0.9), 2) == 0.5
