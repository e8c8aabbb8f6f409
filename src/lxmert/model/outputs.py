"""What the models return: the documented fields, and further ones that only have a name."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers.utils.generic import ModelOutput

States = tuple[Tensor, ...] | None
"""One tensor for each layer; None if they were not asked for."""


class NamedOutput(ModelOutput):
    """Output whose further fields are found by name, but have no place in its tuple.

    Programs count on the documented order, such as the three kinds of attention maps at the end:
    what is added to it must neither move an index nor lengthen the tuple.
    """

    name_only: ClassVar[frozenset[str]] = frozenset()

    def to_tuple(self) -> tuple[object, ...]:
        """Return the documented fields that are not None, in order."""
        return tuple(value for name, value in self.items() if name not in self.name_only)


_CROSS_LAYER_MAPS = frozenset(
    {"vision_cross_attentions", "cross_language_attentions", "cross_vision_attentions"}
)


@dataclass
class LxmertModelOutput(NamedOutput):
    """States of both streams. All maps are those before dropout.

    Attributes:
        language_output: `[batch, text_len, hidden]`, the text after the last cross layer.
        vision_output: `[batch, regions, hidden]`, the regions after the last cross layer.
        pooled_output: `[batch, hidden]`, summary of the pair, in `(-1, 1)`.
        language_hidden_states: text after each language and each cross layer.
        vision_hidden_states: regions after each relationship and each cross layer.
        language_attentions: of each language layer, `[batch, heads, text_len, text_len]`.
        vision_attentions: of each relationship layer, `[batch, heads, regions, regions]`.
        cross_encoder_attentions: of each cross layer, text over regions,
            `[batch, heads, text_len, regions]`.
        vision_cross_attentions: of each cross layer, regions over text,
            `[batch, heads, regions, text_len]`. By name only, as what follows.
        cross_language_attentions: of each cross layer, text over itself.
        cross_vision_attentions: of each cross layer, regions over themselves.
    """

    name_only: ClassVar[frozenset[str]] = _CROSS_LAYER_MAPS

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


@dataclass
class LxmertForPreTrainingOutput(NamedOutput):
    """Predictions of the pretraining objectives, and their losses.

    States and maps are those of `LxmertModelOutput`.

    Attributes:
        loss: sum of `losses`; None without labels.
        prediction_logits: `[batch, text_len, vocab_size]`.
        cross_relationship_score: `[batch, 2]`; index 1 means that text and image match.
        question_answering_score: `[batch, num_qa_labels]`; without an answer head a number that
            only holds the place in the tuple.
        object_logits: `[batch, regions, num_object_labels]`. By name only, as what follows.
        attribute_logits: `[batch, regions, num_attr_labels]`.
        feature_predictions: `[batch, regions, visual_feat_dim]`.
        losses: weighted loss by objective: mask_lm, matched, obj, attr, feat, qa.
    """

    name_only: ClassVar[frozenset[str]] = _CROSS_LAYER_MAPS | {
        "object_logits",
        "attribute_logits",
        "feature_predictions",
        "losses",
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
    object_logits: Tensor | None = None
    attribute_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    losses: dict[str, Tensor] | None = None


@dataclass
class LxmertForQuestionAnsweringOutput(NamedOutput):
    """Scores of the answers, and their loss.

    States and maps are those of `LxmertModelOutput`.

    Attributes:
        loss: loss of the answers; None without labels.
        question_answering_score: `[batch, num_qa_labels]`, before softmax or sigmoid.
    """

    name_only: ClassVar[frozenset[str]] = _CROSS_LAYER_MAPS

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


def states_and_maps(encoded: LxmertModelOutput) -> dict[str, States]:
    """Return what every head hands on of the model below it, by field."""
    names = (
        "language_hidden_states",
        "vision_hidden_states",
        "language_attentions",
        "vision_attentions",
        "cross_encoder_attentions",
        *_CROSS_LAYER_MAPS,
    )
    return {name: getattr(encoded, name) for name in names}
