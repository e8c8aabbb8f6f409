"""LXMERT with the heads and losses of its five pretraining objectives (paper, section 3.1)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers.utils.import_utils import is_tracing

from lxmert.model import objectives
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.inputs import check_keywords, check_labels
from lxmert.model.modeling import LxmertModel
from lxmert.model.outputs import (
    LxmertEncodedStream,
    LxmertForPreTrainingOutput,
    states_and_maps,
)
from lxmert.model.predictions import (
    LxmertPreTrainingHeads,
    LxmertVisualAnswerHead,
    LxmertVisualObjHead,
)
from lxmert.schema import IGNORE_INDEX

RegionLabels = Mapping[str, tuple[Tensor, Tensor]]
"""Targets and weights of regions by objective; see `LxmertForPreTraining.forward`."""


class LxmertForPreTraining(LxmertAnsweringModel):
    """LXMERT with the heads of its five pretraining objectives.

    The `Trainer` of transformers treats arguments with "label" in their names as labels, but not
    `ans`, and evaluates a loss only if all of them are given. Name those of the data:
    `TrainingArguments(label_names=["labels", "obj_labels", "matched_label", "ans"])`, or fewer.

    Example:
        >>> import torch
        >>> from lxmert import LxmertConfig, LxmertForPreTraining
        >>> config = LxmertConfig(
        ...     hidden_size=48, num_attention_heads=4, l_layers=1, x_layers=1, r_layers=1
        ... )
        >>> model = LxmertForPreTraining(config)
        >>> features = torch.rand(2, 36, 2048)
        >>> masked = (torch.rand(2, 36) < 0.15).float()  # which regions are masked
        >>> objects, confidence = torch.randint(0, 1600, (2, 36)), torch.rand(2, 36)
        >>> output = model(
        ...     input_ids=torch.tensor([[101, 2054, 103, 2003, 102], [101, 1037, 103, 3608, 102]]),
        ...     visual_feats=features * (1 - masked)[:, :, None],
        ...     visual_pos=torch.rand(2, 36, 4),
        ...     labels=torch.tensor([2 * [-100] + [3609] + 2 * [-100]] * 2),
        ...     matched_label=torch.tensor([1, 0]),  # 1: the text describes the image
        ...     ans=torch.tensor([9471, -100]),  # the second text is not a question
        ...     obj_labels={"obj": (objects, confidence), "feat": (features, masked)},
        ... )
        >>> sorted(output.losses)
        ['feat', 'mask_lm', 'matched', 'obj', 'qa']
        >>> torch.allclose(output.loss, sum(output.losses.values()))
        True
    """

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
        """Return the word decoder, for resizing."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the word decoder and resize its bias."""
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
        encoded_text: LxmertEncodedStream | None = None,
        encoded_image: LxmertEncodedStream | None = None,
        output_predictions: bool | None = None,
        **kwargs: object,
    ) -> LxmertForPreTrainingOutput | tuple[object, ...]:
        """Predict masked words, matching, regions and answers; with labels, compute the losses.

        All other arguments are those of `LxmertModel.forward`. The arguments of this class are:

        - `labels`: `[batch, text_len]` word pieces to predict; -100 or -1 is not counted.
        - `obj_labels`: any of `obj` and `attr`, class ids and weights, both `[batch, regions]`, and
          `feat`, features `[batch, regions, visual_feat_dim]` and weights.
        - `matched_label`: `[batch]`, 1 if the text describes the image, else 0.
        - `ans`: `[batch]` answer ids, -100 or -1 for none, or `[batch, answers]` one-hot or soft
          scores in `[0, 1]`, rows of -100 for none.
        - `output_predictions`: True also returns predictions for all regions; False returns none
          and skips unlabeled words and regions; None returns the documented outputs, of which the
          word logits are the expensive part.

        Returns:
            Predictions by name. `loss` is the sum of `losses`: means over labeled words, pairs
            and questions, and over all regions times `visual_loss_normalizer`. With
            `visual_loss_masked_only` of the configuration, objects and attributes count only if
            the weight of `feat` is above 0.

            As a tuple: the fields that are not None, in the order of `LxmertForPreTrainingOutput`.
            Without labels it starts with words, matching and answers; without `task_qa` of the
            configuration there are no answers, and the following fields move up.

        Raises:
            ValueError: if an input is missing or has the wrong shape, or a label is unknown.
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
            encoded_text=encoded_text,
            encoded_image=encoded_image,
        )
        states, pooled = encoded.language_output, encoded.pooled_output
        if labels is not None:
            check_labels("labels", labels, states.shape[:2])
            labels = labels.reshape(states.shape[:2])
        if matched_label is not None:
            check_labels("matched_label", matched_label, pooled.shape[:1])
        labeled, word_labels = _labeled_words(states, labels)
        words, matching = self.cls(labeled if output_predictions is False else states, pooled)
        answers = self.answer_head(pooled) if self.task_qa else None
        regions: dict[str, Tensor] = {}
        if self.task_obj_predict and output_predictions:
            regions = self.obj_predict_head(encoded.vision_output)

        terms: dict[str, objectives.Terms] = {}
        if word_labels is not None and self.task_mask_lm:
            # If the logits of all words are returned, those of labeled words are computed again:
            # a gradient through the logits of all words takes longer.
            cut = words.shape[:-1] == word_labels.shape
            scores = words if cut else self.cls.predictions(labeled)
            terms["mask_lm"] = objectives.masked_language_modeling(scores, word_labels)
        if matched_label is not None and self.task_matched:
            terms["matched"] = objectives.matching(matching, matched_label)
        if obj_labels is not None and self.task_obj_predict:
            terms |= self._region_terms(encoded.vision_output, regions, obj_labels)
        if ans is not None and answers is not None:
            terms["qa"] = objectives.answering(answers, ans)
        losses = None
        if any(given is not None for given in (labels, obj_labels, matched_label, ans)):
            losses = self._losses(terms, obj_labels or {})
        output = LxmertForPreTrainingOutput(
            loss=None if losses is None else _total(losses, like=words),
            prediction_logits=None if output_predictions is False else words,
            cross_relationship_score=matching,
            question_answering_score=answers,
            **states_and_maps(encoded),
            object_logits=regions.get("obj"),
            attribute_logits=regions.get("attr"),
            feature_predictions=regions.get("feat"),
            losses=losses,
            loss_terms=None if losses is None else terms,
        )
        return self._returned(output, return_dict)

    def _region_terms(
        self, states: Tensor, predicted: dict[str, Tensor], labels: RegionLabels
    ) -> dict[str, objectives.Terms]:
        """Compute region losses from states `[batch, regions, hidden]`.

        Unless there are predictions for all regions, only regions with a weight are predicted.
        """
        unknown = labels.keys() - _REGION_OBJECTIVES.keys()
        if unknown:
            raise ValueError(
                f"obj_labels has {sorted(unknown)}; known are {sorted(_REGION_OBJECTIVES)}"
            )
        size = states.shape[:2]
        for name, (target, weight) in labels.items():
            width = (self.config.visual_feat_dim,) if name == "feat" else ()
            check_labels(f"obj_labels[{name!r}][0]", target, (*size, *width))
            check_labels(f"obj_labels[{name!r}][1]", weight, size)
        targets = {
            name: target.reshape(*size, target.shape[-1])
            if name == "feat"
            else target.reshape(size)
            for name, (target, _) in labels.items()
        }
        weights = {name: labels[name][1].reshape(states.shape[:2]) for name in labels}
        if self.config.visual_loss_masked_only:
            weights = _where_masked(weights)
        if not predicted:
            chosen = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
            for weight in weights.values():
                chosen = chosen | (weight != 0)
            rows = _rows(chosen)
            predicted = self.obj_predict_head(states[rows])
            targets = {name: target[rows] for name, target in targets.items()}
            weights = {name: weight[rows] for name, weight in weights.items()}
        settings = {"feat": {"distance": self.config.visual_feat_distance}}
        return {
            name: _REGION_OBJECTIVES[name](
                prediction, targets[name], weights[name], **settings.get(name, {})
            )
            for name, prediction in predicted.items()
            if name in labels
        }

    def _losses(
        self, terms: dict[str, objectives.Terms], region_labels: RegionLabels
    ) -> dict[str, Tensor]:
        """Divide sums by counts; those of regions by all regions, times their weight."""
        losses = {}
        for name, (loss_sum, count) in terms.items():
            if name in region_labels:
                mean = loss_sum / max(region_labels[name][1].numel(), 1)
                losses[name] = mean * self.visual_loss_normalizer
            else:
                losses[name] = objectives.mean((loss_sum, count))
        return losses


_REGION_OBJECTIVES: dict[str, Callable[..., objectives.Terms]] = {
    "obj": objectives.region_classification,
    "attr": objectives.region_classification,
    "feat": objectives.feature_regression,
}


def _labeled_words(states: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Select the states `[batch, text_len, hidden]` and the labels of labeled words."""
    if labels is None:
        return states[:, :0], None
    rows = _rows((labels != IGNORE_INDEX) & (labels != -1))
    return states[rows], labels[rows]


def _rows(chosen: Tensor) -> Tensor | tuple[slice, ...]:
    """Return an index of the chosen positions; of all in a trace."""
    # Sizes in a trace must not depend on values. A slice of all positions avoids a copy.
    if is_tracing(chosen) or (chosen.device.type == "cpu" and bool(chosen.all())):
        return (slice(None),)
    return chosen


def _where_masked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Set the weights of objects and attributes to 0 for regions that are not masked."""
    if "feat" not in weights:
        raise ValueError(
            "obj_labels has no 'feat', whose weights mark masked regions for "
            "visual_loss_masked_only: add it, or set visual_loss_masked_only=False"
        )
    masked = weights["feat"] > 0
    return {name: weight * masked for name, weight in weights.items()}


def _total(losses: dict[str, Tensor], *, like: Tensor) -> Tensor:
    """Sum the losses; 0 if the configuration disables all of them."""
    total = torch.zeros((), device=like.device)
    for loss in losses.values():
        total = total + loss
    return total
