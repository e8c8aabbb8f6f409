"""The LXMERT encoder as a model of transformers: loading, initialising and running it."""

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_utils import PreTrainedModel

from lxmert.model.attention import stream_mask
from lxmert.model.configuration import LxmertConfig
from lxmert.model.inputs import Inputs, check_inputs, check_keywords
from lxmert.model.layers import (
    LxmertEmbeddings,
    LxmertEncoder,
    LxmertFeatureProjection,
    LxmertPooler,
)
from lxmert.model.outputs import LxmertModelOutput
from lxmert.model.predictions import LxmertLMPredictionHead

# No `from __future__ import annotations` here: transformers reads the class of the configuration
# from the annotation of `config`.


_MASKED_REGION_SCALE = 5.0
"""First size of a masked region before its layer norm, in units of the weights' first size."""


class LxmertPreTrainedModel(PreTrainedModel):
    """What all LXMERT models share: how they are configured, initialised, split and saved."""

    config: LxmertConfig
    base_model_prefix = "lxmert"
    main_input_name = "input_ids"
    # A tuple, as users of the documented class compare it.
    input_modalities = ("image", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    # Flash attention is missing on purpose: transformers unpads queries by the mask of the keys,
    # which is wrong where text reads regions.
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _input_embed_layer = "word_embeddings"
    _no_split_modules = [  # noqa: RUF012 - declared by the base class, which forbids ClassVar
        "LxmertEmbeddings",
        "LxmertVisualFeatureEncoder",
        "LxmertLayer",
        "LxmertXLayer",
        "LxmertLMPredictionHead",
        "LxmertVisualObjHead",
        "LxmertVisualAnswerHead",
    ]
    # Losses are means over their own targets: a trainer has to average them over micro-batches.
    accepts_loss_kwargs = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module: normal weights, zero biases; loaded tensors are left alone.

        One bias is not zero. A masked region has only zeros as its feature, so that its embedding
        is the layer norm of this bias, and the layer norm of a zero vector has a gradient of
        `1 / sqrt(eps)`: a million, which the clipping of gradients then takes from all the others.
        """
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, LxmertLMPredictionHead):
            initialization.zeros_(module.bias)
        if isinstance(module, LxmertFeatureProjection):
            std = _MASKED_REGION_SCALE * self.config.initializer_range
            initialization.normal_(module.bias, mean=0.0, std=std)


class LxmertModel(LxmertPreTrainedModel):
    """The two streams and the cross-modality encoder, without a head."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.embeddings = LxmertEmbeddings(config)
        self.encoder = LxmertEncoder(config)
        self.pooler = LxmertPooler(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        visual_feats: Tensor | None = None,
        visual_pos: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: object,
    ) -> LxmertModelOutput | tuple[object, ...]:
        """Encode texts together with the regions of their images.

        Args:
            input_ids: `[batch, text_len]` word pieces.
            visual_feats: `[batch, regions, visual_feat_dim]` region features.
            visual_pos: `[batch, regions, visual_pos_dim]`; for published weights boxes
                `(x1, y1, x2, y2)` divided by the image's width and height, in `[0, 1]`.
            attention_mask: `[batch, text_len]`, `[batch, text_len, text_len]` or
                `[batch, heads, text_len, text_len]`, 1 for a word that may be read, 0 for padding;
                None means that all may.
            visual_attention_mask: the same for regions.
            token_type_ids: `[batch, text_len]` segments; None means segment 0.
            inputs_embeds: `[batch, text_len, hidden]` instead of `input_ids`.
            output_attentions: whether to return attention maps; None means as configured.
            output_hidden_states: whether to return the states of all layers; None: as configured.
            return_dict: whether to return named fields, not a tuple; None means as configured.
            **kwargs: only those that libraries add to every call.

        Raises:
            ValueError: if an input is missing or has the wrong shape.
            TypeError: if a keyword is unknown.
        """
        check_keywords(kwargs, type(self).forward)
        inputs = Inputs(
            input_ids,
            visual_feats,
            visual_pos,
            attention_mask,
            visual_attention_mask,
            token_type_ids,
            inputs_embeds,
        )
        visual_feats, visual_pos = check_inputs(inputs, self.config)
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        if input_ids is not None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)  # type: ignore[no-untyped-call]

        embedded = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        encoded = self.encoder(
            embedded,
            stream_mask(attention_mask, embedded),
            visual_feats,
            visual_pos,
            stream_mask(visual_attention_mask, embedded),
            output_attentions,
            output_hidden_states=output_hidden_states,
        )
        output = LxmertModelOutput(
            language_output=encoded.language_output,
            vision_output=encoded.vision_output,
            pooled_output=self.pooler(encoded.language_output),
            language_hidden_states=encoded.language[0] if output_hidden_states else None,
            vision_hidden_states=encoded.vision[0] if output_hidden_states else None,
            language_attentions=encoded.language[1],
            vision_attentions=encoded.vision[1],
            cross_encoder_attentions=encoded.cross_encoder_attentions,
            vision_cross_attentions=encoded.vision_cross_attentions,
            cross_language_attentions=encoded.cross_language_attentions,
            cross_vision_attentions=encoded.cross_vision_attentions,
        )
        wants_fields = self.config.return_dict if return_dict is None else return_dict
        return output if wants_fields else output.to_tuple()
