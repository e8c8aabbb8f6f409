"""The relevance methods by name, with one signature.

Each method takes a model in evaluation mode, a batch of questions and one answer id per question,
and returns scores for every word piece and region. `[CLS]`, from which the answer is read, and
padding get exactly 0. `[SEP]` gets a score from methods based on attention, but 0 from methods that
remove or replace words. Scores of methods based on attention are at least 0; those of `attnlrp`,
integrated gradients and methods that remove words also show evidence against an answer.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from lxmert.explain.answered import QUICK as QUICK
from lxmert.explain.attnlrp import attnlrp
from lxmert.explain.inputs import Inputs, check_answers, check_explainable, real_regions, real_words
from lxmert.explain.integrated_gradients import integrated_gradients
from lxmert.explain.maps import attention_maps, maps_and_gradients
from lxmert.explain.occlusion import occlude_for_answers, occlusion
from lxmert.explain.relevance import Relevance, propagate, zero_padding
from lxmert.explain.shapley import shapley, shapley_for_answers
from lxmert.explain.value_zeroing import value_zeroing
from lxmert.explain.views import rows_by_image, rows_by_text
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import did_you_mean

Method = Callable[[LxmertForQuestionAnswering, Inputs, Tensor], Relevance]
"""Model, inputs, `answer_ids` `[batch]` -> relevance."""


def attention(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the attention of `[CLS]` in the last cross layer, averaged over heads.

    This is attention, not importance: it is the same for every answer and does not distinguish
    evidence for an answer from evidence against it.
    """
    maps = attention_maps(model, inputs)
    check_answers(model, inputs, answer_ids)
    return _first_row(
        model, inputs, maps.text_over_text[-1].mean(dim=1), maps.text_over_regions[-1].mean(dim=1)
    )


def rollout(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the attention of `[CLS]` rolled out over all layers.

    Heads are averaged, each map is averaged with the identity, and the maps of each stream are
    multiplied. The last map of text over regions joins both streams, using the text before the
    self-attention of that layer: `R_ti = R_tt^T A R_ii`, as in the code that Chefer et al.
    published for LXMERT. (The alternative uses `R_tt` after that self-attention, as the word scores
    do.) Rollout is the same for every answer.

    Source: Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020).
    """
    maps = attention_maps(model, inputs)
    check_answers(model, inputs, answer_ids)
    rows = rows_by_image(model, inputs)
    words, regions = real_words(rows), real_regions(rows)
    layers = [_of_real(m, words) for m in (*maps.language, *maps.text_over_text)]
    # What regions attend to in the last cross layer does not reach the text.
    images = (*maps.relationship, *maps.regions_over_regions[:-1])
    across = _of_real(maps.text_over_regions[-1], words)
    if layers[:-1]:
        across = multiply(layers[:-1]).transpose(1, 2) @ across
    if images:
        across = across @ multiply([_of_real(m, regions) for m in images])
    return _first_row(model, inputs, multiply(layers), across)


def gradcam(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the attention of `[CLS]` in the last cross layer, heads weighted by mean gradient.

    If the model is confident, the mean gradient of every head is often negative, and all scores
    are 0.

    Source: Selvaraju et al., Grad-CAM (ICCV 2017), with heads in place of channels.
    """
    maps, gradients = maps_and_gradients(model, inputs, answer_ids)
    rows = rows_by_image(model, inputs)
    words, regions = real_words(rows), real_regions(rows)
    return _first_row(
        model,
        inputs,
        weigh_heads(maps.text_over_text[-1], gradients.text_over_text[-1], words, words),
        weigh_heads(maps.text_over_regions[-1], gradients.text_over_regions[-1], words, regions),
    )


