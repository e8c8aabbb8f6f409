"""Pretraining with five objectives at once: words, regions (two ways), matching and answers.

Source: paper section 3.1. Masked regions are predicted as features and as labels; the label is an
object class and an attribute, so that there are six losses.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.collate import check_labels, collate_inputs, pad
from lxmert.data.masking import mask_regions, mask_words
from lxmert.data.readers import read_captions, read_questions
from lxmert.data.store import RegionStore
from lxmert.model.pretraining import LxmertForPreTraining
from lxmert.schema import IGNORE_INDEX, Example, FloatArray, IntArray
from lxmert.tasks.starting import Wanted, begin
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import (
    ModelSettings,
    TextCorpus,
    check_same_extractor,
    check_several_images,
    load_eyes,
    other_text,
    save_model,
)

NAMES = ("mask_lm", "matched", "obj", "attr", "feat", "qa")
"""The losses: the pretraining model's own names."""

_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class PretrainingData:
    """Corpora of texts about pictures, and the regions of those pictures.

    Attributes:
        questions: JSONL files of questions with answers; a file that is listed twice counts twice.
        regions: region store of all training images.
        valid_questions: JSONL files of questions for validation.
        valid_regions: region store of all validation images.
        captions: JSONL files of captions.
        valid_captions: JSONL files of captions for validation.
        eyes: folder of the extractor that made the stores, to be saved with the model; absent: the
            model cannot be asked about pictures, only about regions.
    """

    questions: tuple[str, ...]
    regions: str
    valid_questions: tuple[str, ...]
    valid_regions: str
    captions: tuple[str, ...] = ()
    valid_captions: tuple[str, ...] = ()
    eyes: str | None = None


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is hidden and how much each loss counts.

    Attributes:
        weights: weight of each loss; 0 switches it off.
        word_mask_rate: share of the word pieces to predict.
        region_mask_rate: share of the regions to predict.
        mismatch_rate: share of the pairs that get the text of another image.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 1.0))
    word_mask_rate: float = 0.15
    region_mask_rate: float = 0.15
    mismatch_rate: float = 0.5

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(NAMES)
        if unknown:
            raise ValueError(f"unknown objective {min(unknown)!r}: expected {', '.join(NAMES)}")


@dataclass(frozen=True)
class PretrainingSettings:
    """The task's tables in a recipe: `[data]`, `[model]`, `[objectives]`."""

    data: PretrainingData
    model: ModelSettings = field(default_factory=ModelSettings)
    objectives: ObjectiveSettings = field(default_factory=ObjectiveSettings)


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
        object_scores: `[regions]`, the detector's confidence, which weighs the loss.
        attribute_ids: `[regions]`, of the first attribute group.
        attribute_scores: `[regions]`.
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
    matched: int
    answer: int


