"""Calibration of answers whose true reliability is known."""

import numpy as np
import pytest

from lxmert.schema import Example
from lxmert.study.confidence import measure_confidence

ANSWERS = ("yes", "no")


def questions(scale: float, number: int = 6000):  # type: ignore[no-untyped-def]
    """Draw answers with the probabilities of the logits; the model's logits are scaled."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(number, 2)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truths = (rng.random(number) < shares[:, 1]).astype(int)
    examples = [
        Example(str(row), "?", (f"{row // 5}.png",), {ANSWERS[truth]: 1.0})
        for row, truth in enumerate(truths.tolist())
    ]
    return examples, (logits * scale).astype(np.float32)


@pytest.mark.long
def test_an_overconfident_model_is_repaired_by_its_temperature() -> None:
    honest = measure_confidence(*questions(1.0), ANSWERS)
    assert honest["calibration_error"] < 0.03
    assert honest["temperature"] == pytest.approx(1.0, abs=0.1)
    loud = measure_confidence(*questions(4.0), ANSWERS)
    assert loud["calibration_error"] > 0.1
    assert loud["temperature"] == pytest.approx(4.0, rel=0.1)
    assert loud["calibrated_error"] == pytest.approx(honest["calibrated_error"], abs=0.005)
    low, high = loud["calibration_interval"]
    assert loud["calibrated_interval"][1] < low < loud["calibration_error"] < high


def test_the_threshold_keeps_about_the_accepted_risk_on_the_other_half() -> None:
    found = measure_confidence(*questions(1.0), ANSWERS, accepted_risk=0.1)
    assert found["threshold"] is not None
    assert found["answered_risk"] == pytest.approx(0.1, abs=0.03)
    assert 0.2 < found["answered"] < 0.9  # type: ignore[operator]
    assert found["answered_interval"] is not None
    assert found["risk_interval"] is not None
    for value, (low, high) in (
        (found["answered"], found["answered_interval"]),
        (found["answered_risk"], found["risk_interval"]),
    ):
        assert value is not None
        assert low < value < high < low + 0.05
    assert found["count"] == 3000
    assert found["risk"][-1] == pytest.approx(1 - _accuracy(found), abs=1e-9)


def _accuracy(found) -> float:  # type: ignore[no-untyped-def]
    return sum(b.accuracy * b.num_examples for b in found["bins"]) / found["count"]


def test_a_model_that_is_never_right_has_no_threshold() -> None:
    examples, logits = questions(1.0, 100)
    wrong = [Example(e.example_id, e.text, e.image_ids, {"maybe": 1.0}) for e in examples]
    found = measure_confidence(wrong, logits, ANSWERS)
    assert (found["threshold"], found["answered"], found["temperature"]) == (None, None, 1.0)
    assert (found["answered_interval"], found["risk_interval"]) == (None, None)
    assert found["area"] == 1.0
