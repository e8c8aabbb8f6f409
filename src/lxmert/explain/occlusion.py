"""Occlusion: removes each region and word in turn; needs no gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from lxmert.explain.deletion import answer_with_regions, answer_with_words
from lxmert.explain.inputs import (
    Inputs,
    check_answers,
    check_explainable,
    real_regions,
    real_words,
    removable_words,
)
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering


def occlusion(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the decrease in an answer's probability without each region and each word.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer to explain for each question.

    Returns:
        Differences of probabilities in `[-1, 1]`: negative scores speak against the answer; 0 for
        `[CLS]` and `[SEP]`, which are never removed. Removing an only region leaves an empty mask,
        so that the model sees only the text.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.
    """
    check_answers(model, inputs, answer_ids)
    found = _leave_out_all(model, inputs, answer_ids[:, None])
    return Relevance(found.words[:, 0], found.regions[:, 0])


def occlude_for_answers(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
) -> Relevance:
    """Compute `occlusion` for several answers to one question in the same forward passes.

    Args:
        model: in evaluation mode.
        inputs: a batch of one question.
        answer_ids: `[answers]`.

    Returns:
        A row for each answer.
    """
    check_explainable(model, inputs)
    found = _leave_out_all(model, inputs, answer_ids[None])
    return Relevance(found.words[0], found.regions[0])


def _leave_out_all(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
) -> Relevance:
    """Return words and regions, each `[batch, answers, length]`, for ids `[batch, answers]`."""
    words, regions = real_words(inputs), real_regions(inputs)
    removable = removable_words(inputs)
    return Relevance(
        _leave_out(answer_with_words, model, inputs, answer_ids, words, removable),
        _leave_out(answer_with_regions, model, inputs, answer_ids, regions, regions),
    )


def _leave_out(
    answer: Callable[..., Tensor],
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    real: Tensor,
    removable: Tensor,
) -> Tensor:
    """Return the contribution of each removable position to each answer's probability."""
    left_out, positions = removable.nonzero(as_tuple=True)
    rows = torch.cat([torch.arange(len(real), device=real.device), left_out])
    kept = real[rows]
    kept[len(real) :].scatter_(1, positions[:, None], value=False)
    scores = answer(model, inputs, rows, kept=kept).float().softmax(dim=-1)
    probabilities = scores.gather(1, answer_ids[rows])  # [variants, answers]
    batch, length = real.shape
    relevance = torch.zeros(batch, length, answer_ids.shape[1], device=real.device)
    relevance[left_out, positions] = probabilities[left_out] - probabilities[batch:]
    return relevance.transpose(1, 2)
