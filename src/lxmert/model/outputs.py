"""Model outputs: the documented fields, and further fields that are accessible by name only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

States = tuple[Tensor, ...] | None
"""One tensor for each layer; None if not requested."""


class NamedOutput(ModelOutput):
    """Output with additional fields that are not part of its tuple.

    Programs rely on the documented order, such as the three kinds of attention maps at the end, so
    additional fields must not change the tuple.
    """

    name_only: ClassVar[frozenset[str]] = frozenset()

    def to_tuple(self) -> tuple[object, ...]:
        """Return the documented fields that are not None, in order."""
        return tuple(value for name, value in self.items() if name not in self.name_only)


_NAME_ONLY = frozenset(
    {
        "vision_cross_attentions",
        "cross_language_attentions",
        "cross_vision_attentions",
        "language_encoder_state",
        "vision_encoder_state",
    }
)


@dataclass
class LxmertEncodedStream(ModelOutput):
    """Encoded text or image, which can be passed to any model instead of its inputs.

    Attributes:
        last_hidden_state: `[batch, length, hidden]`, after the layers of this side.
        attention_mask: the mask used in encoding; None if all positions are visible.
        hidden_states: state after each layer, if requested.
        attentions: map of each layer, `[batch, heads, length, length]`, if requested.
    """

    last_hidden_state: Tensor
    attention_mask: Tensor | None = None
    hidden_states: States = None
    attentions: States = None

    def take(self, rows: Tensor | Sequence[int]) -> "LxmertEncodedStream":
        """Select rows, e.g. to repeat an image for each of its questions.

        Args:
            rows: `[new batch]` integers, indices into this batch.
        """
        rows = torch.as_tensor(rows).reshape(-1)

        def pick(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        def pick_all(kept: States) -> States:
            return None if kept is None else tuple(pick(tensor) for tensor in kept)

        return LxmertEncodedStream(
            last_hidden_state=pick(self.last_hidden_state),
            attention_mask=None if self.attention_mask is None else pick(self.attention_mask),
            hidden_states=pick_all(self.hidden_states),
            attentions=pick_all(self.attentions),
        )


@dataclass
class LxmertModelOutput(NamedOutput):
    """States of both streams. Attention maps are those before dropout.

    Attributes:
        language_output: `[batch, text_len, hidden]`, the text after the last cross layer.
        vision_output: `[batch, regions, hidden]`, the regions after the last cross layer.
        pooled_output: `[batch, hidden]`, pooled output of the pair, in `(-1, 1)`.
        language_hidden_states: text after each language and each cross layer.
        vision_hidden_states: regions after each relationship and each cross layer.
        language_attentions: of each language layer, `[batch, heads, text_len, text_len]`.
        vision_attentions: of each relationship layer, `[batch, heads, regions, regions]`.
        cross_encoder_attentions: of each cross layer, text over regions,
            `[batch, heads, text_len, regions]`.
        vision_cross_attentions: of each cross layer, regions over text,
            `[batch, heads, regions, text_len]`. By name only, like the following
            fields.
        cross_language_attentions: of each cross layer, text over itself.
        cross_vision_attentions: of each cross layer, regions over themselves.
        language_encoder_state: `[batch, text_len, hidden]`, the text before the cross layers,
            independent of the image; returned with the states of all layers.
        vision_encoder_state: `[batch, regions, hidden]`, the regions before the cross layers.
    """

    name_only: ClassVar[frozenset[str]] = _NAME_ONLY

    language_output: Tensor | None = None
    vision_output: Tensor | None = None
    pooled_output: Tensor | None = None
    language_hidden_states: States = None
    vision_hidden_states: States = None
    language_attentions: States = None
    vision_attentions: States = None
    cross_encoder_attentions: States = None
    vision_cross_attentions: States = None
    cross_language_attentions: States = None
    cross_vision_attentions: States = None
    language_encoder_state: Tensor | None = None
    vision_encoder_state: Tensor | None = None


@dataclass
class LxmertForPreTrainingOutput(NamedOutput):
    """Predictions of the pretraining objectives, and their losses.

    States and maps are those of `LxmertModelOutput`.

    Attributes:
        loss: sum of `losses`; None without labels.
        prediction_logits: `[batch, text_len, vocab_size]`.
        cross_relationship_score: `[batch, 2]`; index 1 means that text and image match.
        question_answering_score: `[batch, num_qa_labels]`; without an answer head, None.
        object_logits: `[batch, regions, num_object_labels]`. By name only, like the following
            fields.
        attribute_logits: `[batch, regions, num_attr_labels]`.
        feature_predictions: `[batch, regions, visual_feat_dim]`.
        losses: weighted loss by objective: mask_lm, matched, obj, attr, feat, qa.
        loss_terms: sum and count by objective, before division and weighting, to be added up over
            micro-batches and devices.
    """

    name_only: ClassVar[frozenset[str]] = _NAME_ONLY | {
        "object_logits",
        "attribute_logits",
        "feature_predictions",
        "losses",
        "loss_terms",
    }

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    cross_relationship_score: Tensor | None = None
    question_answering_score: Tensor | None = None
    language_hidden_states: States = None
    vision_hidden_states: States = None
    language_attentions: States = None
    vision_attentions: States = None
    cross_encoder_attentions: States = None
    vision_cross_attentions: States = None
    cross_language_attentions: States = None
    cross_vision_attentions: States = None
    language_encoder_state: Tensor | None = None
    vision_encoder_state: Tensor | None = None
    object_logits: Tensor | None = None
    attribute_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    loss_terms: dict[str, tuple[Tensor, Tensor]] | None = None


@dataclass
class LxmertForQuestionAnsweringOutput(NamedOutput):
    """Scores of the answers, and their loss.

    States and maps are those of `LxmertModelOutput`.

    Attributes:
        loss: loss of the answers; None without labels.
        question_answering_score: `[batch, num_qa_labels]`, before softmax or sigmoid.
    """

    name_only: ClassVar[frozenset[str]] = _NAME_ONLY

    loss: Tensor | None = None
    question_answering_score: Tensor | None = None
    language_hidden_states: States = None
    vision_hidden_states: States = None
    language_attentions: States = None
    vision_attentions: States = None
    cross_encoder_attentions: States = None
    vision_cross_attentions: States = None
    cross_language_attentions: States = None
    cross_vision_attentions: States = None
    language_encoder_state: Tensor | None = None
    vision_encoder_state: Tensor | None = None


@dataclass
class LxmertClassificationOutput(NamedOutput):
    """Scores of classes other than answers: match or no match, true or false.

    States and maps are those of `LxmertModelOutput`.

    Attributes:
        loss: cross-entropy; None without labels.
        logits: `[batch, classes]`, before softmax.
    """

    name_only: ClassVar[frozenset[str]] = _NAME_ONLY

    loss: Tensor | None = None
    logits: Tensor | None = None
    language_hidden_states: States = None
    vision_hidden_states: States = None
    language_attentions: States = None
    vision_attentions: States = None
    cross_encoder_attentions: States = None
    vision_cross_attentions: States = None
    cross_language_attentions: States = None
    cross_vision_attentions: States = None
    language_encoder_state: Tensor | None = None
    vision_encoder_state: Tensor | None = None


def states_and_maps(encoded: LxmertModelOutput) -> dict[str, Any]:
    """Return the fields that every head copies from the output of its encoder."""
    names = (
        "language_hidden_states",
        "vision_hidden_states",
        "language_attentions",
        "vision_attentions",
        "cross_encoder_attentions",
        *_NAME_ONLY,
    )
    return {name: getattr(encoded, name) for name in names}
