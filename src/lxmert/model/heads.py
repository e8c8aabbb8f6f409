"""LXMERT with heads on the pooled output: answering, statements about images, matching."""

import torch
from torch import Tensor, nn

from lxmert.model import objectives
from lxmert.model.configuration import LxmertConfig
from lxmert.model.inputs import (
    Inputs,
    check_keywords,
    check_labels,
    check_several_images,
    check_text,
)
from lxmert.model.modeling import LxmertModel, LxmertPreTrainedModel
from lxmert.model.outputs import (
    LxmertClassificationOutput,
    LxmertEncodedStream,
    LxmertForQuestionAnsweringOutput,
    states_and_maps,
)
from lxmert.model.predictions import LxmertMatchingHead, LxmertVisualAnswerHead


class LxmertAnsweringModel(LxmertPreTrainedModel):  # type: ignore[no-untyped-call]
    """Base class of models with an optional answer head, whose number of answers can change."""

    _labels_setting = "num_qa_labels"
    answer_head: LxmertVisualAnswerHead
    num_qa_labels: int

    def get_qa_logit_layer(self) -> nn.Linear | None:
        """Return the last layer, with one row per answer; None without an answer head."""
        if not hasattr(self, "answer_head"):
            return None
        layer = self.answer_head.logit_fc[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def resize_num_qa_labels(self, num_labels: int | None = None) -> nn.Linear | None:
        """Change the number of answers; the first ones keep their weights and names.

        Args:
            num_labels: the new number of answers; new ones are appended with random weights. None
                changes nothing.

        Returns:
            The last layer, with one row per answer; None without an answer head.

        Raises:
            ValueError: if the number is below 1.
        """
        layer = self.get_qa_logit_layer()
        if layer is None or num_labels is None or num_labels == layer.out_features:
            return layer
        if num_labels < 1:
            raise ValueError(f"num_labels is {num_labels}, but must be above 0")
        resized = nn.Linear(
            layer.in_features, num_labels, device=layer.weight.device, dtype=layer.weight.dtype
        )
        self._init_weights(resized)
        kept = min(num_labels, layer.out_features)
        with torch.no_grad():
            resized.weight[:kept] = layer.weight[:kept]
            resized.bias[:kept] = layer.bias[:kept]
        resized.requires_grad_(layer.weight.requires_grad)
        self.answer_head.logit_fc[-1] = resized

        old_names = [name for _, name in sorted((self.config.id2label or {}).items())]
        if len(old_names) == self.num_qa_labels:
            new_names = [f"LABEL_{index}" for index in range(len(old_names), num_labels)]
            names = dict(enumerate(old_names[:num_labels] + new_names))
            self.config.id2label = names
            self.config.label2id = {name: index for index, name in names.items()}
        self.config.num_qa_labels = self.num_qa_labels = num_labels
        return resized


class LxmertForQuestionAnswering(LxmertAnsweringModel):
    """LXMERT for visual question answering with a list of answers.

    Example:
        The bundled model, with the regions of its own extractor:

        >>> from lxmert import LxmertForQuestionAnswering, LxmertProcessor
        >>> from lxmert.hub import find_model
        >>> processor = LxmertProcessor.from_pretrained(find_model(None))
        >>> model = LxmertForQuestionAnswering.from_pretrained(find_model(None))
        >>> inputs = processor(["examples/scene.png"], ["What color is the ball?"])
        >>> scores = model(**inputs).question_answering_score
        >>> model.config.id2label[scores.argmax(-1).item()]
        'yellow'

        The loss, for an answer id or for soft scores of several answers:

        >>> import torch
        >>> answer = model.config.label2id["yellow"]
        >>> loss = model(**inputs, labels=torch.tensor([answer])).loss
        >>> soft = torch.zeros(1, model.config.num_qa_labels)
        >>> soft[0, answer] = 0.9
        >>> model(**inputs, labels=soft).loss > loss
        tensor(True)
    """

    # The matching head, which may share a file with this one.
    _keys_to_ignore_on_load_unexpected = [r"^cls\.seq_relationship"]  # noqa: RUF012 - as in the base

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.num_qa_labels = config.num_qa_labels
        self.visual_loss_normalizer = config.visual_loss_normalizer
        self.lxmert = LxmertModel(config)
        self.answer_head = LxmertVisualAnswerHead(config, self.num_qa_labels)
        self._ddp_params_and_buffers_to_ignore = unreached_parameters(self)
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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        encoded_text: LxmertEncodedStream | None = None,
        encoded_image: LxmertEncodedStream | None = None,
        **kwargs: object,
    ) -> LxmertForQuestionAnsweringOutput | tuple[object, ...]:
        """Score every answer; with `labels`, compute the loss.

        All other arguments and errors are those of `LxmertModel.forward`. `labels` are `[batch]`
        answer ids, -100 or -1 for no label, for the cross-entropy; or `[batch, answers]` one-hot or
        soft scores in `[0, 1]`, rows of -100 for no label, for the binary cross-entropy times the
        number of answers.
        """
        check_keywords(kwargs, type(self).forward)
        encoded = self.lxmert(
            input_ids,
            visual_feats,
            visual_pos,
            attention_mask,
            visual_attention_mask,
            token_type_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            encoded_text=encoded_text,
            encoded_image=encoded_image,
            only_pooled=True,
        )
        answers = self.answer_head(encoded.pooled_output)
        output = LxmertForQuestionAnsweringOutput(
            loss=None if labels is None else objectives.mean(objectives.answering(answers, labels)),
            question_answering_score=answers,
            **states_and_maps(encoded),
        )
        return self._returned(output, return_dict)


