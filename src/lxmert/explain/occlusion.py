"""What an answer rests on, by leaving out each region and word in turn: needs no gradients."""

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
    """Return how much less probable an answer is without each region, and without each word.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer to explain of each.

    Returns:
        Differences of probabilities, in `[-1, 1]`: negative where something spoke against the
        answer, 0 for `[CLS]` and `[SEP]`, which are never left out. A single region is left out
        by an empty mask, so that the model answers blindly.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.
    """
    check_explainable(model, inputs)
    check_answers(model, inputs, answer_ids)
    words = _leave_out(
        answer_with_words, model, inputs, answer_ids, real_words(inputs), removable_words(inputs)
    )
    return Relevance(words, _regions(model, inputs, answer_ids))


def region_relevance(model: LxmertForQuestionAnswering, inputs: Inputs, answer_id: int) -> Tensor:
    """Return the regions of `occlusion` for one example: `[regions]` in `[-1, 1]`, on the CPU."""
    answer_ids = torch.full_like(inputs["input_ids"][:1, 0], answer_id)
    check_explainable(model, inputs)
    check_answers(model, inputs, answer_ids)
    return _regions(model, inputs, answer_ids)[0].cpu()


def _regions(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Tensor:
    """Return the regions of `occlusion`."""
    real = real_regions(inputs)
    return _leave_out(answer_with_regions, model, inputs, answer_ids, real, real)


def _leave_out(
    answer: Callable[..., Tensor],
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    real: Tensor,
    removable: Tensor,
) -> Tensor:
    """Return `[batch, length]`, what each removable position adds to the answer's probability."""
    left_out, positions = removable.nonzero(as_tuple=True)
    rows = torch.cat([torch.arange(len(real), device=real.device), left_out])
    kept = real[rows]
    kept[len(real) :].scatter_(1, positions[:, None], value=False)
    scores = answer(model, inputs, rows, kept=kept).float().softmax(dim=-1)
    probabilities = scores.gather(1, answer_ids[rows, None])[:, 0]
    relevance = torch.zeros(real.shape, device=real.device)
    difference = probabilities[: len(real)][left_out] - probabilities[len(real) :]
    relevance[left_out, positions] = difference
    return relevance