class PretrainingTask:
    """Masked words, masked regions (class, attribute, feature), matching and answering."""

    settings_type: ClassVar[type] = PretrainingSettings
    best_metric = "qa_accuracy"

    def __init__(self, settings: PretrainingSettings, *, seed: int) -> None:
        """Read the corpora, build the tokenizer and the answer list, and start a new model."""
        self.seed = seed
        self.objectives = settings.objectives
        data = settings.data
        store, valid_store = RegionStore(data.regions), RegionStore(data.valid_regions)
        names = NAMES if store.header.attribute_names else [n for n in NAMES if n != "attr"]
        self.loss_weights: Mapping[str, float] = {
            name: settings.objectives.weights.get(name, 0.0) for name in names
        }
        check_same_extractor(store, valid_store)
        self.eyes = load_eyes(data.eyes, store)
        training = _read(data.questions, data.captions)
        begun = begin(
            settings.model,
            Wanted(
                "pretraining",
                store,
                texts=lambda: (example.text for example in training),
                answers=lambda: AnswerVocabulary.build(e.answers for e in training).answers,
            ),
        )
        self.model: nn.Module = begun.model
        self.tokenizer, self.preprocessor = begun.tokenizer, begun.preprocessor
        self.answers = AnswerVocabulary.from_id2label(begun.model.config.id2label or {})
        length = self.preprocessor.max_text_length
        self.training = TextCorpus(training, store, self.tokenizer, max_text_length=length)
        self.validation = TextCorpus(
            _read(data.valid_questions, data.valid_captions),
            valid_store,
            self.tokenizer,
            max_text_length=length,
        )
        check_several_images(self.training, self.validation)

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> Item:
        """Return a training pair with the masks of this epoch."""
        return self._mask(self.training, index, np.random.default_rng([self.seed, epoch, index]))

    def _mask(self, corpus: TextCorpus, index: int, generator: np.random.Generator) -> Item:
        """Hide words and regions, and perhaps exchange the text."""
        matched = generator.random() >= self.objectives.mismatch_rate
        text = index if matched else other_text(corpus, index, generator)
        words = mask_words(
            corpus.token_ids[text],
            generator,
            rate=self.objectives.word_mask_rate,
            mask_id=self.tokenizer.mask_token_id,
            vocabulary_size=len(self.tokenizer),
        )
        regions, boxes = corpus.regions(index)
        others = corpus.regions(int(generator.integers(len(corpus))))[0].features
        features, chosen = mask_regions(
            regions.features, generator, rate=self.objectives.region_mask_rate, others=others
        )
        # A question about another image has no right answer here.
        answer = self.answers.best_id(corpus.examples[index].answers) if matched else IGNORE_INDEX
        return Item(
            input_ids=words.input_ids,
            labels=words.labels,
            features=features,
            true_features=regions.features,
            boxes=boxes,
            chosen=chosen,
            object_ids=regions.object_ids,
            object_scores=regions.object_scores,
            # The model has one attribute head: the first group stands for them all.
            attribute_ids=regions.attribute_ids[:, :1].sum(axis=1),
            attribute_scores=regions.attribute_scores[:, :1].sum(axis=1),
            matched=int(matched),
            answer=answer,
        )

    def collate(self, examples: Sequence[Item]) -> Batch:
        """Join pairs, padded to the longest text and the most regions.

        Returns:
            `inputs`: the model's keyword arguments. Targets: `labels` `[batch, length]`;
            `true_features` `[batch, regions, dim]`; `chosen`, `object_ids`, `object_scores`,
            `attribute_ids` and `attribute_scores` `[batch, regions]`; `matched` and `answers`
            `[batch]`.
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
            "matched": torch.tensor([item.matched for item in examples]),
            "answers": torch.tensor([item.answer for item in examples]),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count masked words, pairs, masked regions, and questions with an answer."""
        regions = float(batch["chosen"].sum())
        counts = {
            "mask_lm": float((batch["labels"] != IGNORE_INDEX).sum()),
            "matched": float(len(batch["matched"])),
            "obj": regions,
            "attr": regions,
            "feat": regions,
            "qa": float((batch["answers"] != IGNORE_INDEX).sum()),
        }
        return {name: counts[name] for name in self.loss_weights}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model on masked pairs; sums over the targets that `counts` counts."""
        chosen = batch["chosen"]
        output = model(
            **batch["inputs"],
            labels=batch["labels"],
            matched_label=batch["matched"],
            ans=batch["answers"],
            obj_labels={
                "obj": (batch["object_ids"], chosen * batch["object_scores"]),
                "attr": (batch["attribute_ids"], chosen * batch["attribute_scores"]),
                "feat": (batch["true_features"], chosen),
            },
            output_predictions=False,
        )
        return {name: output.loss_terms[name][0] for name in self.loss_weights}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Score each objective on validation pairs with fixed masks, beside what chance reaches.

        Returns:
            For every objective `NAME_accuracy` and `NAME_chance` (share right when the most
            frequent target is always given); for features `feat_error` and `feat_chance`, the
            smooth-L1 distance of the prediction and of the mean feature.
        """
        rows = min(len(self.validation), limit or len(self.validation))
        order = np.random.default_rng(self.seed).permutation(len(self.validation))[:rows]
        tally = _Tally()
        for start in range(0, rows, _VALIDATION_BATCH):
            items = [
                self._mask(self.validation, int(i), np.random.default_rng([self.seed, int(i)]))
                for i in order[start : start + _VALIDATION_BATCH]
            ]
            batch = self.collate(items)
            inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
            with torch.inference_mode():
                output = self.model(**inputs, output_predictions=True)
            tally.add(output, batch)
        return tally.scores()

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        assert isinstance(self.model, LxmertForPreTraining)
        save_model(folder, self.model, self.tokenizer, self.preprocessor, self.eyes)


class _Tally:
    """Collects predictions and targets of masked positions over validation batches."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.targets: dict[str, Counter[int]] = {name: Counter() for name in NAMES}
        self.errors: list[Tensor] = []
        self.features: list[Tensor] = []

    def add(self, output: Any, batch: Batch) -> None:
        """Count one batch."""
        chosen, masked = batch["chosen"], batch["labels"] != IGNORE_INDEX
        asked = batch["answers"] != IGNORE_INDEX
        scores = {
            "mask_lm": (output.prediction_logits.cpu()[masked], batch["labels"][masked]),
            "matched": (output.cross_relationship_score.cpu(), batch["matched"]),
            "obj": (output.object_logits.cpu()[chosen], batch["object_ids"][chosen]),
            "qa": (output.question_answering_score.cpu()[asked], batch["answers"][asked]),
        }
        if output.attribute_logits is not None:
            attributes = output.attribute_logits.cpu()[chosen]
            scores["attr"] = (attributes, batch["attribute_ids"][chosen])
        for name, (logits, targets) in scores.items():
            self.right[name] += int((logits.argmax(-1) == targets).sum())
            self.targets[name].update(targets.tolist())
        true = batch["true_features"][chosen]
        predicted = output.feature_predictions.cpu()[chosen].float()
        self.errors.append(nn.functional.smooth_l1_loss(predicted, true, reduction="none").mean(1))
        self.features.append(true)

    def scores(self) -> dict[str, float]:
        """Return accuracies and errors beside chance."""
        result = {}
        for name, targets in self.targets.items():
            total = sum(targets.values())
            if total:
                result[f"{name}_accuracy"] = self.right[name] / total
                result[f"{name}_chance"] = targets.most_common(1)[0][1] / total
        true = torch.cat(self.features)
        mean = true.mean(0, keepdim=True).expand_as(true)
        result["feat_error"] = float(torch.cat(self.errors).mean())
        result["feat_chance"] = float(nn.functional.smooth_l1_loss(mean, true))
        return result


def _read(questions: Sequence[str], captions: Sequence[str]) -> list[Example]:
    """Read all corpora in the order of the recipe."""
    examples = [example for path in questions for example in read_questions(path)]
    return examples + [example for path in captions for example in read_captions(path)]
