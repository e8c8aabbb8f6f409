"""Classifying statements about two images as true or false (NLVR2): fine-tuning and validation.

Source: paper section 4.2 and appendix on NLVR2; each image is encoded with the statement.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lxmert.data.collate import check_labels, collate_regions, collate_text
from lxmert.data.corpus import Corpus
from lxmert.data.modality import Modality, keep_regions, keep_text
from lxmert.metrics.nlvr2 import score_nlvr2, sentence_key
from lxmert.model import objectives
from lxmert.names import count
from lxmert.records import Items, Record
from lxmert.schema import FloatArray, IntArray, Regions
from lxmert.tasks.attribute_swap import make_attribute_swap
from lxmert.tasks.inputs import TextData
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import open_training, validation_outputs
from lxmert.tasks.texts import (
    ModelSettings,
    TextCorpus,
    draw_examples,
)

_VALIDATION_BATCH = 128

_TRUTHS = {"yes": 1, "true": 1, "no": 0, "false": 0}
"""Class id by lower-case answer; index 1 of the scores means true."""

_logger = logging.getLogger(__name__)


class PairsData(TextData):
    """Statements about two images each, and the regions of the images.

    Attributes:
        train: one or several JSONL files of training examples, each a statement about one pair of
            images: `images` with two entries, `question` with the statement, `answer` true or
            false.
        valid: the same for validation.
        regions: one or several region stores of the training images.
        valid_regions: one or several region stores of the validation images.
        extractor: folder of the extractor that made the stores, saved with the model.
        attribute_swap: values of one attribute, such as the colors, to swap at random in half of
            the training examples (`tasks.attribute_swap`); absent or empty: no swaps.
        limit: number of training examples to use, a random subset; absent: all.
        modality: `both`; or `text` or `image`, to train and validate on one of them alone.
    """

    attribute_swap: Items[str] = ()
    limit: PositiveInt | None = None
    modality: Modality = "both"


class PairsSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`."""

    data: PairsData
    model: ModelSettings = ModelSettings()


class StatementItem(NamedTuple):
    """A statement with the regions of its two images.

    Attributes:
        input_ids: `[length]`.
        features: of each image, `[regions, dim]`.
        boxes: of each image, `[regions, 4]`, normalized to `[0, 1]`.
        truth: 1 if the statement is true, else 0.
    """

    input_ids: IntArray
    features: tuple[FloatArray, FloatArray]
    boxes: tuple[FloatArray, FloatArray]
    truth: int


