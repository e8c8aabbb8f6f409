"""AttnLRP: layer-wise relevance propagation through attention, in one backward pass.

The rules are written as changed gradients, so that the relevance of any tensor is its product with
the gradient: linear layers and sums keep theirs (epsilon rule with epsilon 0), as does softmax
(Taylor rule); a layer norm treats its standard deviation, and an activation the ratio of output to
input, as a constant (identity rule); a product of two tensors gives half to each (uniform rule).

The relevance of all inputs, of all biases, and what softmax layers take, adds up to the score.

Source: Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers
(ICML 2024), section 3.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lxmert.explain.inputs import Inputs, check_answers
from lxmert.explain.maps import differentiable
from lxmert.explain.relevance import Relevance, zero_padding
from lxmert.model.heads import LxmertForQuestionAnswering

_ACTIVATIONS = (functional.gelu, functional.relu, functional.silu, torch.tanh)
_SUPPORTED = ("gelu", "relu", "silu", "swish", "tanh")
"""Activations that are single functions of torch."""


class RelevanceRules(TorchFunctionMode):
    """A context in which functions of torch have the gradients of AttnLRP; values stay."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch by its rule."""
        if func is functional.layer_norm:
            return _normalize(*args, **kwargs or {})
        value = func(*args, **kwargs or {})
        if func in _ACTIVATIONS:
            ratio = torch.where(args[0] == 0, 0, value / args[0])
            return args[0] * ratio.detach()
        if func is torch.matmul:
            return value / 2 + (value / 2).detach()
        return value


def attnlrp(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> Relevance:
    """Return the relevance of each word and region for an answer's score before softmax.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer to explain for each question.

    Returns:
        Negative scores speak against the answer.

    Raises:
        ValueError: if model, inputs or answers cannot be explained, or there is no rule for the
            activation of the model.
    """
    check_answers(model, inputs, answer_ids)
    if model.config.hidden_act not in _SUPPORTED:
        raise ValueError(
            f"attnlrp has no rule for the activation {model.config.hidden_act!r}, expected one of "
            f"{', '.join(_SUPPORTED)}: choose another method"
        )
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaves = differentiable(model, inputs)
        leaves["visual_pos"].requires_grad_()
        with RelevanceRules():
            # Maps are requested because fused attention has no rule.
            output: Any = model(**leaves, output_attentions=True, return_dict=True)
        score = output.question_answering_score.gather(1, answer_ids.clone()[:, None]).sum()
        names = ("inputs_embeds", "visual_feats", "visual_pos")
        words, features, boxes = torch.autograd.grad(score, [leaves[name] for name in names])
    found = (words * _embedded(model, leaves)).detach().sum(dim=-1)
    regions = (features * leaves["visual_feats"]).sum(-1) + (boxes * leaves["visual_pos"]).sum(-1)
    found[:, 0] = 0
    return zero_padding(inputs, Relevance(found, regions.detach()))


def _embedded(model: LxmertForQuestionAnswering, leaves: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of word, position and segment embeddings, which have the same gradient."""
    embeddings = model.lxmert.embeddings
    words = leaves["inputs_embeds"]
    positions = torch.arange(words.shape[1], device=words.device)
    segments = leaves.get("token_type_ids", torch.zeros_like(positions))
    places = embeddings.position_embeddings(positions)
    total: Tensor = words + places + embeddings.token_type_embeddings(segments)
    return total


def _normalize(
    given: Tensor, shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """Return a layer norm whose standard deviation is a constant."""
    axes = tuple(range(-len(shape), 0))
    variance = given.var(dim=axes, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt().detach()
    return (given - given.mean(dim=axes, keepdim=True)) * scale * weight + bias
