"""Pretraining on drawings: answers, words matched to cells, and guided attention.

The result is a model folder with a trained grid extractor, from which custom data can start. All
drawings are made while training, so that none is seen twice. Legend: `group` drawings of one size.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from pydantic import PositiveInt
from torch import Tensor, nn

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.collate import collate_text
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokens import token_ids
from lxmert.images import Pixels
from lxmert.lab.drawings.drawing import Drawing, IntArray, arrange, render
from lxmert.lab.drawings.grounding import (
    WORDS,
    Mention,
    find_mentions,
    match_words,
    matching_count,
    matching_loss,
)
from lxmert.lab.drawings.questions import TRUTHS, DrawingQuestion, ask_about
from lxmert.lab.drawings.shapes import COLORS, SHAPES
from lxmert.model import objectives
from lxmert.model.guidance import attention_loss, first_cross_attention
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.records import Probability, Record
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.tasks.custom_start import start_grid_model
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import save_model
from lxmert.tasks.texts import ModelSettings
from lxmert.train.loop import check_finished, train
from lxmert.train.recipes import read_recipe

RECIPE = Path(__file__).parent / "recipe.toml"

_SIZES = {(96, 96): 0.3, (128, 128): 0.25, (96, 128): 0.2, (64, 192): 0.15, (64, 256): 0.1}
"""Height and width of drawings in pixels, and how frequent they are."""

_STATEMENTS = 0.4
"""Share of the drawings about which statements are made instead of questions with yes or no."""

_BOX_SCALE = 4.0
"""Factor of the initial weights of boxes, whose embeddings are normalized."""

_WORDS, _VALID, _TRAIN = range(3)
"""What a drawing is for; part of its seed."""


class DrawingsData(Record):
    """The drawings.

    Attributes:
        groups: groups of an epoch; only the unit of `optim.epochs` and `few_truths`, as no drawing
            is seen twice.
        drawings: drawings of a group, which all have one size.
        questions: maximum number of questions about a drawing in training.
        few_truths: epochs in which questions with yes and no, and statements, are rarer: they teach
            little before words are grounded.
        truths_left_out: share of the drawings without them at the beginning; it falls to 0.
        valid_groups: groups for validation, with all questions.
        word_drawings: drawings whose questions give the words and answers of the model.
    """

    groups: PositiveInt = 1000
    drawings: PositiveInt = 14
    questions: PositiveInt = 12
    few_truths: PositiveInt = 2
    truths_left_out: Probability = 0.6
    valid_groups: PositiveInt = 20
    word_drawings: PositiveInt = 2000


class DrawingsSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`."""

    data: DrawingsData = DrawingsData()
    model: ModelSettings = ModelSettings()


class GroupItem(NamedTuple):
    """Drawings of one size with their questions.

    Attributes:
        pixels: `[drawings, height, width, 3]` uint8 RGB.
        colors: `[drawings, cells]`, as `Drawing.cells` returns them.
        shapes: `[drawings, cells]`, likewise.
        owners: the drawing of each question.
        asked: the questions.
        names: a word for each color and each shape.
    """

    pixels: Pixels
    colors: IntArray
    shapes: IntArray
    owners: list[int]
    asked: list[DrawingQuestion]
    names: list[str]


class Grounded(NamedTuple):
    """What a model says about a group.

    Attributes:
        answers: `[questions, answers]` scores.
        colors: `[drawings, cells, 1 + colors]` scores.
        shapes: `[drawings, cells, 1 + shapes]` scores.
        attention: the loss of the attention, summed over mentions.
    """

    answers: Tensor
    colors: Tensor
    shapes: Tensor
    attention: Tensor


