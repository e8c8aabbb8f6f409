"""Confidence after the most relevant words and regions are removed or kept: AOPC, Del@15, Ins@15.

Words and regions are removed together, each by its own ranking. The confidence is the probability
of the answer that the model gives to the complete input.

Source: Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned (2017),
equation 12, for the area over the perturbation curve; the percentages, the joint removal and the
two values at 15% are those of the evaluation published with UPSE for LXMERT.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.explain.deletion import answer_with_both
from lxmert.explain.inputs import Inputs, real_regions, real_words, removable_words
from lxmert.explain.perturbation import rank
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.schema import FloatArray

PERCENTAGES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""Percentages of the words and of the regions that are removed, or kept."""

AT = 15
"""The percentage of Del@15 and Ins@15."""

AOPC_MEASURES = ("AOPC", f"Del@{AT}", f"Ins@{AT}")

Scores = npt.NDArray[np.float64]


def summarize_confidence(
    complete: float, deleted: Scores, inserted: Scores, empty: float
) -> Scores:
    """Return AOPC, Del@15 and Ins@15 of one question, for which high is good.

    Args:
        complete: confidence in the answer to the complete input.
        deleted: `[percentages]`, without the most relevant.
        inserted: `[percentages]`, with only the most relevant.
        empty: with neither words nor regions.

    Returns:
        The mean of `complete - deleted`; that difference at 15%; and `inserted - empty` at 15%.
    """
    drops = complete - deleted
    place = PERCENTAGES.index(AT)
    return np.array([drops.mean(), drops[place], inserted[place] - empty])


def measure_confidence_curves(
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    found: Mapping[str, Relevance],
    generators: Sequence[np.random.Generator],
) -> dict[str, Scores]:
    """Measure how the confidence in answers changes with the most relevant words and regions.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the explained answers.
        found: scores of each method.
        generators: one for each question, to break ties.

    Returns:
        `[batch, 3]` for each method, in the order of `AOPC_MEASURES`.
    """
    rows = []
    for row, generator in enumerate(generators):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        scores = [[side[row].cpu().numpy() for side in relevance] for relevance in found.values()]
        rows.append(_measure_question(model, one, int(answer_ids[row]), scores, generator))
    return dict(zip(found, np.stack(rows, axis=1), strict=True))


def _measure_question(
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_id: int,
    scores: Sequence[Sequence[FloatArray]],
    generator: np.random.Generator,
) -> Scores:
    """Return `[methods, 3]` for one question; identical remainders are answered only once."""
    words, regions = removable_words(inputs)[0], real_regions(inputs)[0]
    always = (real_words(inputs)[0] & ~words).cpu().numpy()
    may_go = [words.cpu().numpy(), regions.cpu().numpy()]
    kept = np.stack([_variants(each, may_go, generator) for each in scores])
    kept[..., : len(always)] |= always
    masks, places = np.unique(kept.reshape(-1, kept.shape[-1]), axis=0, return_inverse=True)
    variants = torch.from_numpy(masks).to(words.device)
    answered = answer_with_both(
        model,
        inputs,
        kept_words=variants[:, : len(always)],
        kept_regions=variants[:, len(always) :],
    )
    confidence = answered.double().softmax(dim=-1)[:, answer_id].cpu().numpy()
    by_method = confidence[places.reshape(kept.shape[:-1])]
    number = len(PERCENTAGES)
    return np.stack(
        [
            summarize_confidence(each[0], each[2 : 2 + number], each[2 + number :], each[1])
            for each in by_method
        ]
    )


def _variants(
    scores: Sequence[FloatArray],
    may_go: Sequence[npt.NDArray[np.bool_]],
    generator: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Return what is kept: everything, nothing, all but the top of each share, only the top.

    Returns:
        `[2 + 2 * percentages, words and regions]`, True for removable positions that are kept.
    """
    sides = []
    for relevance, removable in zip(scores, may_go, strict=True):
        places = np.flatnonzero(removable)
        order = places[rank(relevance[places], generator)]
        top = np.zeros((len(PERCENTAGES), len(removable)), dtype=bool)
        for row, percentage in enumerate(PERCENTAGES):
            top[row, order[: number_of(percentage, len(order))]] = True
        nothing = np.zeros_like(removable)
        sides.append(np.concatenate([[removable, nothing], removable & ~top, top]))
    return np.concatenate(sides, axis=1)


def number_of(percentage: int, total: int) -> int:
    """Return how many of `total` a percentage is, rounded up."""
    return -(-percentage * total // 100)
