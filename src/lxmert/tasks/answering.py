"""Visual question answering (VQA, GQA): fine-tuning and validation.

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
from lxmert.data.modality import Modality, keep_regions, keep_text
from lxmert.data.question_kinds import QuestionKinds, answer_priors
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import count
from lxmert.records import Items, Positive, Record
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.answering_objectives import (
    WITHOUT_ANSWERS,
    Adversarial,
    AnsweringObjectives,
    Debiased,
    Distilled,
    Objective,
    Plain,
    load_alike,
)
from lxmert.tasks.attribute_swap import make_attribute_swap
from lxmert.tasks.baselines import Baselines, scores_beside_baselines
from lxmert.tasks.inputs import File, TextData
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.mixture import mix
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import open_training, validation_outputs
from lxmert.tasks.texts import (
    ModelSettings,
    choose_question_types,
    draw_examples,
)

_VALIDATION_BATCH = 256

_logger = logging.getLogger(__name__)


class AnsweringData(TextData):
    """Questions with answers, and the regions of their images.

    Attributes:
        train: one or several JSONL files of training questions.
        valid: one or several JSONL files of validation questions.
        regions: one or several region stores of the training images.
        valid_regions: one or several region stores of the validation images.
        extractor: folder of the extractor that made the stores, saved with the model.
        answers: list of the answers to choose from, such as `trainval_label2ans.json`; absent:
            those of `model.init_from`, or all answers of the training questions.
        targets: `soft` trains the score of every answer (binary cross-entropy, as published);
            `single` trains the best answer (cross-entropy), for data with one correct answer.
        question_types: question types to train and validate on; absent: all. Questions without a
            type are kept.
        attribute_swap: values of one attribute, such as the colors, to swap at random in half of
            the training examples (`tasks.attribute_swap`); absent or empty: no swaps.
        limit: number of training questions to use, a random subset; absent: all.
        mix: weight of each training file by its name without folder and suffix, such as
            `{vqa = 2, gqa = 1}`: the files are drawn by weight, and an epoch has as many draws as
            there are examples; absent: every example is drawn once in an epoch.
        modality: `both`; or `text` or `image`, to train and validate on one of them alone.
    """

    answers: File | None = None
    targets: Literal["soft", "single"] = "soft"
    question_types: Items[str] | None = None
    attribute_swap: Items[str] = ()
    limit: PositiveInt | None = None
    mix: dict[str, Positive] | None = None
    modality: Modality = "both"


class AnsweringSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`, `[objectives]`."""

    data: AnsweringData
    model: ModelSettings = ModelSettings()
    objectives: AnsweringObjectives = AnsweringObjectives()


class QuestionItem(NamedTuple):
    """A question with the regions of its image.

    Attributes:
        input_ids: `[length]`.
        features: `[regions, dim]`.
        boxes: `[regions, 4]`, normalized to `[0, 1]`.
        target: class id of the answer, or the score of each answer, `[answers]`.
        kind: kind of the question, for losses against priors.
    """

    input_ids: IntArray
    features: FloatArray
    boxes: FloatArray
    target: int | FloatArray
    kind: int


