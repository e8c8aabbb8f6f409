"""Confidence intervals and tests of scores whose examples share images.

Questions about the same image are not independent, so images, not questions, are resampled.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

Limits = tuple[float, float]
"""Lower and upper limit of a confidence interval."""

LEVEL = 0.95
_POWER = 0.8
SAMPLES = 10_000
_CHUNK = 4_000_000  # drawn values in memory at once


class Interval(NamedTuple):
    """A mean with its confidence interval.

    Attributes:
        mean: mean of the scores.
        low: lower limit.
        high: upper limit.
    """

    mean: float
    low: float
    high: float

    @property
    def limits(self) -> Limits:
        """Both limits."""
        return self.low, self.high


class Comparison(NamedTuple):
    """Two models, or two runs, on the same examples.

    Attributes:
        difference: mean of the first minus mean of the second, with its interval.
        p_value: two-sided, of the hypothesis that both are equally good.
        only_first: number of examples on which only the first is better.
        only_second: number of examples on which only the second is better.
    """

    difference: Interval
    p_value: float
    only_first: int
    only_second: int


def bootstrap(
    scores: Sequence[float] | Array,
    clusters: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute the percentile bootstrap interval of a mean, resampling clusters.

    Args:
        scores: `[examples]`; at least one.
        clusters: `[examples]`, such as the image of each question. None: every example is its own.
        level: confidence level in `(0, 1)`.
        samples: number of bootstrap samples.
        seed: seed of the resampling.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, section 13.3; for clusters,
    Cameron, Gelbach & Miller 2008, section III (pairs cluster bootstrap).
    """
    values = _check(scores, clusters)
    table = np.column_stack([values, np.ones_like(values)])
    totals = resample(cluster_sums(table, clusters), samples=samples, seed=seed)
    means = totals[:, 0] / totals[:, 1]
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def interval_limits(
    scores: Sequence[float] | Array, clusters: Sequence[str] | None = None
) -> Limits:
    """Return the limits of the interval of `bootstrap`."""
    return bootstrap(scores, clusters).limits


def compare(
    first: Sequence[float] | Array,
    second: Sequence[float] | Array,
    clusters: Sequence[str] | None = None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two lists of scores of the same examples.

    The p-value is that of a sign-flip permutation test: under the hypothesis, the difference of
    every cluster is as likely to be negative as positive. If every cluster has one example with a
    score of 0 or 1, this is McNemar's test, and the exact binomial p-value is computed.

    Args:
        first: `[examples]`.
        second: `[examples]`, in the same order.
        clusters: as for `bootstrap`.
        samples: number of bootstrap samples and of permutations.
        seed: seed of both.

    Source: McNemar 1947; Phipson & Smyth 2010 for the correction of sampled permutations.
    """
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} scores, expected the same examples")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    interval = bootstrap(differences, clusters, samples=samples, seed=seed)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    single = clusters is None or len(set(clusters)) == len(differences)
    if single and set(np.unique(np.abs(differences))) <= {0.0, 1.0}:
        p_value = binomial_p_value(better, worse)
    else:
        sums = cluster_sums(differences[:, None], clusters)[:, 0]
        p_value = _sign_flip_p_value(sums, samples, seed)
    return Comparison(interval, p_value, better, worse)


def cluster_sums(table: Array, clusters: Sequence[str] | None) -> Array:
    """Return the sum of the rows of each cluster, `[clusters, columns]`.

    Args:
        table: `[examples, columns]`.
        clusters: `[examples]`; None: every example is its own.
    """
    if clusters is None:
        return table
    names, owners = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, owners, table)
    return sums


def resample(table: Array, *, samples: int = SAMPLES, seed: int = 0) -> Array:
    """Draw bootstrap samples of the rows of a table, and sum each.

    Args:
        table: `[clusters, columns]`.
        samples: number of bootstrap samples.
        seed: seed of the resampling.

    Returns:
        The sums of the columns of each sample, `[samples, columns]`.
    """
    rng = np.random.default_rng(seed)
    size = len(table)
    rows = max(1, min(samples, _CHUNK // table.size))
    totals = []
    for start in range(0, samples, rows):
        drawn = rng.integers(0, size, size=(min(rows, samples - start), size))
        totals.append(table[drawn].sum(axis=1))
    return np.concatenate(totals)


def binomial_p_value(better: int, worse: int) -> float:
    """Return the exact two-sided p-value of McNemar's test from the discordant counts."""
    total, least = better + worse, min(better, worse)
    tail = ways = 1
    for count in range(least):  # each binomial coefficient from the one before, in whole numbers
        ways = ways * (total - count) // (count + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**total))


def questions_needed(difference: float, *, disagreement: float) -> int:
    """Return how many independent questions a paired test needs to detect a difference.

    The two-sided test has the level 1 - `LEVEL`, and detects the difference with probability 0.8.

    Args:
        difference: difference of the accuracies, in `(0, disagreement]`.
        disagreement: share of questions on which exactly one model is correct, in `(0, 1]`.

    Source: Connor 1987, sample size for McNemar's test, equation 2.
    """
    if not 0 < difference <= disagreement <= 1:
        raise ValueError(
            f"got a difference of {difference} and a disagreement of {disagreement}, expected "
            "0 < difference <= disagreement <= 1"
        )
    normal = NormalDist()
    alpha, beta = normal.inv_cdf((1 + LEVEL) / 2), normal.inv_cdf(_POWER)
    root = math.sqrt(disagreement - difference**2)
    return math.ceil(((alpha * math.sqrt(disagreement) + beta * root) / difference) ** 2)


def _check(scores: Sequence[float] | Array, clusters: Sequence[str] | None) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"scores have shape {list(values.shape)}, expected at least one finite number a row"
        )
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(
            f"got {len(clusters)} clusters for {len(values)} scores, expected one each"
        )
    return values


def _sign_flip_p_value(sums: Array, samples: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    observed = abs(float(sums.sum()))
    rows = max(1, min(samples, _CHUNK // len(sums)))
    extreme = 0
    for start in range(0, samples, rows):
        signs = rng.integers(0, 2, size=(min(rows, samples - start), len(sums))) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (extreme + 1) / (samples + 1)