class GroundedModel(nn.Module):
    """A grid extractor and a question-answering model, with what the losses of grounding need."""

    def __init__(self, extractor: GridNetwork, model: LxmertForQuestionAnswering) -> None:
        super().__init__()
        self.extractor, self.model = extractor, model
        self.nothing = nn.Parameter(torch.randn(2, model.config.hidden_size) * 0.05)

    @torch.no_grad()
    def prepare(self) -> None:
        """Change random weights so that words are compared with cells and places are kept."""
        # Words and cells are compared: the same projection of both is a better start than two.
        attention = first_cross_attention(self.model.lxmert)
        attention.key.load_state_dict(attention.query.state_dict())
        # Larger weights change more slowly. Otherwise the losses of grounding, which need no
        # places, make the embeddings of all boxes equal before a question asks for a place.
        for weight in self.model.lxmert.encoder.visn_fc.box_fc.parameters():
            weight.mul_(_BOX_SCALE)

    def forward(
        self,
        pixels: Tensor,
        owners: Tensor,
        names: Tensor,
        mentions: Tensor,
        named: Tensor,
        text: Mapping[str, Tensor],
    ) -> Grounded:
        """Score answers, and colors and shapes of cells; compute the loss of the attention.

        Args:
            pixels: `[drawings, height, width, 3]` uint8 RGB.
            owners: `[questions]`, the drawing of each question.
            names: `[colors + shapes]` token ids.
            mentions: `[mentions, 2]`, the question and the position in its text.
            named: `[mentions, cells]` bool.
            text: as `collate_text` returns it.
        """
        encoder = self.model.lxmert
        image = encoder.encode_image(*self.extractor(pixels))
        words = encoder.encode_text(**text)  # type: ignore[arg-type]
        own = image.take(owners)
        cells = image.last_hidden_state
        known = encoder.embeddings.word_embeddings(names)
        colors, shapes = known.split([len(COLORS), len(SHAPES)])
        questions, positions = mentions.T
        return Grounded(
            self.model(encoded_text=words, encoded_image=own)[0],
            match_words(cells, colors, self.nothing[0]),
            match_words(cells, shapes, self.nothing[1]),
            attention_loss(
                first_cross_attention(encoder),
                words.last_hidden_state[questions, positions],
                own.last_hidden_state[questions],
                named,
            ),
        )


