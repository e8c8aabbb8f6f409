"""Sign violations: a score for an answer, but the answer gains without the word or region.

Source: Liu et al., Rethinking Attention-Model Explainability through Faithfulness Violation Test
(ICML 2022), section 3.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lxmert.explain.inputs import Inputs, real_regions, removable_words
from lxmert.explain.occlusion import occlusion
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.schema import FloatArray

SIGN_MEASURES = ("words", "regions")


def violation(scores: FloatArray, effects: FloatArray) -> float:
    """Return whether the score with the largest magnitude has the wrong sign: 0 or 1.

    Args:
        scores: `[length]`, of each word or region; if several have the largest magnitude, the
            share of them is returned.
        effects: `[length]`, how much the answer's probability drops without each of them.

    Returns:
        NaN if all scores are 0, or there are none.
    """
    if not len(scores) or not scores.any():
        return float("nan")
    top = np.abs(scores) == np.abs(scores).max()
    return float((np.sign(scores[top]) * np.sign(effects[top]) < 0).mean())


def chance_of_violation(effects: FloatArray) -> float:
    """Return the expected violation of a random score of random sign; NaN without positions."""
    return float((effects != 0).mean() / 2) if len(effects) else float("nan")


def measure_signs(
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    found: Mapping[str, Relevance],
    *,
    baseline: str,
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure sign violations of words and of regions.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the explained answers.
        found: scores of each method.
        baseline: name of the baseline, random scores of random sign, whose expectation is exact.

    Returns:
        `[batch, 2]` for each method and the baseline, in the order of `SIGN_MEASURES`.
    """
    effects = occlusion(model, inputs, answer_ids)
    masks = (removable_words(inputs), real_regions(inputs))

    def real(side: int, row: int, relevance: Relevance) -> FloatArray:
        return np.asarray(relevance[side][row][masks[side][row]].cpu().numpy())

    rows = range(len(answer_ids))
    measured = {
        name: [
            [violation(real(side, row, scores), real(side, row, effects)) for side in (0, 1)]
            for row in rows
        ]
        for name, scores in found.items()
    }
    measured[baseline] = [
        [chance_of_violation(real(side, row, effects)) for side in (0, 1)] for row in rows
    ]
    return {name: np.array(each) for name, each in measured.items()}
