"""Is a model sure for good reason: calibration, and accuracy above a confidence."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from lxmert.metrics.calibration import (
    Bin,
    calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
    threshold_for_risk,
)
from lxmert.metrics.intervals import Interval, Limits, bootstrap
from lxmert.schema import Example

RISK = 0.05
"""Share of wrong answers that is accepted when only confident answers are given."""

Logits = npt.NDArray[np.float32]


class ConfidenceReport(TypedDict):
    """Result of `measure_confidence`, on the test half of the images.

    Attributes:
        calibration_error: expected calibration error (15 bins) of the probabilities, in `[0, 1]`.
        calibration_interval: limits of its 95% interval, resampling images.
        temperature: divisor of the logits, fitted on the validation half.
        calibrated_error: the same error after division by the temperature.
        calibrated_interval: limits of its 95% interval.
        bins: the reliability diagram, before division.
        coverage: answered share of the questions, increasing.
        risk: share of wrong answers at each coverage.
        area: area under the risk-coverage curve.
        accepted_risk: share of wrong answers that a threshold is chosen for.
        threshold: confidence above which the validation half has this risk; None if there is none.
        answered: share of the test half above the threshold; None without one.
        answered_interval: limits of its 95% interval, resampling images; None without one.
        answered_risk: share of wrong answers among these; None without one.
        risk_interval: limits of its 95% interval; None without one.
        count: number of questions in the test half.
    """

    calibration_error: float
    calibration_interval: Limits
    temperature: float
    calibrated_error: float
    calibrated_interval: Limits
    bins: list[Bin]
    coverage: list[float]
    risk: list[float]
    area: float
    accepted_risk: float
    threshold: float | None
    answered: float | None
    answered_interval: Limits | None
    answered_risk: float | None
    risk_interval: Limits | None
    count: int


def measure_confidence(
    examples: Sequence[Example],
    logits: Logits,
    answers: Sequence[str],
    *,
    accepted_risk: float = RISK,
    seed: int = 0,
) -> ConfidenceReport:
    """Measure calibration and risk-coverage of a model's answers.

    The images are split at random: temperature and threshold come from the validation half, all
    other numbers from the test half.

    Args:
        examples: questions with answers, about at least two images.
        logits: `[examples, answers]`.
        answers: name of each answer.
        accepted_risk: share of wrong answers to accept, in `[0, 1]`.
        seed: seed of the split.
    """
    valid = _validation_rows(examples, seed)
    scores = _answer_scores(examples, answers)
    temperature = _temperature(logits[valid], scores[valid])
    confidence, right = _confidence(logits, scores)
    calibrated, _ = _confidence(logits / temperature, scores)
    test = ~valid
    images = [example.image_ids[0] for example, used in zip(examples, test, strict=True) if used]
    error = calibration_error(confidence[test], right[test], images)
    remaining = calibration_error(calibrated[test], right[test], images)
    curve = risk_coverage(confidence[test], right[test])
    threshold = threshold_for_risk(risk_coverage(confidence[valid], right[valid]), accepted_risk)
    given = test & (confidence >= (np.inf if threshold is None else threshold))
    answered = None if threshold is None else _mean(given, test, examples)
    risk = _mean(1 - right, given, examples) if given.any() else None
    return {
        "calibration_error": error.mean,
        "calibration_interval": error.limits,
        "temperature": temperature,
        "calibrated_error": remaining.mean,
        "calibrated_interval": remaining.limits,
        "bins": reliability(confidence[test], right[test]),
        "coverage": curve.coverage.tolist(),
        "risk": curve.risk.tolist(),
        "area": curve.area,
        "accepted_risk": accepted_risk,
        "threshold": threshold,
        "answered": answered and answered.mean,
        "answered_interval": answered and answered.limits,
        "answered_risk": risk and risk.mean,
        "risk_interval": risk and risk.limits,
        "count": int(test.sum()),
    }


def _mean(
    values: npt.NDArray[np.generic], rows: npt.NDArray[np.bool_], examples: Sequence[Example]
) -> Interval:
    """Return the mean of the values of some examples, with its interval."""
    images = [example.image_ids[0] for example, used in zip(examples, rows, strict=True) if used]
    return bootstrap(values[rows].astype(np.float64), images)


def _validation_rows(examples: Sequence[Example], seed: int) -> npt.NDArray[np.bool_]:
    """Draw half of the images; True for the questions about them."""
    images = sorted({example.image_ids for example in examples})
    if len(images) < 2:
        raise ValueError("all questions are about the same image: a split needs at least two")
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = {images[index] for index in order[: len(images) // 2]}
    return np.array([example.image_ids in chosen for example in examples])


def _answer_scores(examples: Sequence[Example], answers: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the score of each answer to each question: `[examples, answers]`."""
    ids = {answer: index for index, answer in enumerate(answers)}
    scores = np.zeros((len(examples), len(answers)))
    for row, example in enumerate(examples):
        for answer, score in example.answers.items():
            if answer in ids:
                scores[row, ids[answer]] = score
    return scores


def _temperature(logits: Logits, scores: npt.NDArray[np.float64]) -> float:
    """Fit the temperature on questions whose best answer the model knows."""
    known = scores.max(axis=1) > 0
    if not known.any():
        return 1.0
    return fit_temperature(logits[known], scores[known].argmax(axis=1))


def _confidence(
    logits: Logits, scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the probability of the best answer, and its score."""
    wide = logits.astype(np.float64)
    shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    best = shares.argmax(axis=1)
    rows = np.arange(len(best))
    return np.clip(shares[rows, best], 0, 1), scores[rows, best]
