"""Calibration of confidences, and the accuracy of answers above a confidence.

Legend: `confidence` `[examples]` probability of the given answer; `correct` `[examples]` score of
the answer in `[0, 1]`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert.metrics.intervals import LEVEL, SAMPLES, Interval, cluster_sums, resample

Array = npt.NDArray[np.float64]

NUM_BINS = 15


class Bin(NamedTuple):
    """One bin of a reliability diagram.

    Attributes:
        low: lower limit of the confidences.
        high: upper limit.
        confidence: mean confidence.
        accuracy: mean score.
        num_examples: at least one; empty bins are left out.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    num_examples: int


class RiskCoverage(NamedTuple):
    """The risk of answering only the most confident questions.

    Attributes:
        coverage: `[thresholds]`, the answered share of the questions, increasing.
        risk: `[thresholds]`, 1 - accuracy on the answered questions.
        threshold: `[thresholds]`, the lowest confidence that is answered.
        area: area under the curve, the mean risk over all coverages; lower is better.
    """

    coverage: Array
    risk: Array
    threshold: Array
    area: float


def reliability(
    confidence: Sequence[float] | Array, correct: Sequence[float] | Array, *, bins: int = NUM_BINS
) -> list[Bin]:
    """Group answers into bins of equal width by confidence; the upper limit belongs to a bin.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2.
    """
    confidence, correct = _check(confidence, correct)
    place = _bin_numbers(confidence, bins)
    found = []
    for number in np.unique(place).tolist():
        own = place == number
        limits = (number / bins, (number + 1) / bins)
        means = (float(confidence[own].mean()), float(correct[own].mean()))
        found.append(Bin(*limits, *means, int(own.sum())))
    return found


def calibration_error(
    confidence: Sequence[float] | Array,
    correct: Sequence[float] | Array,
    clusters: Sequence[str] | None = None,
    *,
    bins: int = NUM_BINS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute the expected calibration error with its 95% interval.

    The error of a resampled set is larger on average, since it is a sum of absolute values. The
    percentile interval would lie too high; this one reaches as far below the error as the upper
    quantile is above it, but not below 0.

    Args:
        confidence: `[examples]`.
        correct: `[examples]`.
        clusters: `[examples]`, such as the image of each question. None: every example is its own.
        bins: number of bins.
        samples: number of bootstrap samples.
        seed: seed of the resampling.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3.
    """
    confidence, correct = _check(confidence, correct)
    table = np.zeros((len(confidence), bins + 1))
    table[np.arange(len(table)), _bin_numbers(confidence, bins)] = correct - confidence
    table[:, bins] = 1
    error = float(np.abs(table[:, :bins].sum(axis=0)).sum() / len(table))
    totals = resample(cluster_sums(table, clusters), samples=samples, seed=seed)
    drawn = np.abs(totals[:, :-1]).sum(axis=1) / totals[:, -1]
    high = float(np.quantile(drawn, (1 + LEVEL) / 2))
    return Interval(error, max(2 * error - high, 0.0), high)


def fit_temperature(
    scores: npt.NDArray[np.floating], labels: Sequence[int] | npt.NDArray[np.integer]
) -> float:
    """Return the temperature that minimizes the negative log-likelihood of the labels.

    Args:
        scores: logits `[examples, answers]` of validation questions.
        labels: index of the correct answer of each.

    Returns:
        The divisor of the logits, in `[0.05, 20]`.

    Source: Guo et al. 2017, section 4.2.
    """
    values = np.asarray(scores, dtype=np.float64)
    targets = np.asarray(labels, dtype=np.int64)
    if values.ndim != 2 or not len(values) or targets.shape != values.shape[:1]:
        raise ValueError(
            f"scores have shape {list(values.shape)} for {len(targets)} labels, expected "
            "[examples, answers]"
        )
    # The loss is convex in 1 / temperature, so its slope has one zero: bisection finds it.
    low, high = 1 / 20, 20.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _slope(values, targets, middle) > 0 else (middle, high)
    return float(1 / (low * high) ** 0.5)


def risk_coverage(
    confidence: Sequence[float] | Array, correct: Sequence[float] | Array
) -> RiskCoverage:
    """Compute the risk at every coverage; equal confidences are answered together.

    Source: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017 for the area.
    """
    confidence, correct = _check(confidence, correct)
    order = np.argsort(-confidence, kind="stable")
    ranked, errors = confidence[order], np.cumsum(1 - correct[order])
    counts = np.arange(1, len(ranked) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)
    coverage, risk = counts[last] / len(ranked), (errors / counts)[last]
    shares = np.diff(coverage, prepend=0.0)
    return RiskCoverage(coverage, risk, ranked[last], float((shares * risk).sum()))


def threshold_for_risk(curve: RiskCoverage, risk: float) -> float | None:
    """Return the confidence above which the risk stays within a limit, at the largest coverage.

    Args:
        curve: risk and coverage on validation questions.
        risk: largest accepted share of wrong answers, in `[0, 1]`.

    Returns:
        The threshold; None if no threshold is good enough.
    """
    good = np.flatnonzero(curve.risk <= risk + 1e-12)
    return float(curve.threshold[good[-1]]) if len(good) else None


def _bin_numbers(confidence: Array, bins: int) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _slope(values: Array, targets: npt.NDArray[np.int64], inverse: float) -> float:
    """Return the derivative of the mean loss by the inverse temperature."""
    scaled = values * inverse
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    own = values[np.arange(len(values)), targets]
    return float(((shares * values).sum(axis=1) - own).mean())


def _check(
    confidence: Sequence[float] | Array, correct: Sequence[float] | Array
) -> tuple[Array, Array]:
    first = np.asarray(confidence, dtype=np.float64)
    second = np.asarray(correct, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"got {first.shape} confidences and {second.shape} scores, expected one of each for "
            "every example"
        )
    for name, values in (("confidence", first), ("score", second)):
        outside = values[~((values >= 0) & (values <= 1))]
        if len(outside):
            raise ValueError(f"a {name} is {outside[0]}, expected 0 to 1")
    return first, second