class DrawingsTask:
    """Train a grid extractor and a model on drawings whose content is known."""

    settings_type: ClassVar[type[Record]] = DrawingsSettings
    best_metric = OVERALL

    def __init__(self, settings: DrawingsSettings, *, seed: int) -> None:
        """Collect the words and answers of many questions, and initialize the model."""
        self.settings, self.seed = settings, seed
        self.loss_weights: Mapping[str, float] = {"qa": 1.0, "matching": 0.5, "attention": 0.5}
        drawings = range(settings.data.word_drawings)
        asked = [each for index in drawings for each in self._ask(_WORDS, index)]
        self.answers = AnswerVocabulary(sorted({each.answer for each in asked}))
        texts = [each.text for each in asked]
        texts += [word for words in WORDS.values() for word in words]
        size = GridConfig().height, GridConfig().width
        started = start_grid_model(settings.model, texts, self.answers, image_size=size)
        self.tokenizer, self.stride = started.tokenizer, started.extractor.config.stride
        self.model: nn.Module = GroundedModel(started.extractor, started.model)
        if settings.model.init_from is None:
            self.model.prepare()

    def __len__(self) -> int:
        return self.settings.data.groups

    def example(self, index: int, epoch: int) -> GroupItem:
        """Draw a group; some drawings get no questions about truths, fewer in every epoch."""
        data = self.settings.data
        share = data.truths_left_out * max(0.0, 1 - epoch / data.few_truths)
        return self._group(
            np.random.default_rng([self.seed, _TRAIN, epoch, index]), data.questions, share
        )

    def _ask(self, purpose: int, index: int) -> list[DrawingQuestion]:
        """Ask about a drawing that is not rendered."""
        generator = np.random.default_rng([self.seed, purpose, index])
        return _ask(generator, arrange(generator, 96, 128), 16)

    def _group(
        self, generator: np.random.Generator, most: int, truths_left_out: float = 0.0
    ) -> GroupItem:
        """Draw a group with at most some questions about each drawing."""
        sizes = list(_SIZES)
        height, width = sizes[generator.choice(len(sizes), p=list(_SIZES.values()))]
        drawings = [arrange(generator, height, width) for _ in range(self.settings.data.drawings)]
        owners: list[int] = []
        asked: list[DrawingQuestion] = []
        for number, drawing in enumerate(drawings):
            some = _ask(generator, drawing, most)
            if generator.random() < truths_left_out:
                some = [each for each in some if each.answer not in TRUTHS]
            owners += [number] * len(some)
            asked += some
        cells = [drawing.cells(self.stride) for drawing in drawings]
        return GroupItem(
            np.stack([render(generator, drawing) for drawing in drawings]),
            np.stack([colors.ravel() for colors, _ in cells]),
            np.stack([shapes.ravel() for _, shapes in cells]),
            owners,
            asked,
            [words[generator.integers(len(words))] for words in WORDS.values()],
        )

    def collate(self, examples: Sequence[GroupItem]) -> Batch:
        """Batch a group.

        Returns:
            `inputs`, the arguments of `GroundedModel.forward`; `answers` `[questions]`; `colors`
            and `shapes`, `[drawings, cells]`.

        Raises:
            ValueError: for several groups, whose drawings differ in size.
        """
        if len(examples) > 1:
            raise ValueError(
                f"got {len(examples)} groups in a micro-batch, expected one: set optim.batch_size "
                "to the number of processes times loop.micro_batches"
            )
        (item,) = examples
        ids = token_ids([each.text for each in item.asked], self.tokenizer)
        found = list(self._mentions(item, ids))
        known = self.tokenizer.get_vocab()
        inputs = {
            "pixels": torch.from_numpy(item.pixels),
            "owners": torch.tensor(item.owners, dtype=torch.int64),
            "names": torch.tensor([known[name] for name in item.names]),
            "mentions": torch.tensor([(row, mention.position) for row, mention in found]),
            "named": torch.from_numpy(np.stack([mention.cells for _, mention in found])),
            "text": collate_text(
                [np.array(row, dtype=np.int64) for row in ids], pad_id=self.tokenizer.pad_token_id
            ),
        }
        answers = [self.answers.best_id({each.answer: 1.0}) for each in item.asked]
        return {
            "inputs": inputs,
            "answers": torch.tensor(answers),
            "colors": torch.from_numpy(item.colors),
            "shapes": torch.from_numpy(item.shapes),
        }

    def _mentions(
        self, item: GroupItem, ids: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, Mention]]:
        """Yield the question and each of its mentions."""
        for row, (owner, tokens) in enumerate(zip(item.owners, ids, strict=True)):
            words = self.tokenizer.convert_ids_to_tokens(list(tokens))
            for mention in find_mentions(words, item.colors[owner], item.shapes[owner]):
                yield row, mention

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count questions, cells by their weight, and mentions."""
        return {
            "qa": float((batch["answers"] >= 0).sum()),
            "matching": matching_count(batch["colors"]),
            "attention": float(len(batch["inputs"]["mentions"])),
        }

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the losses, summed over questions, cells by their weight, and mentions."""
        said: Grounded = model(**batch["inputs"])
        return {
            "qa": objectives.answering(said.answers, batch["answers"])[0],
            "matching": matching_loss(said.colors, batch["colors"])
            + matching_loss(said.shapes, batch["shapes"]),
            "attention": said.attention,
        }

    @cached_property
    def validation(self) -> list[GroupItem]:
        """Groups for validation, which training does not draw."""
        groups = range(self.settings.data.valid_groups)
        return [self._group(np.random.default_rng([self.seed, _VALID, g]), 16) for g in groups]

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Return the accuracy on new drawings, overall and by question type.

        Args:
            device: where the model is.
            limit: maximum number of groups; None: all.
        """
        right: dict[str, list[bool]] = defaultdict(list)
        for item in self.validation[:limit]:
            batch = self.collate([item])
            with torch.inference_mode():
                said: Grounded = self.model(**send_to_device(batch["inputs"], device))
            answers = said.answers.argmax(-1).cpu()
            for each, is_right in zip(item.asked, answers == batch["answers"], strict=True):
                right[OVERALL].append(bool(is_right))
                right[each.question_type].append(bool(is_right))
        return {name: sum(values) / len(values) for name, values in right.items()}

    def save(self, folder: Path) -> None:
        """Write the model folder, with a copy of the extractor."""
        assert isinstance(self.model, GroundedModel)
        extractor = GridExtractor(copy.deepcopy(self.model.extractor))
        preprocessor = PreprocessorConfig(
            fingerprint=extractor.fingerprint, max_text_length=self.settings.model.max_text_length
        )
        save_model(folder, self.model.model, self.tokenizer, preprocessor, extractor)


def train_on_drawings(output: Path, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Pretrain on drawings, or resume an interrupted run in the same folder.

    Args:
        output: folder of the run, and of the model.
        overrides: changes of `RECIPE`, as `read_recipe` takes them.

    Returns:
        The final accuracy on new drawings, by question type.

    Raises:
        ValueError: a key is wrong, or the folder has another run.
    """
    recipe = read_recipe(RECIPE, {"drawings": DrawingsTask}, overrides=overrides)
    metrics = check_finished(recipe, output)
    if metrics is not None:
        return metrics
    assert isinstance(recipe.settings, DrawingsSettings)
    torch.manual_seed(recipe.seed)
    return train(recipe, DrawingsTask(recipe.settings, seed=recipe.seed), output)


def _ask(generator: np.random.Generator, drawing: Drawing, most: int) -> list[DrawingQuestion]:
    """Ask about a drawing, or make statements."""
    return ask_about(drawing, generator, most, statements=generator.random() < _STATEMENTS)
