"""The LXMERT models with heads: pretraining, and answering questions about images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lxmert.model import objectives
from lxmert.model.configuration import LxmertConfig
from lxmert.model.inputs import check_keywords
from lxmert.model.modeling import LxmertModel, LxmertPreTrainedModel
from lxmert.model.outputs import (
    LxmertForPreTrainingOutput,
    LxmertForQuestionAnsweringOutput,
    LxmertModelOutput,
    states_and_maps,
)
from lxmert.model.predictions import (
    LxmertPreTrainingHeads,
    LxmertVisualAnswerHead,
    LxmertVisualObjHead,
)

RegionLabels = dict[str, tuple[Tensor, Tensor]]
"""Target and weight of each region by objective; see `LxmertForPreTraining.forward`."""


class LxmertAnsweringModel(LxmertPreTrainedModel):  # type: ignore[no-untyped-call]
    """A model that may have an answer head, whose number of answers can change."""

    answer_head: LxmertVisualAnswerHead
    num_qa_labels: int

    def get_qa_logit_layer(self) -> nn.Linear | None:
        """Return the layer with one row for each answer; None without an answer head."""
        if not hasattr(self, "answer_head"):
            return None
        layer = self.answer_head.logit_fc[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def resize_num_qa_labels(self, num_labels: int | None = None) -> nn.Linear | None:
        """Change the number of answers; those of both sizes keep their weights and names.

        Args:
            num_labels: how many answers there will be; new ones, at the end, start with random
                weights. None changes nothing.

        Returns:
            The layer with one row for each answer; None without an answer head.
        """
        layer = self.get_qa_logit_layer()
        if layer is None or num_labels is None or num_labels == layer.out_features:
            return layer
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

        old_names = list((self.config.id2label or {}).values())
        if len(old_names) == self.num_qa_labels:
            new_names = [f"LABEL_{index}" for index in range(len(old_names), num_labels)]
            names = dict(enumerate(old_names[:num_labels] + new_names))
            self.config.id2label = names
            self.config.label2id = {name: index for index, name in names.items()}
        self.config.num_qa_labels = self.num_qa_labels = num_labels
        return resized


class LxmertForPreTraining(LxmertAnsweringModel):
    """LXMERT with the heads of its five pretraining objectives."""

    _tied_weights_keys = {  # noqa: RUF012 - declared by the base class, which forbids ClassVar
        "cls.predictions.decoder.weight": "lxmert.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.num_qa_labels = config.num_qa_labels
        self.visual_loss_normalizer = config.visual_loss_normalizer
        self.task_mask_lm = config.task_mask_lm
        self.task_obj_predict = config.task_obj_predict
        self.task_matched = config.task_matched
        self.task_qa = config.task_qa
        self.lxmert = LxmertModel(config)
        self.cls = LxmertPreTrainingHeads(config)
        if self.task_obj_predict:
            self.obj_predict_head = LxmertVisualObjHead(config)
        if self.task_qa:
            self.answer_head = LxmertVisualAnswerHead(config, self.num_qa_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_output_embeddings(self) -> nn.Linear:
        """Return the decoder of words, by which its resizing finds it."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the decoder of words, whose bias takes over its size."""
        self.cls.predictions.set_decoder(new_embeddings)

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
        obj_labels: RegionLabels | None = None,
        matched_label: Tensor | None = None,
        ans: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        output_predictions: bool = False,
        **kwargs: object,
    ) -> LxmertForPreTrainingOutput | tuple[object, ...]:
        """Predict masked words, matching, regions and answers; score them against labels.

        Args:
            input_ids: `[batch, text_len]` word pieces; this and what follows up to
                `inputs_embeds` as in `LxmertModel.forward`.
            visual_feats: `[batch, regions, visual_feat_dim]`.
            visual_pos: `[batch, regions, visual_pos_dim]`.
            attention_mask: `[batch, text_len]`, 1 for a word, 0 for padding.
            visual_attention_mask: `[batch, regions]`, 1 for a region, 0 for padding.
            token_type_ids: `[batch, text_len]`.
            inputs_embeds: `[batch, text_len, hidden]`, instead of `input_ids`.
            labels: `[batch, text_len]` word pieces to predict; -100 or -1 is not counted.
            obj_labels: any of `obj` and `attr`, class ids and weights, both `[batch, regions]`,
                and `feat`, features `[batch, regions, visual_feat_dim]` and weights.
            matched_label: `[batch]`, 1 where the text describes the image, else 0.
            ans: `[batch]` answer ids, -100 or -1 where there is none, or `[batch, answers]`
                one-hot or soft scores in `[0, 1]`, rows of -100 where there is none.
            output_attentions: whether to return attention maps; None means as configured.
            output_hidden_states: whether to return the states of all layers; None: as configured.
            return_dict: whether to return named fields, not a tuple; None means as configured.
            output_predictions: whether to predict regions even without labels for them.
            **kwargs: only those that libraries add to every call.

        Returns:
            Predictions by name. `loss` is the sum of `losses`: means over labelled words, pairs
            and questions, and over all regions times `visual_loss_normalizer`.

        Raises:
            ValueError: if an input is missing or has the wrong shape.
            TypeError: if a keyword is unknown.
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
        )
        # Without an answer head some number has to hold the place in the documented tuple.
        pooled = encoded.pooled_output
        answers = self.answer_head(pooled) if self.task_qa else pooled[0, 0]
        words, matching = self.cls(encoded.language_output, pooled)
        regions: dict[str, Tensor] = {}
        if self.task_obj_predict and (output_predictions or obj_labels is not None):
            regions = self.obj_predict_head(encoded.vision_output)
        pairs = {
            "mask_lm": (words, labels),
            "matched": (matching, matched_label),
            "qa": (answers, ans),
        }
        output = _pretraining_output(
            encoded,
            scores=(words, matching, answers),
            regions=regions,
            losses=self._losses(pairs, regions, obj_labels),
        )
        wants_fields = self.config.return_dict if return_dict is None else return_dict
        return output if wants_fields else output.to_tuple()

    def _losses(
        self,
        pairs: dict[str, tuple[Tensor, Tensor | None]],
        regions: dict[str, Tensor],
        obj_labels: RegionLabels | None,
    ) -> dict[str, Tensor] | None:
        """Score what was predicted against the labels that were given; None without labels."""
        if obj_labels is None and all(target is None for _, target in pairs.values()):
            return None
        enabled = {"mask_lm": self.task_mask_lm, "matched": self.task_matched, "qa": self.task_qa}
        losses = {
            name: _mean(_OBJECTIVES[name](prediction, target))
            for name, (prediction, target) in pairs.items()
            if target is not None and enabled[name]
        }
        return losses | self._region_losses(regions, obj_labels or {})

    def _region_losses(
        self, predicted: dict[str, Tensor], labels: RegionLabels
    ) -> dict[str, Tensor]:
        """Average the losses that have both prediction and labels over all regions, and weigh."""
        unknown = labels.keys() - _REGION_OBJECTIVES.keys()
        if unknown:
            raise ValueError(
                f"obj_labels has {sorted(unknown)}; known are {sorted(_REGION_OBJECTIVES)}."
            )
        losses = {}
        for name, prediction in predicted.items():
            if name in labels:
                target, weight = labels[name]
                loss_sum, _ = _REGION_OBJECTIVES[name](prediction, target, weight)
                mean = loss_sum / max(weight.numel(), 1)
                losses[name] = mean * self.visual_loss_normalizer
        return losses


class LxmertForQuestionAnswering(LxmertAnsweringModel):
    """LXMERT that chooses the answer to a question about an image."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.num_qa_labels = config.num_qa_labels
        self.visual_loss_normalizer = config.visual_loss_normalizer
        self.lxmert = LxmertModel(config)
        self.answer_head = LxmertVisualAnswerHead(config, self.num_qa_labels)
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
        **kwargs: object,
    ) -> LxmertForQuestionAnsweringOutput | tuple[object, ...]:
        """Score every answer, and the scores against labels.

        Args:
            input_ids: `[batch, text_len]` word pieces; this and what follows up to
                `inputs_embeds` as in `LxmertModel.forward`.
            visual_feats: `[batch, regions, visual_feat_dim]`.
            visual_pos: `[batch, regions, visual_pos_dim]`.
            attention_mask: `[batch, text_len]`, 1 for a word, 0 for padding.
            visual_attention_mask: `[batch, regions]`, 1 for a region, 0 for padding.
            token_type_ids: `[batch, text_len]`.
            inputs_embeds: `[batch, text_len, hidden]`, instead of `input_ids`.
            labels: `[batch]` answer ids, -100 or -1 where there is none, for the cross-entropy; or
                `[batch, answers]` one-hot or soft scores in `[0, 1]` for the binary cross-entropy
                times the number of answers, rows of -100 where there is none.
            output_attentions: whether to return attention maps; None means as configured.
            output_hidden_states: whether to return the states of all layers; None: as configured.
            return_dict: whether to return named fields, not a tuple; None means as configured.
            **kwargs: only those that libraries add to every call.

        Raises:
            ValueError: if an input is missing or has the wrong shape.
            TypeError: if a keyword is unknown.
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
        )
        answers = self.answer_head(encoded.pooled_output)
        output = LxmertForQuestionAnsweringOutput(
            loss=None if labels is None else _mean(objectives.answering(answers, labels)),
            question_answering_score=answers,
            **states_and_maps(encoded),
        )
        wants_fields = self.config.return_dict if return_dict is None else return_dict
        return output if wants_fields else output.to_tuple()


_OBJECTIVES: dict[str, Callable[[Tensor, Tensor], objectives.Terms]] = {
    "mask_lm": objectives.masked_language_modelling,
    "matched": objectives.matching,
    "qa": objectives.answering,
}
_REGION_OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor], objectives.Terms]] = {
    "obj": objectives.region_classification,
    "attr": objectives.region_classification,
    "feat": objectives.feature_regression,
}


def _pretraining_output(
    encoded: LxmertModelOutput,
    *,
    scores: tuple[Tensor, Tensor, Tensor],
    regions: dict[str, Tensor],
    losses: dict[str, Tensor] | None,
) -> LxmertForPreTrainingOutput:
    """Join what was encoded, predicted (words, matching, answers; regions) and lost."""
    words, matching, answers = scores
    return LxmertForPreTrainingOutput(
        loss=None if losses is None else _total(losses, like=words),
        prediction_logits=words,
        cross_relationship_score=matching,
        question_answering_score=answers,
        **states_and_maps(encoded),
        object_logits=regions.get("obj"),
        attribute_logits=regions.get("attr"),
        feature_predictions=regions.get("feat"),
        losses=losses,
    )


def _mean(terms: objectives.Terms) -> Tensor:
    """Divide a sum by its count; 0, still with a gradient, where nothing is counted."""
    loss_sum, count = terms
    return loss_sum / count.clamp(min=1)


def _total(losses: dict[str, Tensor], *, like: Tensor) -> Tensor:
    """Add the losses up; 0 where the configuration leaves none of them on."""
    total = torch.zeros((), device=like.device)
    for loss in losses.values():
        total = total + loss
    return total