class PairsTask:
    """Predict whether a statement about two images is true."""

    settings_type: ClassVar[type[Record]] = PairsSettings
    best_metric = "accuracy"

    def __init__(self, settings: PairsSettings, *, seed: int) -> None:
        """Read the statements, and initialize a model from a checkpoint or randomly."""
        self.seed = seed
        data = settings.data
        self.modality = data.modality
        self.loss_weights: Mapping[str, float] = {"truth": 1.0}
        training, validation = (
            Corpus.read(files, strict=True) for files in (data.train, data.valid)
        )
        training = draw_examples(training, data.limit, seed=seed)
        self.truths = [read_truths(training), read_truths(validation)]
        files = data.train, data.valid
        self.parts = open_training(data, settings.model, "pairs", (training, validation), files)
        self.model: nn.Module = self.parts.model
        self.tokenizer = self.parts.tokenizer
        self.training, self.validation = self.parts.training, self.parts.validation
        self.attribute_swap = make_attribute_swap(
            data.attribute_swap, self.training, self.tokenizer
        )

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> StatementItem:
        """Return a training example, with the attribute swap of this epoch."""
        input_ids = self.training.token_ids[index]
        (left, left_boxes), (right, right_boxes) = _sides(self.training, index)
        if self.attribute_swap is not None:
            permutation = self.attribute_swap.draw(np.random.default_rng([self.seed, epoch, index]))
            input_ids = self.attribute_swap.words(input_ids, permutation)
            left, right = (self.attribute_swap.regions(side, permutation) for side in (left, right))
        features, boxes = (left.features, right.features), (left_boxes, right_boxes)
        return self._item(input_ids, features, boxes, self.truths[0].item(index))

    def validation_example(self, index: int) -> StatementItem:
        """Return a validation example."""
        (left, left_boxes), (right, right_boxes) = _sides(self.validation, index)
        features, boxes = (left.features, right.features), (left_boxes, right_boxes)
        input_ids = self.validation.token_ids[index]
        return self._item(input_ids, features, boxes, self.truths[1].item(index))

    def _item(
        self,
        input_ids: IntArray,
        features: tuple[FloatArray, FloatArray],
        boxes: tuple[FloatArray, FloatArray],
        truth: int,
    ) -> StatementItem:
        """Return an example without the modality that is left out."""
        left, right = (keep_regions(side, self.modality) for side in features)
        left_boxes, right_boxes = (keep_regions(side, self.modality) for side in boxes)
        return StatementItem(
            keep_text(input_ids, self.modality), (left, right), (left_boxes, right_boxes), truth
        )

    def collate(self, examples: Sequence[StatementItem]) -> Batch:
        """Batch examples: `inputs` are the model's keyword arguments, `truths` is `[batch]`."""
        regions = collate_regions(
            [features for item in examples for features in item.features],
            [boxes for item in examples for boxes in item.boxes],
        )
        # [batch * 2, ...] -> [batch, 2, ...]
        images = {
            name: value.reshape(len(examples), 2, *value.shape[1:])
            for name, value in regions.items()
        }
        text = collate_text(
            [item.input_ids for item in examples], pad_id=self.tokenizer.pad_token_id
        )
        truths = torch.tensor([item.truth for item in examples])
        check_labels(truths, 2, name="the statement")
        return {"inputs": text | images, "truths": truths}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the examples."""
        return {"truth": float(len(batch["truths"]))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model; return the cross-entropy summed over the examples."""
        logits = model(**batch["inputs"]).logits
        return {"truth": objectives.classification(logits, batch["truths"])[0]}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Classify the validation examples.

        Returns:
            `accuracy`; `majority`, the majority baseline; and, if the ids have NLVR2's form,
            `consistency`, the share of sentences whose examples are all classified correctly.
        """
        rows = range(min(len(self.validation), limit or len(self.validation)))
        predictions: list[int] = []
        for _, _, output in validation_outputs(
            self, rows, batch_size=_VALIDATION_BATCH, device=device
        ):
            predictions += output.logits.argmax(-1).tolist()
        return score_truths(
            [self.validation.examples.example_id(row) for row in rows],
            self.truths[1][: len(rows)].tolist(),
            predictions,
        )

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        self.parts.save(folder)


def read_truths(corpus: Corpus) -> IntArray:
    """Return whether each statement is true, `[examples]` of 1 and 0.

    Raises:
        ValueError: if an example is not about two images, or its answer is neither.
    """
    single = np.flatnonzero(corpus.image_pairs[:, 1] < 0)
    if len(single):
        raise ValueError(
            f"{count(len(single), 'statement')} about one image; the first is "
            f"{corpus.example_id(int(single[0]))!r} of {corpus.source(int(single[0]))}; expected "
            "two images, such as images = [left, right]"
        )
    truths = np.empty(len(corpus), dtype=np.int64)
    for row in range(len(corpus)):
        given = corpus.answers(row)
        known = {_TRUTHS.get(answer.lower(), -1) for answer in given}
        if known not in ({0}, {1}):
            raise ValueError(
                f"{corpus.source(row)}: the answer to {corpus.example_id(row)!r} is "
                f"{sorted(given)}; expected true or false (or yes or no)"
            )
        truths[row] = known.pop()
    return truths


def score_truths(
    identifiers: Sequence[str], truths: Sequence[int], predictions: Sequence[int]
) -> dict[str, float]:
    """Return the scores of `PairsTask.evaluate`; warn about constant predictions."""
    right = [truth == given for truth, given in zip(truths, predictions, strict=True)]
    share = sum(truths) / len(truths)
    scores = {"accuracy": sum(right) / len(right), "majority": max(share, 1 - share)}
    if len(set(predictions)) == 1 and len(set(truths)) == 2:
        _logger.warning(
            "all %d predictions are %s: accuracy %.4f is that of a constant prediction; check that "
            "pretrained weights are loaded (model.init_from) and that optim.lr is low enough",
            len(predictions),
            bool(predictions[0]),
            scores["accuracy"],
        )
    if all(map(_is_official, identifiers)) and len(set(identifiers)) == len(identifiers):
        official = score_nlvr2(
            {key: bool(truth) for key, truth in zip(identifiers, truths, strict=True)},
            {key: bool(given) for key, given in zip(identifiers, predictions, strict=True)},
        )
        scores["consistency"] = official["consistency"]
    return scores


def _is_official(identifier: str) -> bool:
    try:
        sentence_key(identifier)
    except ValueError:
        return False
    return True


def _sides(
    corpus: TextCorpus, index: int
) -> tuple[tuple[Regions, FloatArray], tuple[Regions, FloatArray]]:
    """Return the regions and normalized boxes of the left and of the right image."""
    return corpus.regions(index, 0), corpus.regions(index, 1)
