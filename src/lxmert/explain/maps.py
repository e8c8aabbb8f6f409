"""All attention maps of the three encoders by name, and the gradients of an answer's score."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs, check_answers, check_explainable
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.outputs import LxmertForQuestionAnsweringOutput

Layers = tuple[Tensor, ...]
"""One `[batch, heads, queries, keys]` for each layer of a kind, first layer first."""


@dataclass(frozen=True)
class AttentionMaps:
    """All maps of one forward pass, or their gradients; rows of maps sum to 1.

    Attributes:
        language: language layers, `[batch, heads, text_len, text_len]`.
        relationship: relationship layers, `[batch, heads, regions, regions]`.
        text_over_regions: cross layers, words attend to regions,
            `[batch, heads, text_len, regions]`.
        regions_over_text: cross layers, regions attend to words,
            `[batch, heads, regions, text_len]`.
        text_over_text: cross layers, `[batch, heads, text_len, text_len]`.
        regions_over_regions: cross layers, `[batch, heads, regions, regions]`.
    """

    language: Layers
    relationship: Layers
    text_over_regions: Layers
    regions_over_text: Layers
    text_over_text: Layers
    regions_over_regions: Layers

    def kinds(self) -> dict[str, Layers]:
        """Return the maps of each kind by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def named(self) -> dict[str, Tensor]:
        """Return each map by its name, such as `language.0` or `text_over_regions.4`."""
        return {
            f"{kind}.{index}": layer
            for kind, layers in self.kinds().items()
            for index, layer in enumerate(layers)
        }


def attention_maps(model: LxmertForQuestionAnswering, inputs: Inputs) -> AttentionMaps:
    """Return all attention maps of a batch, without gradients.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions; padding gets zero attention as a key, but has rows as a query.

    Raises:
        ValueError: if model or inputs cannot be explained.
    """
    check_explainable(model, inputs)
    with torch.no_grad():
        output = model(**inputs, output_attentions=True, return_dict=True)
    assert isinstance(output, LxmertForQuestionAnsweringOutput)
    return _collect(output)


def maps_and_gradients(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
) -> tuple[AttentionMaps, AttentionMaps]:
    """Return all attention maps and the gradient of an answer's score with respect to each.

    This takes one forward and one backward pass for all maps and examples. It changes neither
    parameters nor state of the model, and works with frozen parameters and under `no_grad`.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the answer whose score (before softmax) is differentiated.

    Returns:
        Maps and gradients. The gradients are zero if an answer does not depend on a map: in the
        last cross layer, this holds for both maps with regions as queries.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.
    """
    check_answers(model, inputs, answer_ids)
    with torch.inference_mode(mode=False), torch.enable_grad():
        output = model(**differentiable(model, inputs), output_attentions=True, return_dict=True)
        assert isinstance(output, LxmertForQuestionAnsweringOutput)
        assert output.question_answering_score is not None
        # Examples are independent, so the gradient of the sum contains that of each.
        score = output.question_answering_score.gather(1, answer_ids.clone()[:, None]).sum()
        maps = _collect(output)
        found = torch.autograd.grad(
            score, list(maps.named().values()), allow_unused=True, materialize_grads=True
        )
    gradients = iter(found)
    return (
        AttentionMaps(**{k: tuple(m.detach() for m in v) for k, v in maps.kinds().items()}),
        AttentionMaps(**{k: tuple(next(gradients) for _ in v) for k, v in maps.kinds().items()}),
    )


def differentiable(model: LxmertForQuestionAnswering, inputs: Inputs) -> dict[str, Tensor]:
    """Copy the inputs so that all maps depend on a leaf, even if every parameter is frozen."""
    copies = {name: value.detach().clone() for name, value in inputs.items()}
    embedding: Any = model.get_input_embeddings()
    with torch.no_grad():
        copies["inputs_embeds"] = embedding(copies.pop("input_ids"))
    for name in ("inputs_embeds", "visual_feats"):
        copies[name].requires_grad_()
    return copies


def _collect(output: LxmertForQuestionAnsweringOutput) -> AttentionMaps:
    """Name the maps of an output."""
    return AttentionMaps(
        language=output.language_attentions or (),
        relationship=output.vision_attentions or (),
        text_over_regions=output.cross_encoder_attentions or (),
        regions_over_text=output.vision_cross_attentions or (),
        text_over_text=output.cross_language_attentions or (),
        regions_over_regions=output.cross_vision_attentions or (),
    )
