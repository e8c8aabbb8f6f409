"""Value zeroing: how much each state changes if one position cannot be read.

The value vector of one position is set to zero in one attention of one layer, and the layer is
computed again; attention weights and the input of the layer stay. The cosine distance of a new
state to the original one, divided by the sum over all positions, is how much of the state is read
from there.

Source: Mohebbi et al., Quantifying Context Mixing in Transformers (EACL 2023), section 3, for the
maps. For two streams, which are not part of the paper, cross-attention and self-attention of a
cross layer count as one layer each, and layers are joined by rollout: after each of them, a state
is in equal parts what it was before and what it reads. The published rollout of one stream does not
keep the state; here it would lose what `[CLS]` has read from regions in the last cross-attention.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs, check_answers
from lxmert.explain.relevance import Relevance, zero_padding
from lxmert.explain.views import rows_by_image, rows_by_text
from lxmert.model.attention import stream_mask
from lxmert.model.heads import LxmertForQuestionAnswering

Rest = Callable[[Tensor], Tensor]
"""What a layer computes after its attention."""


@torch.inference_mode()
def value_zeroing(
    model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
) -> Relevance:
    """Return how much `[CLS]` has read of each word and region after all layers.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions.
        answer_ids: `[batch]`; the scores are the same for every answer.

    Returns:
        Scores of at least 0; those of words and regions can be compared, and sum to at most 1.

    Raises:
        ValueError: if model, inputs or answers cannot be explained.
    """
    check_answers(model, inputs, answer_ids)
    encoder = model.lxmert.encoder
    rows = rows_by_image(model, inputs)
    text = model.lxmert.embeddings(rows["input_ids"], rows.get("token_type_ids"))
    image = encoder.visn_fc(rows["visual_feats"], rows["visual_pos"])
    text_mask = stream_mask(rows.get("attention_mask"), text)
    image_mask = stream_mask(rows.get("visual_attention_mask"), image)
    length = text.shape[1]
    parts = torch.eye(length + image.shape[1], dtype=torch.float64, device=text.device)
    # What each state contains of each input position: `[batch, states, text_len + regions]`.
    words, regions = (part.expand(len(text), -1, -1) for part in (parts[:length], parts[length:]))
    for layer in encoder.layer:
        text, read = _read_self(layer.attention, _after(layer), text, text_mask.within)
        words = _join(words, read, words)
    for layer in encoder.r_layers:
        image, read = _read_self(layer.attention, _after(layer), image, image_mask.within)
        regions = _join(regions, read, regions)
    for layer in encoder.x_layers:
        cross: Any = layer.visual_attention
        # Both directions use the states from before the layer.
        (text, of_regions), (image, of_words) = (
            _read(cross.att, cross.output, _nothing, text, image, image_mask.across),
            _read(cross.att, cross.output, _nothing, image, text, text_mask.across),
        )
        words, regions = _join(words, of_regions, regions), _join(regions, of_words, words)
        text, read = _read_self(layer.lang_self_att, _after(layer, "lang_"), text, text_mask.within)
        words = _join(words, read, words)
        image, read = _read_self(
            layer.visn_self_att, _after(layer, "visn_"), image, image_mask.within
        )
        regions = _join(regions, read, regions)
    first = words[:, 0].float()
    first[:, 0] = 0
    found = rows_by_text(model, Relevance(first[:, :length], first[:, length:]))
    return zero_padding(inputs, found)


def zero_values(
    attention: Any, output: Any, rest: Rest, states: Tensor, context: Tensor, mask: Any
) -> tuple[Tensor, Tensor]:
    """Compute a layer as it is, and without reading each position of its context.

    Args:
        attention: an `LxmertAttention`.
        output: the projection after it, an `LxmertAttentionOutput`.
        rest: what the layer computes after that.
        states: `[batch, queries, hidden]`.
        context: `[batch, keys, hidden]`.
        mask: which keys are visible.

    Returns:
        The new states `[batch, queries, hidden]`; and the cosine distance of each state to that
        without a key, `[batch, queries, keys]` in float64.
    """
    read, attention_map = attention(states, context, mask, True)
    result = rest(output(read, states))
    # [batch, keys, hidden] -> [batch, heads, keys, head_dim]
    value = attention.value(context).unflatten(-1, (attention_map.shape[1], -1)).transpose(1, 2)
    # What each key contributes, which is missing if its value is zero.
    given = torch.einsum("bhqk,bhkd->bkqhd", attention_map, value).flatten(3)
    without = rest(output(read[:, None] - given, states[:, None]))
    similar = torch.cosine_similarity(without.double(), result[:, None].double(), dim=-1)
    distance = (1 - similar).clamp(min=0).transpose(1, 2)
    visible = (attention_map > 0).any(dim=1)
    return result, distance * visible


def _read(
    attention: Any, output: Any, rest: Rest, states: Tensor, context: Tensor, mask: Any
) -> tuple[Tensor, Tensor]:
    """Return the new states and the distances with rows that sum to 1, or to 0."""
    result, distance = zero_values(attention, output, rest, states, context, mask)
    total = distance.sum(dim=-1, keepdim=True)
    return result, distance / torch.where(total > 0, total, 1)


def _read_self(layer: Any, rest: Rest, states: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    """Like `_read`, of a self-attention layer."""
    return _read(layer.self, layer.output, rest, states, states, mask)


def _join(own: Tensor, read: Tensor, other: Tensor) -> Tensor:
    """Return what states contain after they have read others, of their own or the other stream."""
    return (own + read @ other) / (1 + read.sum(dim=-1, keepdim=True))


def _after(layer: Any, stream: str = "") -> Rest:
    """Return the feed-forward block of a layer, or of one stream of a cross layer."""
    inner = getattr(layer, f"{stream}inter" if stream else "intermediate")
    output = getattr(layer, f"{stream}output")
    return lambda states: output(inner(states), states)


def _nothing(states: Tensor) -> Tensor:
    return states
