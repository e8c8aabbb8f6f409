"""Pretraining with five objectives at once: words, regions (two ways), matching and answers.

Source: paper section 3.1. Masked regions are predicted as features and as labels; the label is an
object class and an attribute, so that there are six losses.
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
from lxmert.data.collate import check_labels, collate_inputs, pad
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.masking import mask_regions, mask_words
from lxmert.model.answers import normalize_answer
from lxmert.model.pretraining import LxmertForPreTraining
from lxmert.names import count
from lxmert.records import Record
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.attribute_swap import make_attribute_swap
from lxmert.tasks.initialization import ModelSpec, initialize
from lxmert.tasks.pretraining_metrics import PretrainingMetrics
from lxmert.tasks.pretraining_settings import NAMES, PRESETS, PretrainingSettings
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import (
    TextCorpus,
    check_several_images,
    choose_question_types,
    load_eyes,
    open_stores,
    other_text,
    save_model,
)

_VALIDATION_BATCH = 256

_logger = logging.getLogger(__name__)


class Item(NamedTuple):
    """One masked pair of text and image, ready for collation.

    Attributes:
        input_ids: `[length]`, with masks.
        labels: `[length]`, the true word where one is to be predicted, else ignored.
        features: `[regions, dim]`, with masks.
        true_features: `[regions, dim]`, without.
        boxes: `[regions, 4]`, normalised to `[0, 1]`.
        chosen: `[regions]`, True where the region is to be predicted.
        object_ids: `[regions]`.
        object_scores: `[regions]`, the detector's confidence.
        attribute_ids: `[regions, groups]`.
        attribute_scores: `[regions, groups]`.
        group: `[regions]`, the attribute group that is asked for.
        matched: 1 if the text is about the image.
        answer: class id, or ignored.
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
        """Read the corpora, build the tokenizer and the answer list, and start a new model."""
        self.seed = seed
        self.objectives = settings.objectives
        data = settings.data
        store, valid_store = open_stores(data.regions, data.valid_regions)
        names = NAMES if store.header.attribute_names else [n for n in NAMES if n != "attr"]
        self.loss_weights: Mapping[str, float] = {
            name: settings.objectives.weights.get(name, 0.0) for name in names
        }
        self.extractor = load_eyes(data.extractor, store)
        corpus = Corpus.read(data.questions, captions=data.captions, strict=True)
        training = choose_question_types(corpus, data.question_types)
        begun = initialize(
            settings.model,
            ModelSpec(
                "pretraining",
                store,
                texts=corpus.texts,
                # Those of all question types: what starts from this model may be asked for any of them.
                answers=lambda: corpus.vocabulary().answers,
                answer_list=None if data.answers is None else read_answers(data.answers).answers,
            ),
        )
        self.model: nn.Module = begun.model
        begun.model.config.visual_feat_distance = settings.objectives.feature_distance
        self.tokenizer, self.preprocessor = begun.tokenizer, begun.preprocessor
        self.answers = AnswerVocabulary.from_id2label(begun.model.config.id2label or {})
        validation = choose_question_types(
            Corpus.read(data.valid_questions, captions=data.valid_captions, strict=True),
            data.question_types,
            name="validation",
        )
        self.training, self.validation = begun.read(
            (training, validation),
            (store, valid_store),
            ((*data.questions, *data.captions), (*data.valid_questions, *data.valid_captions)),
        )
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
                "%d of %s without an answer in the list: read as texts like captions",
                asked - known,
                count(asked, "question"),
            )
        answered = self.valid_targets.count_unknown() < len(self.validation)
        self.best_metric = "qa_accuracy" if answered else "mask_lm_accuracy"

    def _find_answers(self, corpus: TextCorpus) -> Targets:
        """Look up answers in the list: as they are, else in the form of the published list."""
        listed = set(self.answers.answers)
        return Targets(
            corpus.examples,
            self.answers,
            normalize=lambda answer: answer if answer in listed else normalize_answer(answer),
            collisions=self.objectives.colliding_answers,
        )

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> Item:
        """Return a training pair with the masks of this epoch."""
        return self._mask(self.training, index, np.random.default_rng([self.seed, epoch, index]))

    def _mask(self, corpus: TextCorpus, index: int, generator: np.random.Generator) -> Item:
        """Hide words and regions, perhaps of another text and with exchanged values."""
        settings = self.objectives
        # Other texts would only harm the other objectives where matching is not learned.
        spec = self.loss_weights["matched"] > 0
        matched = generator.random() >= settings.mismatch_rate or not spec
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
        # The model has one attribute head, which gives one answer. What is never asked for is lost
        # on the way through the layers, so that every group gets its turn.
        group = generator.integers(max(1, groups), size=len(regions))
        # A question about another image has no right answer here.
        answer = self._answer(corpus, index, generator) if matched else IGNORE_INDEX
        if attribute_swap is not None:
            answer = attribute_swap.answer(answer, permutation)
        return Item(
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
        """Return the class of the answer to train; in validation always the best one."""
        if corpus is self.validation:
            return self.valid_targets.best_id(index)
        if self.objectives.answer_choice == "best":
            return self.targets.best_id(index)
        classes, scores = self.targets.known(index)
        # One answer takes nothing from the generator; scores of 0 only leave nothing to draw.
        if len(classes) < 2 or not scores.any():
            return self.targets.best_id(index)
        return int(generator.choice(classes, p=scores / scores.sum()))

    def collate(self, examples: Sequence[Item]) -> Batch:
        """Join pairs, padded to the longest text and the most regions.

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
        labelled = float(self._labelled(batch).sum())
        if self.objectives.region_losses_over == "regions":
            chosen = labelled = float(batch["inputs"]["visual_attention_mask"].sum())
        counts = {
            "mask_lm": float((batch["labels"] != IGNORE_INDEX).sum()),
            "matched": float(len(batch["matched"])),
            "obj": labelled,
            "attr": labelled,
            "feat": chosen,
            "qa": float((batch["answers"] != IGNORE_INDEX).sum()),
        }
        return {name: counts[name] for name in self.loss_weights}

    def _labelled(self, batch: Batch) -> Tensor:
        """Tell whose object and attribute are to be predicted, `[batch, regions]`."""
        if self.objectives.labelled_regions == "masked":
            return torch.as_tensor(batch["chosen"])
        return torch.as_tensor(batch["inputs"]["visual_attention_mask"]) > 0

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model on masked pairs; sums over the targets that `counts` counts."""
        objects = attributes = self._labelled(batch).float()
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
        """Score each objective on validation pairs with fixed masks, beside what chance reaches.

        Returns:
            For every objective `NAME_accuracy` and `NAME_chance` (share right when the most
            frequent target is always given); for features `feat_error` and `feat_chance`, the
            smooth-L1 distance of the prediction and of the mean feature. Where several files have
            questions, also `qa_accuracy_FILE` for each.
        """
        rows = min(len(self.validation), limit or len(self.validation))
        order = np.random.default_rng(self.seed).permutation(len(self.validation))[:rows]
        metrics = PretrainingMetrics(NAMES)
        for start in range(0, rows, _VALIDATION_BATCH):
            indices = order[start : start + _VALIDATION_BATCH].tolist()
            generators = [np.random.default_rng([self.seed, index]) for index in indices]
            batch = self.collate(
                [
                    self._mask(self.validation, index, generator)
                    for index, generator in zip(indices, generators, strict=True)
                ]
            )
            sources = [self.validation.examples.source(index) for index in indices]
            inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
            with torch.inference_mode():
                output = self.model(**inputs, output_predictions=True)
            metrics.add(output, batch, sources)
        return metrics.scores()

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        assert isinstance(self.model, LxmertForPreTraining)
        save_model(folder, self.model, self.tokenizer, self.preprocessor, self.extractor)


def _of_group(values: Tensor, group: Tensor) -> Tensor:
    """Take one of `[batch, regions, groups]` for each region; zeros where there are no groups."""
    if not values.shape[2]:
        return values.new_zeros(group.shape)
    return values.gather(2, group[..., None])[..., 0]