class AnsweringTask:
    """Choose the answer to a question about an image from a list."""

    settings_type: ClassVar[type[Record]] = AnsweringSettings
    best_metric = OVERALL

    def __init__(self, settings: AnsweringSettings, *, seed: int) -> None:
        """Read the questions, and initialize a model from a checkpoint or randomly."""
        self.seed = seed
        data = settings.data
        self.single = data.targets == "single"
        self.modality = data.modality
        training, validation = (
            Corpus.read(files, strict=True) for files in (data.train, data.valid)
        )
        training = choose_question_types(training, data.question_types)
        validation = choose_question_types(validation, data.question_types, name="validation")
        training = draw_examples(training, data.limit, seed=seed)
        self.parts = open_training(
            data,
            settings.model,
            "answering",
            (training, validation),
            (data.train, data.valid),
            answers=lambda: training.vocabulary().answers,
            answer_list=None if data.answers is None else read_answers(data.answers).answers,
        )
        self.tokenizer = self.parts.tokenizer
        self.training, self.validation = self.parts.training, self.parts.validation
        self.answers = AnswerVocabulary.from_id2label(self.parts.model.config.id2label or {})
        self.targets = [Targets(corpus, self.answers) for corpus in (training, validation)]
        self.mixture = mix(training, data.mix)
        self._report_unknown(training)
        self.baselines = Baselines.learn(training).to_text()
        self.attribute_swap = make_attribute_swap(
            data.attribute_swap, self.training, self.tokenizer, self.answers.answers
        )
        self.objective = self._make_objective(settings.objectives, training)
        self.model = self.objective.model
        self.loss_weights: Mapping[str, float] = self.objective.weights

    def _make_objective(self, settings: AnsweringObjectives, training: Corpus) -> Objective:
        """Return what is minimized; for losses against priors, count the answers of each kind."""
        model = self.parts.model
        assert isinstance(model, LxmertForQuestionAnswering)
        self.kinds = np.zeros(len(training), np.int64)
        if settings.teacher is not None:
            teacher = load_alike(
                settings.teacher,
                model,
                self.tokenizer,
                setting="objectives.teacher",
                remedy="set data.answers and model.tokenizer to those of the teacher",
            )
            return Distilled(settings, model, teacher)
        if settings.debias is None:
            return Adversarial(settings, model) if settings.adversarial_steps else Plain(model)
        kinds = QuestionKinds(training.texts())
        self.kinds = np.array([kinds.place(text) for text in training.texts()])
        scores = (self.targets[0].scores(index) for index in range(len(training)))
        return Debiased(settings, model, answer_priors(self.kinds, scores, len(kinds.names)))

    def _report_unknown(self, training: Corpus) -> None:
        """Log how many questions have no answer in the answer list of the model.

        Raises:
            ValueError: if no question has one.
        """
        unknown = self.targets[0].unknown()
        if not len(unknown):
            return
        first = training.answers(int(unknown[0]))
        if len(unknown) == len(training):
            raise ValueError(
                f"none of the {count(len(training), 'question')} has an answer in the model's "
                f"list; the first answer is {first}: set data.answers to another list, or "
                "model.init_from to a model with these answers"
            )
        _logger.warning(
            "%d of %s have no answer in the model's list; the first answer is %s",
            len(unknown),
            count(len(training), "question"),
            first,
        )

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> QuestionItem:
        """Return a training question, with the attribute swap of this epoch."""
        input_ids = self.training.token_ids[index]
        regions, boxes = self.training.regions(index)
        target = self._target(self.targets[0], index)
        if self.attribute_swap is not None:
            permutation = self.attribute_swap.draw(np.random.default_rng([self.seed, epoch, index]))
            input_ids = self.attribute_swap.words(input_ids, permutation)
            regions = self.attribute_swap.regions(regions, permutation)
            target = self.attribute_swap.answer(target, permutation)
        return self._item(input_ids, regions.features, boxes, target, self.kinds.item(index))

    def validation_example(self, index: int) -> QuestionItem:
        """Return a validation question."""
        regions, boxes = self.validation.regions(index)
        target = self._target(self.targets[1], index)
        return self._item(self.validation.token_ids[index], regions.features, boxes, target)

    def _item(
        self,
        input_ids: IntArray,
        features: FloatArray,
        boxes: FloatArray,
        target: int | FloatArray,
        kind: int = 0,
    ) -> QuestionItem:
        """Return an example without the modality that is left out."""
        return QuestionItem(
            keep_text(input_ids, self.modality),
            keep_regions(features, self.modality),
            keep_regions(boxes, self.modality),
            target,
            kind,
        )

    def _target(self, targets: Targets, index: int) -> int | FloatArray:
        return targets.best_id(index) if self.single else targets.scores(index)

    def collate(self, examples: Sequence[QuestionItem]) -> Batch:
        """Batch questions.

        Returns:
            `inputs`, the model's keyword arguments; `targets`, the answers; `kinds`.
        """
        inputs = collate_inputs(
            [item.input_ids for item in examples],
            [item.features for item in examples],
            [item.boxes for item in examples],
            pad_id=self.tokenizer.pad_token_id,
        )
        targets = torch.stack([torch.as_tensor(item.target) for item in examples])
        check_labels(targets, len(self.answers), name="the answer")
        kinds = torch.tensor([item.kind for item in examples])
        return {"inputs": inputs, "targets": targets, "kinds": kinds}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the questions; for losses of answers, those whose answer is in the list."""
        answered, asked = count_answered(batch["targets"]), float(len(batch["targets"]))
        return {n: asked if n in WITHOUT_ANSWERS else answered for n in self.loss_weights}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model; return the losses of the objective, summed over the questions."""
        return self.objective.losses(model, batch)

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Return the accuracy on validation questions, and that of the baselines.

        Returns:
            `overall`, each question type, and each of `baselines.BASELINES` overall.
        """
        rows = range(min(len(self.validation), limit or len(self.validation)))
        predictions: list[str] = []
        for _, _, output in validation_outputs(
            self, rows, batch_size=_VALIDATION_BATCH, device=device
        ):
            best = output.question_answering_score.argmax(-1).tolist()
            predictions += [self.answers.answers[answer] for answer in best]
        examples = self.validation.examples[: len(rows)]
        return scores_beside_baselines(examples, predictions, self.baselines)

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        self.parts.save(folder, self.baselines)


def count_answered(targets: Tensor) -> float:
    """Count targets: rows of scores `[questions, answers]`, or known class ids `[questions]`."""
    return float((targets != IGNORE_INDEX).sum() if targets.dim() == 1 else len(targets))