class LxmertForImageAndTextRetrieval(LxmertPreTrainedModel):  # type: ignore[no-untyped-call]
    """LXMERT for image-text matching, with the matching head of pretraining.

    Example:
        >>> import torch
        >>> from lxmert import LxmertConfig, LxmertForImageAndTextRetrieval
        >>> config = LxmertConfig(
        ...     hidden_size=48, num_attention_heads=4, l_layers=1, x_layers=1, r_layers=1
        ... )
        >>> model = LxmertForImageAndTextRetrieval(config).eval()
        >>> image = model.lxmert.encode_image(torch.rand(1, 36, 2048), torch.rand(1, 36, 4))
        >>> captions = torch.randint(1000, 30000, (3, 8))
        >>> output = model(captions, encoded_image=image.take(torch.tensor([0, 0, 0])))
        >>> output.logits.softmax(-1)[:, 1].shape  # how probable a match is, by caption
        torch.Size([3])
    """

    # The other heads of a pretraining checkpoint.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 - declared by the base class
        r"^cls\.predictions",
        r"^obj_predict_head",
        r"^answer_head",
    ]

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.cls = LxmertMatchingHead(config)
        self._ddp_params_and_buffers_to_ignore = unreached_parameters(self)
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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        encoded_text: LxmertEncodedStream | None = None,
        encoded_image: LxmertEncodedStream | None = None,
        **kwargs: object,
    ) -> LxmertClassificationOutput | tuple[object, ...]:
        """Score whether each text matches its image; index 1 of `logits` is a match.

        All other arguments and errors are those of `LxmertModel.forward`. `labels` is `[batch]`: 1
        if the text describes the image, else 0; -100 is not counted.
        """
        check_keywords(kwargs, type(self).forward)
        encoded = self.lxmert(
            input_ids,
            visual_feats,
            visual_pos,
            attention_mask,
            visual_attention_mask,
            token_type_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            encoded_text=encoded_text,
            encoded_image=encoded_image,
            only_pooled=True,
        )
        logits = self.cls(encoded.pooled_output)
        if labels is not None:
            check_labels("labels", labels, logits.shape[:1])
        output = LxmertClassificationOutput(
            loss=None if labels is None else objectives.mean(objectives.matching(logits, labels)),
            logits=logits,
            **states_and_maps(encoded),
        )
        return self._returned(output, return_dict)


