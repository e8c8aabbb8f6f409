"""Which explanation to trust: confidence after removal, and wrong signs, by relevance method."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from torch import Tensor

from lxmert.explain.methods import METHODS
from lxmert.explain.protocols import measure_names, measure_questions
from lxmert.metrics.intervals import bootstrap
from lxmert.model.heads import LxmertForQuestionAnswering

COMPARED = ("propagation", "attention", "attnlrp", "occlusion")
"""Methods that are compared; `lxmert explain-eval` tests all of them."""

_PROTOCOLS = ("aopc", "sign")


class TrustMeasure(TypedDict):
    """One measure of one method.

    Attributes:
        mean: its mean over questions.
        low: lower limit of the 95 % interval, resampling images.
        high: upper limit.
        count: number of questions for which it is defined.
    """

    mean: float
    low: float
    high: float
    count: int


Trust = dict[str, dict[str, TrustMeasure | None]]
"""Method -> measure -> its value; None if it is defined for no question."""


def measure_trust(
    model: LxmertForQuestionAnswering,
    questions: Sequence[tuple[dict[str, Tensor], str]],
    *,
    seed: int = 0,
) -> Trust:
    """Measure the faithfulness of explanations of a model's best answers.

    Args:
        model: in evaluation mode.
        questions: for each, a batch of one with the arguments of forward, and its image.
        seed: seed of the random ranking.

    Returns:
        For each of `COMPARED` and `random`: `AOPC`, `Del@15`, `Ins@15`, and `wrong sign, words` and
        `wrong sign, regions`; see `lxmert.explain.aopc` and `lxmert.explain.sign`.
    """
    methods = {name: METHODS[name] for name in COMPARED}
    images = [image for _, image in questions]
    found: Trust = {}
    for protocol in _PROTOCOLS:
        measured = [
            measure_questions(protocol, model, inputs, methods, seeds=[seed], start=index)
            for index, (inputs, _) in enumerate(questions)
        ]
        for name in measured[0]:
            rows = np.concatenate([each[name] for each in measured])
            for values, measure in zip(rows.T, measure_names(protocol, model), strict=True):
                title = f"wrong sign, {measure}" if protocol == "sign" else measure
                found.setdefault(name, {})[title] = _mean(values, images)
    return found


def _mean(values: np.ndarray, images: Sequence[str]) -> TrustMeasure | None:
    """Return the mean of the values that are not NaN, with its interval."""
    defined = np.flatnonzero(~np.isnan(values)).tolist()
    if not len(defined):
        return None
    mean, low, high = bootstrap(values[defined], [images[place] for place in defined])
    return {"mean": mean, "low": low, "high": high, "count": len(defined)}
