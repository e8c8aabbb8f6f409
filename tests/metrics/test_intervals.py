"""Intervals and tests of scores, compared with scipy, statsmodels and counting."""

import itertools
import time

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]
from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]

from lxmert.metrics.intervals import (
    binomial_p_value,
    bootstrap,
    compare,
    questions_needed,
)


def correct(count: int, rate: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < rate).astype(float)


def test_the_interval_of_independent_scores_is_that_of_scipy() -> None:
    scores = correct(400, 0.7, 1)
    found = bootstrap(scores)
    expected = stats.bootstrap(
        (scores,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert found.mean == scores.mean()
    np.testing.assert_allclose(found[1:], expected, atol=0.005)


def test_copies_of_an_example_in_its_cluster_do_not_narrow_the_interval() -> None:
    scores = correct(150, 0.6, 2)
    names = [str(number) for number in range(150)]
    once = bootstrap(scores)
    often = bootstrap(np.repeat(scores, 9), np.repeat(names, 9).tolist())
    np.testing.assert_allclose(often, once, atol=0.012)
    careless = bootstrap(np.repeat(scores, 9))
    assert careless.high - careless.low < 0.5 * (often.high - often.low)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Clusters of five questions with a common difficulty."""
    rng = np.random.default_rng(8)
    covered = 0
    for trial in range(200):
        rates = np.repeat(rng.beta(3, 2, size=80), 5)
        scores = (rng.random(400) < rates).astype(float)
        names = np.repeat(np.arange(80), 5).astype(str).tolist()
        found = bootstrap(scores, names, samples=500, seed=trial)
        covered += found.low <= 0.6 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval_for_any_number_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = np.random.default_rng(4).random(50)
    first = bootstrap(scores, seed=9)
    assert bootstrap(scores, seed=9) == first
    assert bootstrap(scores, seed=10) != first
    monkeypatch.setattr("lxmert.metrics.intervals._CHUNK", 1700)
    assert bootstrap(scores, seed=9) == first


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (3, 9), (9, 3), (7, 7), (40, 21)])
def test_the_p_value_of_discordant_pairs_is_that_of_statsmodels(better: int, worse: int) -> None:
    expected = mcnemar([[5, better], [worse, 5]], exact=True).pvalue
    assert binomial_p_value(better, worse) == pytest.approx(expected)


def test_many_discordant_pairs_take_no_time() -> None:
    """Each coefficient was computed anew: minutes for 20,000 pairs."""
    start = time.process_time()
    assert 0 < binomial_p_value(9_800, 10_200) < 0.01
    assert time.process_time() - start < 2


def test_two_models_are_compared_on_the_same_examples() -> None:
    first, second = correct(300, 0.8, 5), correct(300, 0.6, 6)
    found = compare(first, second)
    assert found.difference.mean == pytest.approx(first.mean() - second.mean())
    assert found.difference.low > 0
    assert found.p_value == binomial_p_value(found.only_first, found.only_second) < 0.01
    back = compare(second, first)
    assert back.difference.mean == -found.difference.mean
    assert (back.only_first, back.only_second) == (found.only_second, found.only_first)
    assert compare(first, first) == ((0.0, 0.0, 0.0), 1.0, 0, 0)


def test_sampled_sign_flips_approach_the_exact_p_value() -> None:
    """All 2^8 sign flips of eight clusters, by brute force."""
    sums = np.array([3.0, -1.0, 2.5, 4.0, -2.0, 1.0, 0.5, 2.0])
    names = [name for name in "abcdefgh" for _ in range(2)]
    halves = np.repeat(sums / 2, 2)
    totals = [abs(np.dot(flip, sums)) for flip in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.array(totals) >= sums.sum() - 1e-9)
    found = compare(halves, np.zeros(16), names, samples=40_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)


def test_the_number_of_questions_detects_the_difference_at_the_stated_power() -> None:
    count = questions_needed(0.05, disagreement=0.2)
    rng = np.random.default_rng(11)
    shares = [(0.2 + 0.05) / 2, (0.2 - 0.05) / 2, 0.8]
    found = [
        binomial_p_value(*draw[:2]) < 0.05 for draw in rng.multinomial(count, shares, 400).tolist()
    ]
    assert 0.72 <= np.mean(found) <= 0.88


@pytest.mark.parametrize(("difference", "disagreement"), [(0.0, 0.1), (0.3, 0.2), (0.1, 1.5)])
def test_impossible_differences_are_refused(difference: float, disagreement: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < difference <= disagreement <= 1"):
        questions_needed(difference, disagreement=disagreement)


@pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [[1.0]]])
def test_scores_that_have_no_mean_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least one finite number"):
        bootstrap(scores)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 clusters for 2 scores"):
        bootstrap([0.0, 1.0], ["a", "b", "c"])
    with pytest.raises(ValueError, match="got 1 and 2 scores"):
        compare([0.0], [0.0, 1.0])
