"""The three encoders of LXMERT: language, object-relationship and cross-modality encoder.

Shapes: batch B, text length T, regions R, hidden width. Attribute names are those of the published
weights: `visn` is vision, `lang` language, `layer` the text encoder's.
"""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from lxmert.model.attention import StreamMask, as_stream_mask
from lxmert.model.configuration import LxmertConfig
from lxmert.model.layers import (
    LxmertLayer,
    LxmertVisualFeatureEncoder,
    LxmertXLayer,
)

Maps = tuple[Tensor, ...] | None
"""Attention maps of consecutive layers, `[batch, heads, queries, keys]` each, or None."""


class Stream(NamedTuple):
    """One stream after its own layers, ready for the cross layers.

    Attributes:
        state: `[batch, length, hidden]`.
        states: state after each layer if requested, else empty.
        maps: attention map of each layer; None if not requested.
    """

    state: Tensor
    states: tuple[Tensor, ...]
    maps: Maps


class EncoderOutput(NamedTuple):
    """The output of the three encoders; the first three items have the published order.

    Attributes:
        vision: states and attention maps of the region stream; the states are those after each
            layer if requested, else only the last one.
        language: states and attention maps of the text stream, likewise.
        cross_encoder_attentions: of each cross layer, text over regions.
        vision_cross_attentions: of each cross layer, regions over text.
        cross_language_attentions: of each cross layer, text over text.
        cross_vision_attentions: of each cross layer, regions over regions.
        language_output: `[batch, text_len, hidden]`, the last state; only that of
            `[CLS]`, `[batch, 1, hidden]`, if nothing else was requested.
        vision_output: `[batch, regions, hidden]`, the last state; None if only `[CLS]` was
            requested.
        language_encoder_state: the text before the cross layers, if states were requested.
        vision_encoder_state: the regions before the cross layers, likewise.
    """

    vision: tuple[tuple[Tensor, ...], Maps]
    language: tuple[tuple[Tensor, ...], Maps]
    cross_encoder_attentions: Maps
    vision_cross_attentions: Maps
    cross_language_attentions: Maps
    cross_vision_attentions: Maps
    language_output: Tensor
    vision_output: Tensor | None
    language_encoder_state: Tensor | None
    vision_encoder_state: Tensor | None


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
        lang_feats: Tensor | Stream,
        lang_attention_mask: StreamMask | Tensor | None,
        visual_feats: Tensor | Stream,
        visual_pos: Tensor | None,
        visual_attention_mask: StreamMask | Tensor | None = None,
        output_attentions: bool | None = None,
        *,
        output_hidden_states: bool = True,
        only_first_word: bool = False,
        everything: bool = False,
    ) -> "EncoderOutput | tuple[object, ...]":
        """Run both streams through their own layers, then through the cross layers.

        Args:
            lang_feats: `[batch, text_len, hidden]`, embedded text; or the result of `encode_text`.
            lang_attention_mask: which words are visible; None means all. Streams with packed
                masks are computed without padding, which requires `only_first_word`.
            visual_feats: `[batch, regions, visual_feat_dim]`; or the result of `encode_image`.
            visual_pos: `[batch, regions, visual_pos_dim]`; ignored if the image is encoded.
            visual_attention_mask: which regions are visible; None means all.
            output_attentions: whether to return attention maps; None means as configured.
            output_hidden_states: whether to return the state after each layer, or only the last.
            only_first_word: whether the last cross layer computes only the state of `[CLS]`.
            everything: whether to return all of `EncoderOutput`, or only its first three items.
        """
        if output_attentions is None:
            output_attentions = bool(self.config.output_attentions)
        wanted = (output_attentions, output_hidden_states)
        lang_mask = as_stream_mask(lang_attention_mask)
        visual_mask = as_stream_mask(visual_attention_mask)
        text, image = lang_feats, visual_feats
        if isinstance(text, Tensor):
            text = self.encode_text(text, lang_mask, *wanted)
        else:
            text = text._replace(state=lang_mask.pack(text.state))
        if isinstance(image, Tensor):
            assert visual_pos is not None
            image = self.encode_image(image, visual_pos, visual_mask, *wanted)
        else:
            image = image._replace(state=visual_mask.pack(image.state))
        lang, lang_states, lang_maps = text.state, [*text.states], text.maps
        visual, visual_states, visual_maps = image.state, [*image.states], image.maps
        before = (lang, visual) if output_hidden_states else (None, None)
        # Free tensors that were not requested as soon as the next layer has used them.
        del text, image

        cross_maps = []
        for index, layer in enumerate(self.x_layers, start=1):
            first_word = only_first_word and index == len(self.x_layers)
            lang, visual, *maps = layer(
                lang, lang_mask, visual, visual_mask, output_attentions, first_word, everything
            )
            cross_maps.append(maps)
            if output_hidden_states:
                lang_states.append(lang)
                visual_states.append(visual)

        by_kind: list[Maps] = [None] * 4
        if output_attentions:
            kinds = 4 if everything else 1
            by_kind[:kinds] = [tuple(maps[kind] for maps in cross_maps) for kind in range(kinds)]
        output = EncoderOutput(
            vision=(tuple(visual_states) if output_hidden_states else (visual,), visual_maps),
            language=(tuple(lang_states) if output_hidden_states else (lang,), lang_maps),
            cross_encoder_attentions=by_kind[0],
            vision_cross_attentions=by_kind[1],
            cross_language_attentions=by_kind[2],
            cross_vision_attentions=by_kind[3],
            language_output=lang,
            vision_output=visual,
            language_encoder_state=before[0],
            vision_encoder_state=before[1],
        )
        return output if everything else output[:3]

    def encode_text(
        self,
        lang_feats: Tensor,
        mask: StreamMask,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> Stream:
        """Run the embedded text `[batch, text_len, hidden]` through the language layers."""
        packed = mask.pack(lang_feats)
        return _run(self.layer, packed, mask, output_attentions, output_hidden_states)

    def encode_image(
        self,
        visual_feats: Tensor,
        visual_pos: Tensor,
        mask: StreamMask,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> Stream:
        """Embed regions and run them through the relationship layers."""
        embedded = self.visn_fc(mask.pack(visual_feats), mask.pack(visual_pos))
        return _run(self.r_layers, embedded, mask, output_attentions, output_hidden_states)


def _run(
    layers: Iterable[nn.Module],
    hidden_states: Tensor,
    mask: StreamMask,
    output_attentions: bool,
    output_hidden_states: bool,
) -> Stream:
    """Run one stream through its own layers, keeping only what was requested."""
    states: list[Tensor] = []
    maps: list[Tensor] = []
    for layer in layers:
        hidden_states, *layer_maps = layer(hidden_states, mask.within, output_attentions)
        maps += layer_maps
        states += [hidden_states] if output_hidden_states else []
    return Stream(hidden_states, tuple(states), tuple(maps) if output_attentions else None)
