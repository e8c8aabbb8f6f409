"""The configuration of an LXMERT model, as stored in `config.json`."""

import math
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

from lxmert.files import shorten
from lxmert.model.objectives import DISTANCES

# No `from __future__ import annotations` here: `strict` does not check string annotations.

_POSITIVE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_qa_labels",
    "num_images",
    "num_classes",
    "num_object_labels",
    "num_attr_labels",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "visual_feat_dim",
    "visual_pos_dim",
    "layer_norm_eps",
)
_MOST = {"l_layers": 1000, "x_layers": 1000, "r_layers": 1000, "num_images": 1000}
_MOST_OF_OTHERS = 10_000_000
"""Upper limits: a file with larger numbers is damaged."""

_FINITE_FIELDS = ("layer_norm_eps", "initializer_range", "visual_loss_normalizer")
_LAYER_FIELDS = ("l_layers", "x_layers", "r_layers")
_DROPOUT_FIELDS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@strict
class LxmertConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of an LXMERT model; the defaults are those of the published base model.

    Unknown keys, such as those of older versions, are kept and saved again. `id2label` is the
    answer list if it has `num_qa_labels` entries.

    Attributes:
        vocab_size: number of word pieces.
        hidden_size: width of every hidden state; a multiple of `num_attention_heads`.
        num_attention_heads: heads of each attention layer.
        num_qa_labels: number of answers to choose from.
        num_images: images per text in models for several images.
        num_classes: classes of such models; 2 for true and false.
        num_object_labels: number of object classes that the pretraining head predicts.
        num_attr_labels: number of attribute classes that the pretraining head predicts.
        intermediate_size: inner width of the feed-forward layers.
        hidden_act: activation of the feed-forward layers and prediction heads.
        hidden_dropout_prob: dropout after embeddings and sub-layers, in `[0, 1]`.
        attention_probs_dropout_prob: dropout on attention maps, in `[0, 1]`.
        max_position_embeddings: longest text in word pieces.
        type_vocab_size: number of text segments.
        initializer_range: standard deviation of new weights.
        layer_norm_eps: added to the variance in each layer norm.
        l_layers: self-attention layers of the text stream.
        x_layers: cross-modality layers.
        r_layers: self-attention layers of the region stream.
        visual_feat_dim: width of a region's feature.
        visual_pos_dim: width of a region's position; 4 for normalized `(x1, y1, x2, y2)`.
        visual_loss_normalizer: weight of each region loss; 1 / 0.15 in the original.
        visual_loss_masked_only: whether object and attribute losses cover masked regions only, as
            in the paper; in the published code they cover all regions.
        visual_feat_distance: distance of predicted and true features: `smooth_l1` as in the
            published code, or `l2` as in the paper.
        task_matched: whether the matching loss is added.
        task_mask_lm: whether the loss of masked words is added.
        task_obj_predict: whether the model has a region head and adds its losses.
        task_qa: whether the pretraining model has an answer head and adds its loss.
        visual_obj_loss: whether the region head predicts objects.
        visual_attr_loss: whether the region head predicts attributes.
        visual_feat_loss: whether the region head predicts features.
        pad_token_id: word piece with a zero embedding that is not trained; None means 0.
        bos_token_id: unused by the model.
        eos_token_id: unused by the model.
        tie_word_embeddings: whether the word decoder shares the input embedding.
    """

    model_type = "lxmert"
    # A Trainer gathers all other outputs of an evaluation set in memory.
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "losses",
        "loss_terms",
        "object_logits",
        "attribute_logits",
        "feature_predictions",
    ]

    vocab_size: int = 30522
    hidden_size: int = 768
    num_attention_heads: int = 12
    num_qa_labels: int = 9500
    num_images: int = 2
    num_classes: int = 2
    num_object_labels: int = 1600
    num_attr_labels: int = 400
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float | int = 0.02
    layer_norm_eps: float = 1e-12
    l_layers: int = 9
    x_layers: int = 5
    r_layers: int = 5
    visual_feat_dim: int = 2048
    visual_pos_dim: int = 4
    visual_loss_normalizer: float | int = 6.67
    visual_loss_masked_only: bool = False
    visual_feat_distance: str = "smooth_l1"
    task_matched: bool = True
    task_mask_lm: bool = True
    task_obj_predict: bool = True
    task_qa: bool = True
    visual_obj_loss: bool = True
    visual_attr_loss: bool = True
    visual_feat_loss: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: object) -> None:
        # Files contain this derived value; computing it avoids contradictions with the fields.
        kwargs.pop("num_hidden_layers", None)
        _check_labels(self.id2label)
        if isinstance(self.dtype, str) and not isinstance(
            getattr(torch, self.dtype, None), torch.dtype
        ):
            raise ValueError(f"dtype is {self.dtype!r}, expected a torch dtype, such as 'float32'")
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @property
    def num_hidden_layers(self) -> dict[str, int]:
        """Number of layers by encoder, derived from the fields."""
        return {
            "vision": self.r_layers,
            "cross_encoder": self.x_layers,
            "language": self.l_layers,
        }

    @num_hidden_layers.setter
    def num_hidden_layers(self, value: object) -> None:
        """Ignore writes; the value is derived from the layer counts."""

    @property
    def output_attentions(self) -> bool:
        """Whether attention maps are returned by default, with any attention implementation."""
        return bool(self._output_attentions)

    @output_attentions.setter
    def output_attentions(self, value: bool) -> None:
        self._output_attentions = value

    def validate_output_attentions(self) -> None:
        """Allow attention maps with every implementation; the models compute them eagerly."""

    def to_dict(self) -> dict[str, Any]:
        """Return every value by name as in `config.json`, including `num_hidden_layers`."""
        return {**super().to_dict(), "num_hidden_layers": self.num_hidden_layers}

    def validate_architecture(self) -> None:
        """Reject invalid sizes.

        Raises:
            ValueError: if a size is not positive, a number of layers is negative, a dropout is
                not a probability, the width is not a multiple of the heads, or the activation or
                the feature distance is unknown.
        """
        for name in _POSITIVE_FIELDS:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0")
        for name in _LAYER_FIELDS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        for name in (*_POSITIVE_FIELDS, *_LAYER_FIELDS):
            most = _MOST.get(name, _MOST_OF_OTHERS)
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be above {most}")
        for name in _FINITE_FIELDS:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but must be finite and not below 0"
                )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id is {self.pad_token_id}, but must be one of {self.vocab_size} words"
            )
        for name in _DROPOUT_FIELDS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be in [0, 1]")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}: change one of them"
            )
        if self.visual_feat_distance not in DISTANCES:
            raise ValueError(
                f"visual_feat_distance {self.visual_feat_distance!r} is unknown; known are "
                f"{', '.join(DISTANCES)}"
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act {self.hidden_act!r} is unknown; known are {', '.join(sorted(ACT2FN))}"
            )


def _check_labels(names: object) -> None:
    """Reject label names that are not strings by id."""
    if names is not None and not (
        isinstance(names, dict)
        and all(str(index).isdecimal() and isinstance(name, str) for index, name in names.items())
    ):
        raise ValueError(
            f"id2label is {shorten(names)}, expected names by id, such as {{0: 'no', 1: 'yes'}}"
        )