def propagation(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the relevance propagated through all layers, see `relevance.py`."""
    found = propagate(*maps_and_gradients(model, inputs, answer_ids))
    return zero_padding(inputs, rows_by_text(model, found))


METHODS: dict[str, Method] = {
    "propagation": propagation,
    "attention": attention,
    "rollout": rollout,
    "gradcam": gradcam,
    "attnlrp": attnlrp,
    "value_zeroing": value_zeroing,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "shapley": shapley,
}
"""Name -> function; the first is the default."""

_FOR_ANY_ANSWER = ("attention", "rollout", "value_zeroing")

_ROWS = 64
"""Answers to one question that are explained together."""


def choose_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Check method names; `all` stands for all methods that are available.

    Raises:
        TypeError: if they are not a list of names.
        ValueError: listing the valid names, for an unknown or unavailable method or none at all.
    """
    if isinstance(names, str) or not (
        isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    ):
        raise TypeError(f"methods is {names!r}, expected a list of names such as ['occlusion']")
    usable = [name for name in METHODS if name != "integrated_gradients" or find_spec("captum")]
    if "all" in names:
        return tuple(usable)
    if not names:
        raise ValueError(f"got no method, expected some of {', '.join(usable)}, or all")
    for name in names:
        if name not in METHODS:
            hint = f"{did_you_mean(name, METHODS)} choose one of {', '.join(METHODS)}, or all"
            raise ValueError(f"no method {name!r}: {hint.lstrip()}")
        if name not in usable:
            raise ValueError(
                f"{name} needs captum, which is not installed: run pip install 'lxmert[explain]' "
                f"or choose one of {', '.join(usable)}"
            )
    return tuple(dict.fromkeys(names))


def explain_answers(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor, names: Sequence[str]
) -> dict[str, Relevance]:
    """Explain several answers to one question.

    Args:
        model: in evaluation mode.
        inputs: a batch of one question.
        answer_ids: `[answers]`, any number.
        names: method names.

    Returns:
        Scores by method, on the CPU, with a row for each answer. Methods whose scores do not depend
        on the answer are computed once.

    Raises:
        ValueError: if model, inputs, answers or methods cannot be explained, or there are several
            questions.
    """
    check_explainable(model, inputs)
    if len(inputs["input_ids"]) != 1 or not len(answer_ids):
        raise ValueError(
            f"there are {len(inputs['input_ids'])} questions and {len(answer_ids)} answers, "
            "expected one question and at least one answer: call it for each question"
        )
    check_answers(model, _repeat(inputs, len(answer_ids)), answer_ids)
    found = {}
    for name in choose_methods(names):
        if name == "occlusion":
            parts = [occlude_for_answers(model, inputs, answer_ids)]
        elif name == "shapley":
            parts = [shapley_for_answers(model, inputs, answer_ids)[0]]
        elif name in _FOR_ANY_ANSWER:
            words, regions = METHODS[name](model, inputs, answer_ids[:1])
            parts = [Relevance(*(v.expand(len(answer_ids), -1) for v in (words, regions)))]
        else:
            parts = [
                METHODS[name](model, _repeat(inputs, len(ids)), ids)
                for ids in torch.split(answer_ids, _ROWS)
            ]
        found[name] = Relevance(*(torch.cat(side).cpu() for side in zip(*parts, strict=True)))
    return found


def _repeat(inputs: Inputs, times: int) -> dict[str, Tensor]:
    """Repeat a batch of one question."""
    return {name: value.expand(times, *value.shape[1:]) for name, value in inputs.items()}


def multiply(maps: Sequence[Tensor]) -> Tensor:
    """Multiply the maps of consecutive layers, each averaged with the identity.

    Args:
        maps: each `[batch, length, length]`, with rows that sum to 1, or to 0 for padding.

    Returns:
        `[batch, length, length]`; row i is what position i contains of each input position.
    """
    product = identity = torch.eye(maps[0].shape[-1], device=maps[0].device)
    for layer in maps:
        mixed = layer + identity
        product = (mixed / mixed.sum(dim=-1, keepdim=True)) @ product
    return product


def weigh_heads(attention_map: Tensor, gradient: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Average heads weighted by their mean gradient, and keep positive values.

    Args:
        attention_map: `[batch, heads, queries, keys]`.
        gradient: gradient of the map, same shape.
        queries: `[batch, queries]`, True if real; means are over pairs of real positions.
        keys: `[batch, keys]`, likewise.
    """
    pairs = (queries[:, :, None] & keys[:, None, :])[:, None]
    count = pairs.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    weight = gradient.float().masked_fill(~pairs, 0).sum(dim=(2, 3), keepdim=True) / count
    return (attention_map.float() * weight).mean(dim=1).clamp(min=0)


def _of_real(attention_map: Tensor, queries: Tensor) -> Tensor:
    """Average the heads of a map, `[batch, queries, keys]`, with zero rows for padding."""
    return attention_map.float().mean(dim=1).masked_fill(~queries[..., None], 0)


def _first_row(
    model: LxmertForQuestionAnswering, inputs: Inputs, words: Tensor, regions: Tensor
) -> Relevance:
    """Return the rows of `[CLS]` of two matrices, without its own entry."""
    first = words[:, 0].clone()
    first[:, 0] = 0
    return zero_padding(inputs, rows_by_text(model, Relevance(first, regions[:, 0])))
