"""The LXMERT encoder as a transformers model: loading, initialization, forward pass."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from huggingface_hub import ModelCard, file_exists
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_utils import PreTrainedModel

from lxmert.model.attention import stream_mask
from lxmert.model.bert import bert_config, fill_from_bert
from lxmert.model.card import CARD_NAME, CardDetails, refresh_model_card, write_model_card
from lxmert.model.configuration import LxmertConfig
from lxmert.model.encoder import EncoderOutput, LxmertEncoder, Stream
from lxmert.model.inputs import Inputs, check_image, check_inputs, check_keywords, check_text
from lxmert.model.layers import (
    LxmertBoxProjection,
    LxmertEmbeddings,
    LxmertFeatureProjection,
    LxmertPooler,
)
from lxmert.model.outputs import LxmertEncodedStream, LxmertModelOutput, NamedOutput
from lxmert.model.predictions import LxmertLMPredictionHead
from lxmert.model.pretrained import (
    check_folder,
    check_loaded,
    label_settings,
    one_line,
    without_weight_bars,
)

# No `from __future__ import annotations` here: transformers takes the configuration class from the
# annotation of `config`.

OutputT = TypeVar("OutputT", bound=NamedOutput)

_MASKED_REGION_SCALE = 5.0
"""Initial standard deviation of the bias of features, in units of `initializer_range`."""


class LxmertPreTrainedModel(PreTrainedModel):
    """Base class of all LXMERT models: configuration, initialization, splitting, saving."""

    config: LxmertConfig
    base_model_prefix = "lxmert"
    main_input_name = "input_ids"
    # A tuple, as in the documented class.
    input_modalities = ("image", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
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
    # Losses are means over their targets: a trainer must average them over micro-batches.
    accepts_loss_kwargs = False
    _labels_setting: ClassVar[str | None] = None
    """Name of the setting for the number of labels."""

    def _returned(self, output: OutputT, return_dict: bool | None) -> OutputT | tuple[object, ...]:
        """Return an output with named fields or as a tuple; None means as configured."""
        wants_fields = self.config.return_dict if return_dict is None else return_dict
        return output if wants_fields else output.to_tuple()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module: normal weights, zero biases; loaded tensors are unchanged.

        Two biases are not zero. The feature of a masked region is zero, so its embedding is the
        layer norm of the bias, and the layer norm of a zero vector has a gradient of
        `1 / sqrt(eps)`, a million, which would dominate gradient clipping. The bias of boxes
        centers them on the middle of the image: all coordinates are positive, so otherwise the
        output of the layer norm would be nearly equal for all boxes.
        """
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, LxmertLMPredictionHead):
            initialization.zeros_(module.bias)
        if isinstance(module, LxmertFeatureProjection):
            std = _MASKED_REGION_SCALE * self.config.initializer_range
            initialization.normal_(module.bias, mean=0.0, std=std)
        if isinstance(module, LxmertBoxProjection):
            initialization.copy_(module.bias, module.weight.sum(dim=1) / -2)

    def get_position_embeddings(self) -> nn.Embedding:
        """Return the embeddings of the positions in a text."""
        embeddings: Any = self.base_model.embeddings
        table: nn.Embedding = embeddings.position_embeddings
        return table

    @torch.no_grad()
    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Set the number of positions, which is the longest text; new ones get random weights."""
        old = self.get_position_embeddings()
        new = nn.Embedding(new_num_position_embeddings, old.embedding_dim).to(old.weight)
        self._init_weights(new)
        kept = min(old.num_embeddings, new_num_position_embeddings)
        new.weight[:kept] = old.weight[:kept]
        embeddings: Any = self.base_model.embeddings
        embeddings.position_embeddings = new
        self.config.max_position_embeddings = new_num_position_embeddings

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a model from a folder or the hub, as transformers' `PreTrainedModel` does.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hugging Face hub.
            *args: those of the base class.
            **kwargs: those of the base class, and settings that replace those of `config.json`;
                `num_labels` and `id2label` set the answers or classes of the model.

        Raises:
            TypeError: if it is not a name.
            ValueError: if configuration or weights are invalid; the message names the tensors.
            OSError: if the model does not exist.
        """
        name = pretrained_model_name_or_path
        check_folder(name, kwargs)
        given = label_settings(cls._labels_setting, kwargs)
        try:
            with without_weight_bars():
                loaded = super().from_pretrained(name, *args, **given)
        except StrictDataclassError as error:
            raise ValueError(f"{name} cannot be configured: {one_line(error)}") from error
        if name is not None:
            check_loaded(name, loaded)
        return loaded

    def save_pretrained(  # type: ignore[override]  # the others are in kwargs
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save weights, configuration and a model card, for `from_pretrained`.

        A card that a user has written is kept; `lxmert.model.card` writes cards with more details.

        Args:
            save_directory: the folder; created if it does not exist.
            is_main_process: whether this process writes the files.
            state_dict: the weights to save, if not those of the model.
            push_to_hub: whether to upload the folder.
            **kwargs: those of transformers' `PreTrainedModel.save_pretrained`.
        """
        with without_weight_bars():
            super().save_pretrained(
                save_directory, is_main_process, state_dict, push_to_hub, **kwargs
            )
        if is_main_process and not push_to_hub:
            refresh_model_card(self, save_directory)

    def _upload_modified_files(  # type: ignore[override]  # the others are in kwargs
        self,
        working_dir: str | os.PathLike[str],
        repo_id: str,
        files_timestamps: dict[str, float],
        token: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Upload a saved model, with a model card if the repository has none.

        Overrides a step of the base class, which has already written an empty card to the folder.
        """
        if not file_exists(repo_id, CARD_NAME, token=token):
            tags = ModelCard.load(Path(working_dir) / CARD_NAME).data.tags or []
            write_model_card(self, working_dir, name=repo_id, details=CardDetails(tags=tags))
        return super()._upload_modified_files(
            working_dir, repo_id, files_timestamps, token=token, **kwargs
        )

    @classmethod
    def from_bert(
        cls,
        name_or_path: str | Path,
        config: LxmertConfig | None = None,
        *,
        allow: Sequence[str] = (),
        **overrides: object,
    ) -> Self:
        """Initialize the text side of a model from BERT, and the rest randomly.

        Copies the embeddings, the first `l_layers` layers and the pooler; for a pretraining model
        also transform and bias of the word head, and the next-sentence classifier.

        Args:
            name_or_path: folder of a BERT, or its name on the Hugging Face hub.
            config: the configuration; None: shared settings are those of the BERT.
            allow: names of weights, or dot-separated prefixes, that may be unused or missing in
                the file; missing ones are initialized randomly.
            **overrides: settings that replace those of the configuration, such as `l_layers=6`.

        Raises:
            FileNotFoundError: if the BERT does not exist.
            TypeError: if an override is not a setting.
            ValueError: if layers, sizes or weights of the BERT do not fit.
        """
        model = cls(bert_config(name_or_path, config, overrides))
        fill_from_bert(model, model.config, name_or_path, allow=allow)
        model.train(mode=False)
        return model


class LxmertModel(LxmertPreTrainedModel):
    """The LXMERT encoder without a head: two streams and the cross-modality encoder.

    Example:
        >>> import torch
        >>> from lxmert import LxmertConfig, LxmertModel
        >>> config = LxmertConfig(
        ...     hidden_size=48, num_attention_heads=4, l_layers=2, x_layers=3, r_layers=1
        ... )
        >>> model = LxmertModel(config).eval()
        >>> text = {"input_ids": torch.tensor([[101, 2054, 3609, 2003, 2009, 102]])}
        >>> image = {"visual_feats": torch.rand(1, 36, 2048), "visual_pos": torch.rand(1, 36, 4)}
        >>> output = model(**text, **image, output_hidden_states=True, output_attentions=True)
        >>> output.pooled_output.shape  # one vector per pair
        torch.Size([1, 48])
        >>> len(output.language_hidden_states)  # after each of 2 language and 3 cross layers
        5
        >>> output.cross_encoder_attentions[-1].shape  # text over regions: batch, heads, 6, 36
        torch.Size([1, 4, 6, 36])
        >>> output.vision_cross_attentions[-1].shape  # regions over text, by name only
        torch.Size([1, 4, 36, 6])

        Encode an image once for several questions:

        >>> encoded = model.encode_image(**image)
        >>> again = model(**text, encoded_image=encoded).pooled_output
        >>> torch.allclose(again, output.pooled_output, atol=1e-5)
        True
    """

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
        encoded_text: LxmertEncodedStream | None = None,
        encoded_image: LxmertEncodedStream | None = None,
        only_pooled: bool = False,
        **kwargs: object,
    ) -> LxmertModelOutput | tuple[object, ...]:
        """Encode texts together with the regions of their images.

        The other models accept the same arguments, and `labels` after `inputs_embeds`.

        Args:
            input_ids: `[batch, text_len]` word pieces.
            visual_feats: `[batch, regions, visual_feat_dim]` region features.
            visual_pos: `[batch, regions, visual_pos_dim]`; for published weights boxes
                `(x1, y1, x2, y2)` divided by the image's width and height, in `[0, 1]`.
            attention_mask: `[batch, text_len]`, `[batch, text_len, text_len]` or
                `[batch, heads, text_len, text_len]`, 1 for a visible word, 0 for padding; None
                means that all are visible.
            visual_attention_mask: the same for regions.
            token_type_ids: `[batch, text_len]` segments; None means segment 0.
            inputs_embeds: `[batch, text_len, hidden]` instead of `input_ids`.
            output_attentions: whether to return attention maps; None means as configured.
            output_hidden_states: whether to return the states of all layers; None means as
                configured.
            return_dict: whether to return named fields instead of a tuple; None means as
                configured.
            encoded_text: the result of `encode_text`, instead of all other text arguments.
            encoded_image: the result of `encode_image`, instead of all other image arguments.
            only_pooled: whether only `pooled_output` is needed. Unless states or maps are also
                requested, the last cross layer then computes only the input of the pooler, and
                `language_output` and `vision_output` are None.
            **kwargs: only those that libraries pass to every model, which are ignored.

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
            encoded_text,
            encoded_image,
        )
        check_inputs(inputs, self.config)
        maps, states = self._wanted(output_attentions, output_hidden_states)
        only_first_word = only_pooled and not (maps or states) and self.config.x_layers > 0
        dtype = self.embeddings.LayerNorm.weight.dtype  # set even if linear layers are quantized
        text: Tensor | Stream
        image: Tensor | Stream
        if encoded_text is None:
            text = embedded = self._embed(inputs)
        else:
            text = _as_stream("encoded_text", encoded_text, dtype, maps=maps, states=states)
            embedded, attention_mask = text.state, encoded_text.attention_mask
        if encoded_image is None:
            assert visual_feats is not None
            image = visual_feats
        else:
            image = _as_stream("encoded_image", encoded_image, dtype, maps=maps, states=states)
            visual_attention_mask = encoded_image.attention_mask
        encoded = self.encoder(
            text,
            stream_mask(attention_mask, embedded, pack=only_first_word),
            image,
            visual_pos,
            stream_mask(visual_attention_mask, embedded, pack=only_first_word),
            maps,
            output_hidden_states=states,
            only_first_word=only_first_word,
            everything=True,
        )
        output = _model_output(encoded, self.pooler(encoded.language_output), states=states)
        return self._returned(output, return_dict)

    def encode_text(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> LxmertEncodedStream:
        """Encode texts with the language layers, for pairs with any number of images.

        Arguments and errors are those of `forward`; pass the result as its `encoded_text`.
        """
        inputs = Inputs(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
        )
        check_text(inputs, self.config)
        wanted = self._wanted(output_attentions, output_hidden_states)
        embedded = self._embed(inputs)
        stream = self.encoder.encode_text(embedded, stream_mask(attention_mask, embedded), *wanted)
        return _as_encoded(stream, attention_mask)

    def encode_image(
        self,
        visual_feats: Tensor | None = None,
        visual_pos: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> LxmertEncodedStream:
        """Encode regions with the relationship layers, for pairs with any number of texts.

        Arguments and errors are those of `forward`; pass the result as its `encoded_image`.
        """
        inputs = Inputs(
            visual_feats=visual_feats,
            visual_pos=visual_pos,
            visual_attention_mask=visual_attention_mask,
        )
        check_image(inputs, self.config)
        assert visual_feats is not None
        assert visual_pos is not None
        wanted = self._wanted(output_attentions, output_hidden_states)
        # The mask needs the dtype of the model, which may differ from that of the features.
        like = visual_feats.to(self.embeddings.LayerNorm.weight.dtype)
        mask = stream_mask(visual_attention_mask, like)
        stream = self.encoder.encode_image(visual_feats, visual_pos, mask, *wanted)
        return _as_encoded(stream, visual_attention_mask)

    def _wanted(self, attentions: bool | None, hidden_states: bool | None) -> tuple[bool, bool]:
        """Return whether to return maps and states; None means as configured."""
        if attentions is None:
            attentions = bool(self.config.output_attentions)
        if hidden_states is None:
            hidden_states = bool(self.config.output_hidden_states)
        return attentions, hidden_states

    def _embed(self, inputs: Inputs) -> Tensor:
        """Embed a text `[batch, text_len, hidden]`; warn about padding without a mask."""
        if inputs.input_ids is not None and inputs.input_ids.device.type == "cpu":
            # On other devices, reading values would synchronize.
            self.warn_if_padding_and_no_attention_mask(inputs.input_ids, inputs.attention_mask)  # type: ignore[no-untyped-call]
        embedded: Tensor = self.embeddings(
            inputs.input_ids, inputs.token_type_ids, inputs.inputs_embeds
        )
        return embedded


def _as_encoded(stream: Stream, mask: Tensor | None) -> LxmertEncodedStream:
    """Convert one encoded side to its public form."""
    return LxmertEncodedStream(
        last_hidden_state=stream.state,
        attention_mask=mask,
        hidden_states=stream.states or None,
        attentions=stream.maps,
    )


def _as_stream(
    name: str, encoded: LxmertEncodedStream, dtype: torch.dtype, *, maps: bool, states: bool
) -> Stream:
    """Convert an encoded side to the input of the cross layers, with requested extras."""
    for wanted, kept, flag in (
        (maps, encoded.attentions, "output_attentions"),
        (states, encoded.hidden_states, "output_hidden_states"),
    ):
        if wanted and kept is None:
            raise ValueError(
                f"{name} was encoded without {flag}=True, but this call requests it: encode it "
                f"again with {flag}=True"
            )
    kept = tuple(state.to(dtype) for state in encoded.hidden_states or ()) if states else ()
    return Stream(encoded.last_hidden_state.to(dtype), kept, encoded.attentions if maps else None)


def _model_output(encoded: EncoderOutput, pooled: Tensor, *, states: bool) -> LxmertModelOutput:
    """Convert the encoder output; `language_output` is None if only `[CLS]` was computed."""
    complete = encoded.vision_output is not None
    return LxmertModelOutput(
        language_output=encoded.language_output if complete else None,
        vision_output=encoded.vision_output,
        pooled_output=pooled,
        language_hidden_states=encoded.language[0] if states else None,
        vision_hidden_states=encoded.vision[0] if states else None,
        language_attentions=encoded.language[1],
        vision_attentions=encoded.vision[1],
        cross_encoder_attentions=encoded.cross_encoder_attentions,
        vision_cross_attentions=encoded.vision_cross_attentions,
        cross_language_attentions=encoded.cross_language_attentions,
        cross_vision_attentions=encoded.cross_vision_attentions,
        language_encoder_state=encoded.language_encoder_state,
        vision_encoder_state=encoded.vision_encoder_state,
    )
