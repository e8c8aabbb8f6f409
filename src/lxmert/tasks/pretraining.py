"""Pretraining with five objectives: masked words, masked regions (two ways), matching, answering.

Source: paper section 3.1. Masked regions are predicted as features and as labels; a label is an
object class and an attribute, which gives six losses.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lxmert.data.answer_lists import read_answers
from lxmert.data.answers import AnswerVocabulary
from lxmert.data.arrays import pad
from lxmert.data.collate import check_labels, collate_inputs
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.masking import mask_regions, mask_words
from lxmert.model.answers import normalize_answer
from lxmert.names import count
from lxmert.records import Record
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.attribute_swap import make_attribute_swap
from lxmert.tasks.mixture import mix
from lxmert.tasks.pretraining_metrics import PretrainingMetrics
from lxmert.tasks.pretraining_settings import NAMES, PRESETS, PretrainingSettings
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import open_training, validation_outputs
from lxmert.tasks.texts import (
    TextCorpus,
    check_several_images,
    choose_question_types,
    other_text,
)

_VALIDATION_BATCH = 256

_logger = logging.getLogger(__name__)


class MaskedItem(NamedTuple):
    """A masked text-image pair, ready for collation.

    Attributes:
        input_ids: `[length]`, masked.
        labels: `[length]`, the true word piece if it is to be predicted, else -100.
        features: `[regions, dim]`, masked.
        true_features: `[regions, dim]`, unmasked.
        boxes: `[regions, 4]`, normalized to `[0, 1]`.
        chosen: `[regions]`, True if the region is to be predicted.
        object_ids: `[regions]`.
        object_scores: `[regions]`, the detector's confidence.
        attribute_ids: `[regions, groups]`.
        attribute_scores: `[regions, groups]`.
        group: `[regions]`, the attribute group to predict.
        matched: 1 if the text is about the image, else 0.
        answer: class id, or -100.
    """

    input_ids: IntArray
    labels: IntArray
    features: FloatArray
    true_features: FloatArray
    boxes: FloatArray
    chosen: npt.NDArray[np.bool_]
    object_ids: IntArray
    object_scores: FloatArray
    attribute_ids: IntArray
    attribute_scores: FloatArray
    group: IntArray
    matched: int
    answer: int


class PretrainingTask:
    """Masked words, masked regions (class, attribute, feature), matching and answering."""

    settings_type: ClassVar[type[Record]] = PretrainingSettings
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = PRESETS

    def __init__(self, settings: PretrainingSettings, *, seed: int) -> None:
        """Read the corpora, and initialize a model, its tokenizer and its answer list."""
        self.seed = seed
        self.objectives = settings.objectives
        data = settings.data
        corpus = Corpus.read(data.questions, captions=data.captions, strict=True)
        training = choose_question_types(corpus, data.question_types)
        validation = choose_question_types(
            Corpus.read(data.valid_questions, captions=data.valid_captions, strict=True),
            data.question_types,
            name="validation",
        )
        self.parts = open_training(
            data,
            settings.model,
            "pretraining",
            (training, validation),
            ((*data.questions, *data.captions), (*data.valid_questions, *data.valid_captions)),
            # Texts and answers of all question types, as fine-tuning may need any of them.
            texts=corpus.texts,
            answers=lambda: corpus.vocabulary().answers,
            answer_list=None if data.answers is None else read_answers(data.answers).answers,
            extractor_first=True,
        )
        self.model: nn.Module = self.parts.model
        self.parts.model.config.visual_feat_distance = settings.objectives.feature_distance
        self.tokenizer = self.parts.tokenizer
        self.training, self.validation = self.parts.training, self.parts.validation
        self.mixture = mix(training, data.mix)
        has_attributes = bool(self.training.store.header.attribute_names)
        self.loss_weights: Mapping[str, float] = {
            name: settings.objectives.weights.get(name, 0.0)
            for name in NAMES
            if has_attributes or name != "attr"
        }
        self.answers = AnswerVocabulary.from_id2label(self.parts.model.config.id2label or {})
        check_several_images(self.training, self.validation)
        self.attribute_swap = make_attribute_swap(
            data.attribute_swap, self.training, self.tokenizer, self.answers.answers
        )
        self.targets = self._find_answers(self.training)
        self.valid_targets = self._find_answers(self.validation)
        asked = int((training.num_answers() > 0).sum())
        known = len(training) - self.targets.count_unknown()
        if known < asked:
            _logger.info(
                "%d of %s have no answer in the list and are used as texts, like captions",
                asked - known,
                count(asked, "question"),
            )
        answered = self.valid_targets.count_unknown() < len(self.validation)
        self.best_metric = "qa_accuracy" if answered else "mask_lm_accuracy"

    def _find_answers(self, corpus: TextCorpus) -> Targets:
        """Look up answers in the list: literally, else normalized as in the published list."""
        listed = set(self.answers.answers)
        return Targets(
            corpus.examples,
            self.answers,
            normalize=lambda answer: answer if answer in listed else normalize_answer(answer),
            collisions=self.objectives.colliding_answers,
        )

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> MaskedItem:
        """Return a training pair with the masks of this epoch."""
        return self._mask(self.training, index, np.random.default_rng([self.seed, epoch, index]))

    def validation_example(self, index: int) -> MaskedItem:
        """Return a validation pair, whose masks are always the same."""
        return self._mask(self.validation, index, np.random.default_rng([self.seed, index]))

    def _mask(self, corpus: TextCorpus, index: int, generator: np.random.Generator) -> MaskedItem:
        """Mask words and regions, after drawing a mismatched text and an attribute swap.

        The order of the draws from `generator` decides the masks: do not change it.
        """
        settings = self.objectives
        # Without the matching loss, mismatched texts would only harm the other objectives.
        matched = generator.random() >= settings.mismatch_rate or self.loss_weights["matched"] <= 0
        text = index if matched else other_text(corpus, index, generator)
        input_ids = corpus.token_ids[text]
        regions, boxes = corpus.regions(index)
        attribute_swap = self.attribute_swap if corpus is self.training else None
        if attribute_swap is not None:
            permutation = attribute_swap.draw(generator)
            input_ids = attribute_swap.words(input_ids, permutation)
            regions = attribute_swap.regions(regions, permutation)
        words = mask_words(
            input_ids,
            generator,
            rate=settings.word_mask_rate,
            mask_id=self.tokenizer.mask_token_id,
            vocabulary_size=len(self.tokenizer),
        )
        groups = regions.attribute_ids.shape[1]
        other = int(generator.integers(len(corpus)))
        features, chosen = mask_regions(
            regions.features,
            generator,
            rate=settings.region_mask_rate,
            others=lambda: corpus.regions(other)[0].features,
            shares=settings.region_mask_shares,
        )
        # The model has one attribute head with one output. Sample one attribute group per region
        # so that all groups are learned.
        group = generator.integers(max(1, groups), size=len(regions))
        # The answer to a question about another image is unknown.
        answer = self._answer(corpus, index, generator) if matched else IGNORE_INDEX
        if attribute_swap is not None:
            answer = attribute_swap.answer(answer, permutation)
        return MaskedItem(
            input_ids=words.input_ids,
            labels=words.labels,
            features=features,
            true_features=regions.features,
            boxes=boxes,
            chosen=chosen,
            object_ids=regions.object_ids,
            object_scores=regions.object_scores,
            attribute_ids=regions.attribute_ids,
            attribute_scores=regions.attribute_scores,
            group=group,
            matched=int(matched),
            answer=answer,
        )

    def _answer(self, corpus: TextCorpus, index: int, generator: np.random.Generator) -> int:
        """Return the class of the target answer; in validation always the best one."""
        if corpus is self.validation:
            return self.valid_targets.best_id(index)
        if self.objectives.answer_choice == "best":
            return self.targets.best_id(index)
        classes, scores = self.targets.known(index)
        # Do not sample if there is only one answer or all scores are 0.
        if len(classes) < 2 or not scores.any():
            return self.targets.best_id(index)
        return int(generator.choice(classes, p=scores / scores.sum()))

    def collate(self, examples: Sequence[MaskedItem]) -> Batch:
        """Batch pairs, padded to the longest text and the most regions.

        Returns:
            `inputs`: the model's keyword arguments. Targets: `labels` `[batch, length]`;
            `true_features` `[batch, regions, dim]`; `chosen`, `object_ids`, `object_scores` and
            `group` `[batch, regions]`; `attribute_ids` and `attribute_scores`
            `[batch, regions, groups]`; `matched` and `answers` `[batch]`.
        """
        inputs = collate_inputs(
            [item.input_ids for item in examples],
            [item.features for item in examples],
            [item.boxes for item in examples],
            pad_id=self.tokenizer.pad_token_id,
        )
        chosen = [item.chosen for item in examples]
        object_ids = torch.from_numpy(pad([item.object_ids for item in examples]))
        attribute_ids = torch.from_numpy(pad([item.attribute_ids for item in examples]))
        header = self.training.store.header
        check_labels(object_ids, len(header.object_names), name="the object")
        check_labels(attribute_ids, max(1, len(header.attribute_names)), name="the attribute")
        return {
            "inputs": inputs,
            "labels": torch.from_numpy(pad([i.labels for i in examples], value=IGNORE_INDEX)),
            "true_features": torch.from_numpy(pad([item.true_features for item in examples])),
            "chosen": torch.from_numpy(pad(chosen)),
            "object_ids": object_ids,
            "object_scores": torch.from_numpy(pad([item.object_scores for item in examples])),
            "attribute_ids": attribute_ids,
            "attribute_scores": torch.from_numpy(pad([i.attribute_scores for i in examples])),
            "group": torch.from_numpy(pad([item.group for item in examples])),
            "matched": torch.tensor([item.matched for item in examples]),
            "answers": torch.tensor([item.answer for item in examples]),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count masked words, pairs, regions as the recipe says, and questions with an answer."""
        chosen = float(batch["chosen"].sum())
        labeled = float(self._labeled(batch).sum())
        if self.objectives.region_losses_over == "regions":
            chosen = labeled = float(batch["inputs"]["visual_attention_mask"].sum())
        counts = {
            "mask_lm": float((batch["labels"] != IGNORE_INDEX).sum()),
            "matched": float(len(batch["matched"])),
            "obj": labeled,
            "attr": labeled,
            "feat": chosen,
            "qa": float((batch["answers"] != IGNORE_INDEX).sum()),
        }
        return {name: counts[name] for name in self.loss_weights}

    def _labeled(self, batch: Batch) -> Tensor:
        """Return which objects and attributes are to be predicted, `[batch, regions]`."""
        if self.objectives.labeled_regions == "masked":
            return torch.as_tensor(batch["chosen"])
        return torch.as_tensor(batch["inputs"]["visual_attention_mask"]) > 0

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model on masked pairs; return sums over the targets of `counts`."""
        objects = attributes = self._labeled(batch).float()
        attribute_ids, attribute_scores = (
            _of_group(batch[name], batch["group"]) for name in ("attribute_ids", "attribute_scores")
        )
        if self.objectives.label_confidence:
            objects = objects * batch["object_scores"]
            attributes = attributes * attribute_scores
        output = model(
            **batch["inputs"],
            labels=batch["labels"],
            matched_label=batch["matched"],
            ans=batch["answers"],
            obj_labels={
                "obj": (batch["object_ids"], objects),
                "attr": (attribute_ids, attributes),
                "feat": (batch["true_features"], batch["chosen"]),
            },
            output_predictions=False,
        )
        return {name: output.loss_terms[name][0] for name in self.loss_weights}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Score each objective on validation pairs with fixed masks.

        Returns:
            For every objective `NAME_accuracy` and `NAME_chance`, the accuracy of always
            predicting the most frequent target; for features `feat_error` and `feat_chance`, the
            smooth-L1 distance of the prediction and of the mean feature. If several files have
            questions, also `qa_accuracy_FILE` for each.
        """
        rows = min(len(self.validation), limit or len(self.validation))
        order = np.random.default_rng(self.seed).permutation(len(self.validation))[:rows].tolist()
        metrics = PretrainingMetrics(NAMES)
        for part, batch, output in validation_outputs(
            self, order, batch_size=_VALIDATION_BATCH, device=device, output_predictions=True
        ):
            metrics.add(output, batch, [self.validation.examples.source(row) for row in part])
        return metrics.scores()

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        self.parts.save(folder)


def _of_group(values: Tensor, group: Tensor) -> Tensor:
    """Select one group of `[batch, regions, groups]` per region; zeros if there are none."""
    if not values.shape[2]:
        return values.new_zeros(group.shape)
    return values.gather(2, group[..., None])[..., 0]
