"""Sentences about reports whose findings are known."""

from typing import Any

import pytest

from lxmert.study.summary import summarize


def report(aopc: dict[str, float]) -> dict[str, Any]:
    """Return a report without foils, with the mean AOPC of each method."""
    same = {"accuracy": 0.25, "same_answer": 0.5, "same_low": 0.4, "same_high": 0.6}
    return {
        "accuracy": {"overall": 0.5, "color": 0.75, "size": 0.25},
        "intervals": {"overall": (0.4, 0.6)},
        "counts": {"overall": 40, "color": 20, "size": 20},
        "count": 40,
        "foils": None,
        "robustness": {"image exchanged": same, "question exchanged": same},
        "modality": None,
        "explanations": {name: {"AOPC": {"mean": mean}} for name, mean in aopc.items()},
        "confidence": {
            "calibration_error": 0.03,
            "calibration_interval": (0.02, 0.05),
            "threshold": None,
            "accepted_risk": 0.05,
        },
    }


def test_the_best_explanation_is_named() -> None:
    lines = summarize(report({"attention": 0.3, "occlusion": 0.62, "random": 0.2}))
    assert any("by 'occlusion' find best" in line and "0.62" in line for line in lines)
    assert lines[0].endswith("most of the type 'color' (75.0%), fewest of 'size' (25.0%).")


@pytest.mark.parametrize("others", [{"attention": 0.1}, {"attention": 0.204, "occlusion": 0.0}])
def test_no_explanation_is_called_best_if_a_random_order_is_as_good(
    others: dict[str, float],
) -> None:
    """The random order itself was called the best explanation of a model with random weights."""
    lines = summarize(report({**others, "random": 0.2}))
    assert not any("find best" in line for line in lines)
    assert any(line.startswith("No explanation finds better than a random") for line in lines)


def test_types_that_are_answered_equally_well_are_not_called_best_and_worst() -> None:
    """One type was called both."""
    found = report({"attention": 0.3, "random": 0.2})
    found["accuracy"] = {"overall": 1.0, "color": 1.0, "size": 1.0}
    assert summarize(found)[0].endswith("of 40 questions correctly.")


@pytest.mark.parametrize(("correlation", "named"), [(0.95, True), (0.55, False)])
def test_an_explanation_ignores_the_head_only_if_it_stays_nearly_the_same(
    correlation: float, *, named: bool
) -> None:
    found = report({"attention": 0.5, "random": 0.2})
    found["explanations"]["attention"]["words, random answer head"] = {"mean": correlation}
    assert any("hardly depend" in line for line in summarize(found)) == named
