"""Answering questions about images (VQA, GQA): fine-tuning and validation.

Source: paper section 4.2; soft scores are trained with binary cross-entropy over all answers.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lxmert.data.answer_lists import read_answers
from lxmert.data.answers import AnswerVocabulary
from lxmert.data.collate import check_labels, collate_inputs
from lxmert.data.corpus import Corpus, Targets
from lxmert.model import objectives
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import count
from lxmert.records import Items, Record
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.attribute_swap import make_attribute_swap
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.initialization import ModelSpec, initialize
from lxmert.tasks.inputs import File, Files
from lxmert.tasks.metrics import OVERALL, accuracy_by_question_type
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import (
    ModelSettings,
    choose_question_types,
    draw_examples,
    load_eyes,
    open_stores,
    save_model,
)

_VALIDATION_BATCH = 256

_logger = logging.getLogger(__name__)


class AnsweringData(Record):
    """Questions with answers, and the regions of their images.

    Attributes:
        train: JSONL file, or several, of training questions.
        valid: JSONL file, or several, of validation questions.
        regions: region store, or several, of the training images.
        valid_regions: region store, or several, of the validation images.
        extractor: folder of the extractor that made the stores, to be saved with the model.
        answers: list of the answers to choose from, such as `trainval_label2ans.json`; absent:
            those of the start, or all of the training questions.
        targets: `soft` trains the score of every answer (binary cross-entropy, as published);
            `single` trains the best answer (cross-entropy), for data with one right answer.
        question_types: types of questions to train on and to be scored by, such as simple ones first;
            absent: all. Questions without a type stay.
        attribute_swap: values of one attribute, such as the colors, that are exchanged for one another at
            random in half of the training examples, so that none is taken for a hint of what it is
            seen with (`tasks.exchange`); absent or empty: none.
        limit: training questions to use, drawn at random by the seed; absent: all.
    """

    train: Files
    valid: Files
    regions: Files
    valid_regions: Files
    extractor: File | None = None
    answers: File | None = None
    targets: Literal["soft", "single"] = "soft"
    question_types: Items[str] | None = None
    attribute_swap: Items[str] = ()
    limit: PositiveInt | None = None


class AnsweringSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`."""

    data: AnsweringData
    model: ModelSettings = ModelSettings()


class Item(NamedTuple):
    """One question with its image.

    Attributes:
        input_ids: `[length]`.
        features: `[regions, dim]`.
        boxes: `[regions, 4]`, normalised to `[0, 1]`.
        target: class id, or the score of each answer, `[answers]`.
    """

    input_ids: IntArray
    features: FloatArray
    boxes: FloatArray
    target: int | FloatArray


