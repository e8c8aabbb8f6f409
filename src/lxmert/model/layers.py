"""The layers of LXMERT: embeddings of both streams, encoder layers, cross layers, the pooler.

Shapes: batch B, text length T, regions R, hidden width. Attribute names are those of the published
weights: `visn` is vision, `lang` language, `layer` the text encoder's.
"""

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from lxmert.model.attention import (
    AttentionMask,
    LxmertCrossAttentionLayer,
    LxmertSelfAttentionLayer,
    ResidualOutput,
    StreamMask,
    as_stream_mask,
    rows_of_first_query,
)
from lxmert.model.configuration import LxmertConfig


class LxmertEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalized."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        padding = 0 if config.pad_token_id is None else config.pad_token_id
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=padding
        )
        # No padding row: position 0 is [CLS] and segment 0 is the text; both are trained.
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
            input_ids: `[batch, text_len]` word pieces; ignored if `inputs_embeds` is given.
            token_type_ids: `[batch, text_len]` segments; None means segment 0.
            inputs_embeds: `[batch, text_len, hidden]`, used instead of word embeddings.

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
    """Projection of features; a separate class so that `_init_weights` can set its bias."""


class LxmertBoxProjection(nn.Linear):
    """Projection of boxes; a separate class so that `_init_weights` can set its bias."""


class LxmertVisualFeatureEncoder(nn.Module):
    """Mean of the normalized feature and position embeddings of a region (section 2.1)."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        hidden_size, eps = config.hidden_size, config.layer_norm_eps
        self.visn_fc = LxmertFeatureProjection(config.visual_feat_dim, hidden_size)
        self.visn_layer_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.box_fc = LxmertBoxProjection(config.visual_pos_dim, hidden_size)
        self.box_layer_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, visual_feats: Tensor, visual_pos: Tensor) -> Tensor:
        """Embed regions.

        Args:
            visual_feats: `[batch, regions, visual_feat_dim]`, of any floating dtype.
            visual_pos: `[batch, regions, visual_pos_dim]`, normalized boxes, of any floating dtype.

        Returns:
            `[batch, regions, hidden]`.
        """
        # Stored features are float16 or float32, independent of the model's dtype. The layer norm
        # has the model's dtype even if the linear weights are quantized.
        dtype = self.visn_layer_norm.weight.dtype
        features = self.visn_layer_norm(self.visn_fc(visual_feats.to(dtype)))
        boxes = self.box_layer_norm(self.box_fc(visual_pos.to(dtype)))
        dropped: Tensor = self.dropout((features + boxes) / 2)
        return dropped


class LxmertIntermediate(nn.Module):
    """The first half of a feed-forward block."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `[batch, length, hidden]` to `[batch, length, intermediate]`."""
        activated: Tensor = self.intermediate_act_fn(self.dense(hidden_states))
        return activated


class LxmertOutput(ResidualOutput):
    """The second half of a feed-forward block."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config.intermediate_size, config)


class LxmertLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """One layer of the language or of the object-relationship encoder."""

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
        """Return `[batch, length, hidden]`, and the attention map if requested."""
        attended, attention_map = self.attention(hidden_states, attention_mask, output_attentions)
        hidden_states = self.output(self.intermediate(attended), attended)
        return (hidden_states, attention_map) if output_attentions else (hidden_states,)


class LxmertXLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """One cross-modality layer: cross-attention, self-attention, feed-forward (section 2.2)."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        # Both directions share the weights of cross-attention, as published.
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
        only_first_word: bool = False,
        all_maps: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Run cross-attention in both directions, then self-attention and feed-forward blocks.

        Args:
            lang_feats: `[batch, text_len, hidden]`.
            lang_attention_mask: which words are visible; None means all.
            visual_feats: `[batch, regions, hidden]`.
            visual_attention_mask: which regions are visible; None means all.
            output_attentions: whether to return the map of text over regions.
            only_first_word: whether to compute only the state of the first word, the input of the
                pooler, without maps.
            all_maps: whether to return the other maps after it: regions over text, text over text,
                regions over regions.

        Returns:
            Both streams and the requested maps. With `only_first_word`: the state
            `[batch, 1, hidden]` of the first word, and None.
        """
        lang_mask = as_stream_mask(lang_attention_mask)
        visual_mask = as_stream_mask(visual_attention_mask)
        if only_first_word:
            return self._first_word(lang_feats, lang_mask, visual_feats, visual_mask), None
        # Both directions use the inputs of the layer, not the output of the other direction.
        lang, lang_cross = self.visual_attention(
            lang_feats, visual_feats, visual_mask.for_queries_of(lang_mask), output_attentions
        )
        visual, visual_cross = self.visual_attention(
            visual_feats, lang_feats, lang_mask.for_queries_of(visual_mask), output_attentions
        )
        lang, lang_self = self.lang_self_att(lang, lang_mask.within, output_attentions)
        visual, visual_self = self.visn_self_att(visual, visual_mask.within, output_attentions)
        lang = self.lang_output(self.lang_inter(lang), lang)
        visual = self.visn_output(self.visn_inter(visual), visual)
        if not output_attentions:
            return lang, visual
        maps = (lang_cross, visual_cross, lang_self, visual_self)
        return (lang, visual, *(maps if all_maps else maps[:1]))

    def _first_word(
        self,
        lang_feats: Tensor,
        lang_mask: StreamMask,
        visual_feats: Tensor,
        visual_mask: StreamMask,
    ) -> Tensor:
        """Compute the state of the first word, without the last states of words and regions."""
        across = visual_mask.for_queries_of(lang_mask)
        lang, _ = self.visual_attention(lang_feats, visual_feats, across)
        packing = lang_mask.packing
        first = lang[:, :1] if packing is None else lang[packing.firsts][:, None]
        attended, _ = self.lang_self_att.self(first, lang, rows_of_first_query(lang_mask.within))
        first = self.lang_self_att.output(attended, first)
        state: Tensor = self.lang_output(self.lang_inter(first), first)
        return state


class LxmertPooler(nn.Module):
    """Pooled output of the pair: the state of `[CLS]` through a dense layer and tanh."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `[batch, text_len, hidden]` to `[batch, hidden]`."""
        pooled: Tensor = self.activation(self.dense(hidden_states[:, 0]))
        return pooled
