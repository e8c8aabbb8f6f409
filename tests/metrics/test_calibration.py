"""Calibration and risk-coverage, compared with hand-made cases, scipy and brute force."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from lxmert.metrics.calibration import (
    calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
    threshold_for_risk,
)


def test_bins_of_a_hand_made_case() -> None:
    bins = reliability([0.1, 0.2, 0.75, 0.75, 1.0], [0, 1, 1, 0, 1], bins=4)
    assert [(bin_.low, bin_.high, bin_.num_examples) for bin_ in bins] == [
        (0.0, 0.25, 2), (0.5, 0.75, 2), (0.75, 1.0, 1),
    ]  # fmt: skip
    assert bins[0].confidence == pytest.approx(0.15)
    assert bins[0].accuracy == 0.5


def test_the_calibration_error_of_a_hand_made_case() -> None:
    found = calibration_error([0.1, 0.2, 0.75, 0.75, 1.0], [0, 1, 1, 0, 1], bins=4)
    assert found.mean == pytest.approx((2 * 0.35 + 2 * 0.25 + 0) / 5)


@pytest.mark.long
@pytest.mark.parametrize("true", [0.05, 0.2])
def test_the_interval_of_the_calibration_error_covers_the_true_error(true: float) -> None:
    """All confidences are too high by the same; an image has five questions with equal scores."""
    rng = np.random.default_rng(8)
    images = np.repeat(np.arange(120), 5).astype(str).tolist()
    covered, trials = 0, 60
    for seed in range(trials):
        shares = np.repeat(rng.uniform(0.3, 0.7, size=120), 5)
        correct = np.repeat(rng.random(120) < shares[::5], 5).astype(float)
        found = calibration_error(shares + true, correct, images, samples=500, seed=seed)
        narrow = calibration_error(shares + true, correct, samples=500, seed=seed)
        assert 0 <= found.low <= found.mean <= found.high
        assert found.high - found.mean > 1.5 * (narrow.high - narrow.mean)
        covered += found.low <= true <= found.high
    assert covered >= 0.9 * trials


def test_confidences_that_are_the_accuracy_have_no_error() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.random(60_000)
    correct = (rng.random(60_000) < confidence).astype(float)
    assert calibration_error(confidence, correct, samples=50).mean < 0.01
    assert calibration_error(confidence**3, correct, samples=50).low > 0.15


@pytest.mark.parametrize("true", [0.4, 1.0, 3.25])
def test_the_temperature_is_that_of_a_general_optimizer(true: float) -> None:
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(3000, 6)) * 2
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(6, p=row) for row in shares])

    def loss(log_temperature: float) -> float:
        scaled = scores * true / math.exp(log_temperature)
        own = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())

    expected = math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = fit_temperature(scores * true, labels)
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(true, rel=0.1)


def test_labels_that_are_always_best_give_the_lowest_temperature() -> None:
    scores = np.eye(4) * 3.0
    assert fit_temperature(scores, [0, 1, 2, 3]) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(scores, [1, 2, 3, 0]) == pytest.approx(20, rel=1e-3)


def test_risk_and_coverage_of_a_hand_made_case() -> None:
    curve = risk_coverage([0.9, 0.8, 0.8, 0.3], [1, 0, 1, 0])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0.0, 1 / 3, 0.5])
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.3])
    assert curve.area == pytest.approx(0.5 / 3 + 0.25 * 0.5)
    assert threshold_for_risk(curve, 0.34) == 0.8
    assert threshold_for_risk(curve, 1.0) == 0.3
    assert threshold_for_risk(curve, 0.1) == 0.9
    assert threshold_for_risk(risk_coverage([0.9], [0]), 0.5) is None


def test_the_threshold_keeps_its_risk_and_answers_as_much_as_possible() -> None:
    """Every threshold is tried."""
    rng = np.random.default_rng(2)
    confidence = rng.integers(0, 20, size=300) / 20
    correct = (rng.random(300) < confidence).astype(float)
    curve = risk_coverage(confidence, correct)
    for limit in (0.2, 0.3, 0.4):
        good = [
            level for level in np.unique(confidence)
            if 1 - correct[confidence >= level].mean() <= limit
        ]  # fmt: skip
        assert threshold_for_risk(curve, limit) == min(good)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "expected one of each"),
        ([0.5], [0.5, 1], "expected one of each"),
        ([1.5], [1], "a confidence is 1.5, expected 0 to 1"),
        ([0.5], [-1], "a score is"),
        ([math.nan], [1], "a confidence is"),
    ],
)
def test_what_is_no_confidence_is_refused(
    confidence: list[float], correct: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reliability(confidence, correct)
    with pytest.raises(ValueError, match=message):
        risk_coverage(confidence, correct)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[examples, answers\]"):
        fit_temperature(np.zeros((3, 4)), [0, 1])