class LxmertForImagesAndTextClassification(LxmertPreTrainedModel):  # type: ignore[no-untyped-call]
    """LXMERT for statements about several images, such as two in NLVR2.

    Each image is encoded with the text; the head uses the concatenated pooled outputs
    (paper, appendix on NLVR2).

    Example:
        >>> import torch
        >>> from lxmert import LxmertConfig, LxmertForImagesAndTextClassification
        >>> config = LxmertConfig(
        ...     hidden_size=48, num_attention_heads=4, l_layers=1, x_layers=1, r_layers=1
        ... )
        >>> model = LxmertForImagesAndTextClassification(config).eval()
        >>> output = model(
        ...     input_ids=torch.randint(1000, 30000, (3, 8)),
        ...     visual_feats=torch.rand(3, 2, 36, 2048),  # two images a statement
        ...     visual_pos=torch.rand(3, 2, 36, 4),
        ...     labels=torch.tensor([1, 0, 1]),  # 1: the statement is true
        ... )
        >>> output.logits.shape
        torch.Size([3, 2])
    """

    _labels_setting = "num_classes"

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.classifier = LxmertVisualAnswerHead(
            config, config.num_classes, num_images=config.num_images
        )
        self._ddp_params_and_buffers_to_ignore = unreached_parameters(self)
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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        encoded_text: LxmertEncodedStream | None = None,
        encoded_image: LxmertEncodedStream | None = None,
        **kwargs: object,
    ) -> LxmertClassificationOutput | tuple[object, ...]:
        """Score every class for a text and its images.

        Arguments and errors are those of `LxmertModel.forward`, with these exceptions:

        - `visual_feats`: `[batch, images, regions, visual_feat_dim]`, where `images` is the
          `num_images` of the configuration.
        - `visual_pos`: `[batch, images, regions, visual_pos_dim]`.
        - `visual_attention_mask`: `[batch, images, regions]`.
        - `encoded_image`: the result of `LxmertModel.encode_image` for `batch * images` images.
        - `labels`: `[batch]` class ids, in NLVR2 1 if the statement is true; -100 is not counted.

        States and maps have `batch * images` rows: the images of the first text, of the second ...
        """
        check_keywords(kwargs, type(self).forward)
        flags = {
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        num_images = self.config.num_images
        check_several_images(visual_feats, visual_pos, visual_attention_mask, self.config)
        inputs = Inputs(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            encoded_text=encoded_text,
        )
        check_text(inputs, self.config)
        if encoded_text is None:
            encoded_text = self.lxmert.encode_text(
                input_ids, attention_mask, token_type_ids, inputs_embeds, **flags
            )
        state = encoded_text.last_hidden_state
        texts = torch.arange(state.shape[0], device=state.device)
        # [batch, images, ...] -> [batch * images, ...]
        features, boxes, mask = (
            None if given is None else given.flatten(0, 1)
            for given in (visual_feats, visual_pos, visual_attention_mask)
        )
        encoded = self.lxmert(
            visual_feats=features,
            visual_pos=boxes,
            visual_attention_mask=mask,
            **flags,
            return_dict=True,
            encoded_text=encoded_text.take(texts.repeat_interleave(num_images)),
            encoded_image=encoded_image,
            only_pooled=True,
        )
        # [batch * images, hidden] -> [batch, images * hidden]
        logits = self.classifier(encoded.pooled_output.unflatten(0, (-1, num_images)).flatten(1))
        loss = None
        if labels is not None:
            check_labels("labels", labels, logits.shape[:1])
            loss = objectives.mean(objectives.classification(logits, labels))
        output = LxmertClassificationOutput(loss=loss, logits=logits, **states_and_maps(encoded))
        return self._returned(output, return_dict)


def unreached_parameters(model: LxmertPreTrainedModel) -> list[str]:
    """List the parameters without gradient from the pooled output: the end of the region stream.

    `DistributedDataParallel` expects a gradient of every parameter, except those that the model
    lists in `_ddp_params_and_buffers_to_ignore`. If the model is wrapped (LoRA, `torch.compile`) or
    a loss uses its hidden states, set `find_unused_parameters=True` and
    `del model._ddp_params_and_buffers_to_ignore`.
    """
    last = model.config.x_layers - 1
    unreached: tuple[str, ...]
    if last < 0:
        unreached = ("lxmert.encoder.visn_fc.", "lxmert.encoder.r_layers.")
    else:
        parts = ("visn_self_att.", "visn_inter.", "visn_output.")
        unreached = tuple(f"lxmert.encoder.x_layers.{last}.{part}" for part in parts)
    return [name for name, _ in model.named_parameters() if name.startswith(unreached)]