class AnsweringTask:
    """Choose the answer to a question about an image from a list."""

    settings_type: ClassVar[type[Record]] = AnsweringSettings
    best_metric = OVERALL

    def __init__(self, settings: AnsweringSettings, *, seed: int) -> None:
        """Read the questions and start from a pretrained model, or from nothing."""
        self.seed = seed
        data = settings.data
        store, valid_store = open_stores(data.regions, data.valid_regions)
        self.single = data.targets == "single"
        self.loss_weights: Mapping[str, float] = {"qa": 1.0}
        training, validation = (
            Corpus.read(files, strict=True) for files in (data.train, data.valid)
        )
        training = choose_question_types(training, data.question_types)
        validation = choose_question_types(validation, data.question_types, name="validation")
        training = draw_examples(training, data.limit, seed=seed)
        listed = None if data.answers is None else read_answers(data.answers).answers
        begun = initialize(
            settings.model,
            ModelSpec(
                "answering",
                store,
                texts=training.texts,
                answers=lambda: training.vocabulary().answers,
                answer_list=listed,
            ),
        )
        self.model: nn.Module = begun.model
        self.tokenizer, self.preprocessor = begun.tokenizer, begun.preprocessor
        self.answers = AnswerVocabulary.from_id2label(begun.model.config.id2label or {})
        self.extractor = load_eyes(data.extractor, store)
        self.targets = [Targets(corpus, self.answers) for corpus in (training, validation)]
        self._report_unknown(training)
        self.baselines = Baselines.learn(training).to_text()
        self.training, self.validation = begun.read(
            (training, validation),
            (store, valid_store),
            (data.train, data.valid),
        )
        self.attribute_swap = make_attribute_swap(
            data.attribute_swap, self.training, self.tokenizer, self.answers.answers
        )

    def _report_unknown(self, training: Corpus) -> None:
        """Say how many questions have no answer that the model can give.

        Raises:
            ValueError: if none has one.
        """
        unknown = self.targets[0].unknown()
        if not len(unknown):
            return
        first = training.answers(int(unknown[0]))
        if len(unknown) == len(training):
            raise ValueError(
                f"none of the {count(len(training), 'question')} has an answer that the model can give, the "
                f"first is {first}: start from a model that knows them, or set data.answers"
            )
        _logger.warning(
            "%d of %s without an answer that the model can give, the first is %s",
            len(unknown),
            count(len(training), "question"),
            first,
        )

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> Item:
        """Return a training question, with the exchange of this epoch."""
        input_ids = self.training.token_ids[index]
        regions, boxes = self.training.regions(index)
        target = self._target(self.targets[0], index)
        if self.attribute_swap is not None:
            permutation = self.attribute_swap.draw(np.random.default_rng([self.seed, epoch, index]))
            input_ids = self.attribute_swap.words(input_ids, permutation)
            regions = self.attribute_swap.regions(regions, permutation)
            target = self.attribute_swap.answer(target, permutation)
        return Item(input_ids, regions.features, boxes, target)

    def _validation_item(self, index: int) -> Item:
        regions, boxes = self.validation.regions(index)
        target = self._target(self.targets[1], index)
        return Item(self.validation.token_ids[index], regions.features, boxes, target)

    def _target(self, targets: Targets, index: int) -> int | FloatArray:
        return targets.best_id(index) if self.single else targets.scores(index)

    def collate(self, examples: Sequence[Item]) -> Batch:
        """Join questions: `inputs` are the model's keyword arguments, `targets` the answers."""
        inputs = collate_inputs(
            [item.input_ids for item in examples],
            [item.features for item in examples],
            [item.boxes for item in examples],
            pad_id=self.tokenizer.pad_token_id,
        )
        targets = torch.stack([torch.as_tensor(item.target) for item in examples])
        check_labels(targets, len(self.answers), name="the answer")
        return {"inputs": inputs, "targets": targets}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the questions; with single targets, those whose answer is in the list."""
        targets = batch["targets"]
        return {"qa": float((targets != IGNORE_INDEX).sum() if self.single else len(targets))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model; the loss summed over the questions."""
        logits = model(**batch["inputs"]).question_answering_score
        return {"qa": objectives.answering(logits, batch["targets"])[0]}

    def evaluate(self, *, device: str, limit: PositiveInt | None = None) -> dict[str, float]:
        """Return the accuracy on validation questions, and that of guesses without an image.

        Returns:
            `overall`, each question type, and the `blind.GUESSES` overall.
        """
        rows = min(len(self.validation), limit or len(self.validation))
        predictions: list[str] = []
        for start in range(0, rows, _VALIDATION_BATCH):
            indices = range(start, min(start + _VALIDATION_BATCH, rows))
            batch = self.collate([self._validation_item(index) for index in indices])
            inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
            with torch.inference_mode():
                logits = self.model(**inputs).question_answering_score
            predictions += [self.answers.answers[i] for i in logits.argmax(-1).tolist()]
        examples = self.validation.examples[:rows]
        baselines = Baselines.from_text(self.baselines).scores(examples)
        return accuracy_by_question_type(examples, predictions) | {
            name: scores[OVERALL] for name, scores in baselines.items()
        }

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        assert isinstance(self.model, LxmertForQuestionAnswering)
        save_model(
            folder, self.model, self.tokenizer, self.preprocessor, self.extractor, self.baselines
        )
