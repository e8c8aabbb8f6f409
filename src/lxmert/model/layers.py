"""The layers of LXMERT: embeddings of both streams, the three encoders, the pooler.

Shapes: batch B, text length T, regions R, hidden width. Attribute names are those of the published
weights and therefore of the files; `visn` is vision, `lang` language, `layer` the text encoder's.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from lxmert.model.attention import (
    AttentionMask,
    LxmertCrossAttentionLayer,
    LxmertSelfAttentionLayer,
    StreamMask,
)
from lxmert.model.configuration import LxmertConfig

Maps = tuple[Tensor, ...] | None
"""Attention maps of consecutive layers, each `[batch, heads, queries, keys]`; None if not asked."""


class LxmertEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        padding = 0 if config.pad_token_id is None else config.pad_token_id
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=padding
        )
        # No padding row here: position 0 is [CLS] and segment 0 the whole text, to be trained.
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Embed a text.

        Args:
            input_ids: `[batch, text_len]` word pieces; unread if `inputs_embeds` is given.
            token_type_ids: `[batch, text_len]` segments; None means segment 0 throughout.
            inputs_embeds: `[batch, text_len, hidden]`, to be used instead of word embeddings.

        Returns:
            `[batch, text_len, hidden]`.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        positions = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(positions)
        words = inputs_embeds.to(self.LayerNorm.weight.dtype)
        # [text_len, hidden] broadcasts over the batch.
        embedded = words + self.position_embeddings(positions)
        embedded = embedded + self.token_type_embeddings(token_type_ids)
        dropped: Tensor = self.dropout(self.LayerNorm(embedded))
        return dropped


class LxmertFeatureProjection(nn.Linear):
    """The projection of region features; a class of its own because it starts with a bias."""


class LxmertVisualFeatureEncoder(nn.Module):
    """Mean of what a region looks like and where it is, each normalised by itself (section 2.1)."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        hidden_size, eps = config.hidden_size, config.layer_norm_eps
        self.visn_fc = LxmertFeatureProjection(config.visual_feat_dim, hidden_size)
        self.visn_layer_norm = nn.LayerNorm(hidden_size, eps=eps)
        # Boxes are small numbers times small weights: any bias of the usual random size would
        # drown them once the layer norm has scaled the sum. `post_init` starts it at zero.
        self.box_fc = nn.Linear(config.visual_pos_dim, hidden_size)
        self.box_layer_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, visual_feats: Tensor, visual_pos: Tensor) -> Tensor:
        """Embed regions.

        Args:
            visual_feats: `[batch, regions, visual_feat_dim]`, of any floating type.
            visual_pos: `[batch, regions, visual_pos_dim]`, normalised boxes, of any floating type.

        Returns:
            `[batch, regions, hidden]`.
        """
        # Stored features are float16 or float32, whatever the model computes in. The layer norm
        # knows the model's type even where the linear weights are quantised.
        dtype = self.visn_layer_norm.weight.dtype
        features = self.visn_layer_norm(self.visn_fc(visual_feats.to(dtype)))
        places = self.box_layer_norm(self.box_fc(visual_pos.to(dtype)))
        dropped: Tensor = self.dropout((features + places) / 2)
        return dropped


class LxmertIntermediate(nn.Module):
    """The widening half of a feed-forward layer."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Turn `[batch, length, hidden]` into `[batch, length, intermediate]`."""
        activated: Tensor = self.intermediate_act_fn(self.dense(hidden_states))
        return activated


class LxmertOutput(nn.Module):
    """The narrowing half of a feed-forward layer, with residual and layer norm."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Join `[batch, length, intermediate]` to the input `[batch, length, hidden]`."""
        hidden_states = self.dropout(self.dense(hidden_states))
        joined: Tensor = self.LayerNorm(hidden_states + input_tensor)
        return joined


class LxmertLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """One layer of the language or of the relationship encoder."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.attention = LxmertSelfAttentionLayer(config)
        self.intermediate = LxmertIntermediate(config)
        self.output = LxmertOutput(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: AttentionMask | Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return `[batch, length, hidden]`, and the attention map if asked for."""
        attended, attention_map = self.attention(hidden_states, attention_mask, output_attentions)
        hidden_states = self.output(self.intermediate(attended), attended)
        return (hidden_states, attention_map) if output_attentions else (hidden_states,)


class LxmertXLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """One cross-modality layer: both streams read each other, then themselves (section 2.2)."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        # One set of weights for both directions, as published.
        self.visual_attention = LxmertCrossAttentionLayer(config)
        self.lang_self_att = LxmertSelfAttentionLayer(config)
        self.visn_self_att = LxmertSelfAttentionLayer(config)
        self.lang_inter = LxmertIntermediate(config)
        self.lang_output = LxmertOutput(config)
        self.visn_inter = LxmertIntermediate(config)
        self.visn_output = LxmertOutput(config)

    def forward(
        self,
        lang_feats: Tensor,
        lang_attention_mask: StreamMask | Tensor | None,
        visual_feats: Tensor,
        visual_attention_mask: StreamMask | Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, ...]:
        """Exchange what text and regions know.

        Args:
            lang_feats: `[batch, text_len, hidden]`.
            lang_attention_mask: which words may be read; None means all.
            visual_feats: `[batch, regions, hidden]`.
            visual_attention_mask: which regions may be read; None means all.
            output_attentions: whether the maps are returned.

        Returns:
            Both streams, and if asked for the maps text over regions, regions over text,
            text over text, regions over regions.
        """
        lang_mask = _as_stream_mask(lang_attention_mask)
        visual_mask = _as_stream_mask(visual_attention_mask)
        # Both directions read the streams as they came in: neither sees what the other read.
        lang, lang_cross = self.visual_attention(
            lang_feats, visual_feats, visual_mask.across, output_attentions
        )
        visual, visual_cross = self.visual_attention(
            visual_feats, lang_feats, lang_mask.across, output_attentions
        )
        lang, lang_self = self.lang_self_att(lang, lang_mask.within, output_attentions)
        visual, visual_self = self.visn_self_att(visual, visual_mask.within, output_attentions)
        lang = self.lang_output(self.lang_inter(lang), lang)
        visual = self.visn_output(self.visn_inter(visual), visual)
        if not output_attentions:
            return lang, visual
        return lang, visual, lang_cross, visual_cross, lang_self, visual_self


class EncoderOutput(NamedTuple):
    """What the three encoders return; the first three items have the published order.

    Attributes:
        vision: states and attention maps of the region stream; the states are those after each
            layer if they were asked for, else only the last one.
        language: states and attention maps of the text stream, in the same way.
        cross_encoder_attentions: of each cross layer, text over regions.
        vision_cross_attentions: of each cross layer, regions over text.
        cross_language_attentions: of each cross layer, text over text.
        cross_vision_attentions: of each cross layer, regions over regions.
        language_output: `[batch, text_len, hidden]`, the last state.
        vision_output: `[batch, regions, hidden]`, the last state.
    """

    vision: tuple[tuple[Tensor, ...], Maps]
    language: tuple[tuple[Tensor, ...], Maps]
    cross_encoder_attentions: Maps
    vision_cross_attentions: Maps
    cross_language_attentions: Maps
    cross_vision_attentions: Maps
    language_output: Tensor
    vision_output: Tensor


class LxmertEncoder(nn.Module):
    """The region embedding and the language, relationship and cross-modality encoders."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.config = config
        self.visn_fc = LxmertVisualFeatureEncoder(config)
        self.layer = nn.ModuleList([LxmertLayer(config) for _ in range(config.l_layers)])
        self.x_layers = nn.ModuleList([LxmertXLayer(config) for _ in range(config.x_layers)])
        self.r_layers = nn.ModuleList([LxmertLayer(config) for _ in range(config.r_layers)])

    def forward(
        self,
        lang_feats: Tensor,
        lang_attention_mask: StreamMask | Tensor | None,
        visual_feats: Tensor,
        visual_pos: Tensor,
        visual_attention_mask: StreamMask | Tensor | None = None,
        output_attentions: bool | None = None,
        *,
        output_hidden_states: bool = True,
    ) -> EncoderOutput:
        """Run both streams through their own layers, then through the cross layers.

        Args:
            lang_feats: `[batch, text_len, hidden]`, the embedded text.
            lang_attention_mask: which words may be read; None means all.
            visual_feats: `[batch, regions, visual_feat_dim]`.
            visual_pos: `[batch, regions, visual_pos_dim]`.
            visual_attention_mask: which regions may be read; None means all.
            output_attentions: whether maps are returned; None means as configured.
            output_hidden_states: whether the state after each layer is kept, or only the last.
        """
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        lang_mask = _as_stream_mask(lang_attention_mask)
        visual_mask = _as_stream_mask(visual_attention_mask)
        lang, visual = lang_feats, self.visn_fc(visual_feats, visual_pos)

        # Tensors that nobody asked for are dropped as soon as the next layer has read them.
        lang_states, lang_maps = [], []
        for layer in self.layer:
            lang, *maps = layer(lang, lang_mask.within, output_attentions)
            lang_maps += maps
            lang_states += [lang] if output_hidden_states else []
        visual_states, visual_maps = [], []
        for layer in self.r_layers:
            visual, *maps = layer(visual, visual_mask.within, output_attentions)
            visual_maps += maps
            visual_states += [visual] if output_hidden_states else []
        cross_maps = []
        for layer in self.x_layers:
            lang, visual, *maps = layer(lang, lang_mask, visual, visual_mask, output_attentions)
            cross_maps.append(maps)
            lang_states += [lang] if output_hidden_states else []
            visual_states += [visual] if output_hidden_states else []

        by_kind: list[Maps] = [None] * 4
        if output_attentions:
            by_kind = [tuple(maps[kind] for maps in cross_maps) for kind in range(4)]
        return EncoderOutput(
            vision=(
                tuple(visual_states) if output_hidden_states else (visual,),
                tuple(visual_maps) if output_attentions else None,
            ),
            language=(
                tuple(lang_states) if output_hidden_states else (lang,),
                tuple(lang_maps) if output_attentions else None,
            ),
            cross_encoder_attentions=by_kind[0],
            vision_cross_attentions=by_kind[1],
            cross_language_attentions=by_kind[2],
            cross_vision_attentions=by_kind[3],
            language_output=lang,
            vision_output=visual,
        )


class LxmertPooler(nn.Module):
    """Summary of the text and what it read: the state of `[CLS]` through a dense layer."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Turn `[batch, text_len, hidden]` into `[batch, hidden]`."""
        pooled: Tensor = self.activation(self.dense(hidden_states[:, 0]))
        return pooled


def _as_stream_mask(mask: StreamMask | Tensor | None) -> StreamMask:
    """Use a mask that is not prepared by stream for both kinds of readers."""
    return mask if isinstance(mask, StreamMask) else StreamMask(mask, mask)
