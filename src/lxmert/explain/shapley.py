"""Shapley values of words and regions, and the contribution of each modality (MM-SHAP)."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lxmert.explain.deletion import answer_with_both
from lxmert.explain.inputs import (
    Inputs,
    check_answers,
    check_explainable,
    real_regions,
    real_words,
    removable_words,
)
from lxmert.explain.relevance import Relevance
from lxmert.explain.shapley_values import (
    SAMPLES,
    Array,
    Coalitions,
    shapley_values,
)
from lxmert.model.heads import LxmertForQuestionAnswering


def shapley(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the Shapley value of each word and region for an answer's probability.

    Players are the word pieces between `[CLS]` and `[SEP]` and the regions. A coalition is the
    question and the image without the others, which are removed, not masked.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer to explain for each question.

    Returns:
        Values in `[-1, 1]`: negative ones speak against the answer; 0 for `[CLS]` and `[SEP]`. The
        values of an example add up to the difference between the answer's probability and that
        with neither words nor regions.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.

    Source: Parcalabescu and Frank, MM-SHAP (ACL 2023), section 3.
    """
    check_answers(model, inputs, answer_ids)
    rows = [
        shapley_for_answers(
            model, {name: value[row : row + 1] for name, value in inputs.items()}, answer_id[None]
        )[0]
        for row, answer_id in enumerate(answer_ids)
    ]
    return Relevance(*(torch.cat(side) for side in zip(*rows, strict=True)))


def shapley_for_answers(
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[Relevance, Relevance]:
    """Compute `shapley` for several answers to one question from the same coalitions.

    Args:
        model: in evaluation mode.
        inputs: a batch of one question.
        answer_ids: `[answers]`.
        samples: coalitions to evaluate if there are too many to evaluate all. Long inputs get
            more: two orders of the players and their reverses at least.
        seed: seed of the sampled orders.

    Returns:
        Values and standard errors, each with a row for each answer.
    """
    check_explainable(model, inputs)
    words, regions = removable_words(inputs)[0], real_regions(inputs)[0]
    num_players = int(words.sum() + regions.sum())
    found = shapley_values(
        partial(_probabilities, model, inputs, answer_ids),
        num_players,
        samples=max(samples, 4 * num_players),
        seed=seed,
    )
    values, errors = (_place(part, words, regions) for part in found)
    return values, errors


def text_share(relevance: Relevance) -> Tensor:
    """Return the share of the text in the contributions of both modalities: `[batch]`.

    Near 0 the answer depends on the image only, near 1 on the text only (T-SHAP; V-SHAP is the
    rest). NaN if no word or region contributes.

    Source: Parcalabescu and Frank, MM-SHAP (ACL 2023), equations 2 to 4.
    """
    text, image = (part.abs().sum(dim=1) for part in relevance)
    return text / (text + image)


def _probabilities(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor, coalitions: Coalitions
) -> Array:
    """Return the probability of each answer for each coalition: `[coalitions, answers]`."""
    words, regions = removable_words(inputs)[0], real_regions(inputs)[0]
    chosen = torch.from_numpy(coalitions).to(words.device)
    num_words = int(words.sum())
    kept_words = (real_words(inputs)[0] & ~words).repeat(len(chosen), 1)
    kept_words[:, words] = chosen[:, :num_words]
    kept_regions = torch.zeros(len(chosen), len(regions), dtype=torch.bool, device=words.device)
    kept_regions[:, regions] = chosen[:, num_words:]
    scores = answer_with_both(model, inputs, kept_words=kept_words, kept_regions=kept_regions)
    found = scores.double().softmax(dim=-1)[:, answer_ids]
    return np.asarray(found.cpu())


def _place(part: Array, words: Tensor, regions: Tensor) -> Relevance:
    """Arrange numbers of players, `[players, answers]`, by word and region."""
    numbers = torch.from_numpy(part.T.astype(np.float32)).to(words.device)
    num_words = int(words.sum())
    placed = Relevance(
        numbers.new_zeros(len(numbers), len(words)), numbers.new_zeros(len(numbers), len(regions))
    )
    placed.words[:, words] = numbers[:, :num_words]
    placed.regions[:, regions] = numbers[:, num_words:]
    return placed
