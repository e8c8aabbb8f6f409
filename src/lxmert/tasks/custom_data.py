"""Question answering on custom data with a grid extractor that is trained along with the model.

Needs neither boxes nor pretrained weights. A training example is one image with several of its
questions; the image is encoded once for all of them. Where questions have boxes, attention is
guided to the cells that show their content.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lxmert.boxes import normalize
from lxmert.data.check import Progress
from lxmert.data.collate import collate_text
from lxmert.data.columns import Ragged
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.pixels import PixelStore
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokens import Tokens
from lxmert.images import Pixels, image_size
from lxmert.model import objectives
from lxmert.model.guidance import attention_loss, first_cross_attention
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.outputs import LxmertEncodedStream
from lxmert.names import count
from lxmert.records import Probability, Record
from lxmert.regions.cells import cells_of_boxes
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.regions.preprocess import load_image
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.answering import count_answered
from lxmert.tasks.baselines import Baselines, scores_beside_baselines
from lxmert.tasks.custom_files import CustomData, open_custom_files
from lxmert.tasks.custom_start import start_grid_model
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import save_model, validation_outputs
from lxmert.tasks.texts import ModelSettings, refuse_initial

_VALIDATION_BATCH = 64
_BOX_WEIGHT = 0.5
"""Weight of the loss that guides attention to boxes, compared with that of the answers."""

_SAMPLED_IMAGES = 200
"""Number of images whose sizes determine the input size of the extractor."""


class ExtractorSettings(Record):
    """How the extractor is trained.

    Attributes:
        shift: maximum random shift of an image, as a share of its side (augmentation).
        questions: maximum number of questions per image in one training example.
    """

    shift: Probability = 0.02
    questions: PositiveInt = 16


class CustomDataSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`, `[extractor]`."""

    data: CustomData
    model: ModelSettings = ModelSettings()
    extractor: ExtractorSettings = ExtractorSettings()


class ImageItem(NamedTuple):
    """An image with some questions about it.

    Attributes:
        pixels: `[height, width, 3]` uint8 RGB.
        shift: pixels by which to move the image up and to the left; may be negative.
        questions: token ids of each question.
        targets: class id of the answer to each question, or the score of each answer.
        shown: `[cells]` bool for each question, the cells that it is about; none if unknown.
    """

    pixels: Pixels
    shift: tuple[int, int]
    questions: list[IntArray]
    targets: Sequence[int | FloatArray]
    shown: Sequence[npt.NDArray[np.bool_]] = ()


class ExtractorWithModel(nn.Module):
    """A region extractor followed by a question-answering model, trained together."""

    def __init__(self, extractor: GridNetwork, model: LxmertForQuestionAnswering) -> None:
        super().__init__()
        self.extractor = extractor
        self.model = model
        self.image_only = nn.Linear(extractor.config.feature_dim, model.num_qa_labels)

    def forward(
        self,
        pixels: Tensor,
        owners: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        shown: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Score the answers to all questions, and to each image without its questions.

        Args:
            pixels: `[images, height, width, 3]` uint8 RGB.
            owners: `[questions]`, the row of each question's image.
            input_ids: `[questions, text_len]`.
            attention_mask: `[questions, text_len]`.
            token_type_ids: `[questions, text_len]`.
            shown: `[questions, cells]` bool, the cells that each question is about; none in a row
                if unknown. None: unknown for all.

        Returns:
            `[questions, answers]`, `[images, answers]`, and the loss of the attention of questions
            to the cells that they are about, summed; None without `shown`.
        """
        features, cells = self.extractor(pixels)
        image = self.model.lxmert.encode_image(features, cells).take(owners)
        text: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        guided = None
        if shown is not None:
            words = self.model.lxmert.encode_text(**text)
            guided = self._guide(words, image, shown)
            text = {"encoded_text": words}
        scores: Tensor = self.model(**text, encoded_image=image)[0]
        return scores, self.image_only(features.mean(dim=1)), guided

    def _guide(
        self, words: LxmertEncodedStream, image: LxmertEncodedStream, shown: Tensor
    ) -> Tensor:
        """Return the loss of the attention of [CLS], from which answers are computed."""
        known = shown.any(dim=1)
        return attention_loss(
            first_cross_attention(self.model.lxmert),
            words.last_hidden_state[known, 0],
            image.last_hidden_state[known],
            shown[known],
        )


class CustomDataTask:
    """Train an extractor and a model from random weights on custom data.

    `prepare` checks the data set and builds the task.
    """

    settings_type: ClassVar[type[Record]] = CustomDataSettings
    best_metric = OVERALL

    def __init__(
        self,
        settings: CustomDataSettings,
        *,
        seed: int,
        splits: tuple[Corpus, Corpus],
        images: PixelStore,
    ) -> None:
        """Initialize an extractor and a model.

        Args:
            settings: the tables of the recipe.
            seed: seed of the random shifts.
            splits: training and validation questions, each about one image.
            images: the resized images of all questions.
        """
        self.settings, self.seed = settings, seed
        self.loss_weights: Mapping[str, float] = {"qa": 1.0, "image_only": 1.0}
        self.training, self.validation = splits
        self.boxes = _relative_boxes(self.training, Path(settings.data.images))
        if self.boxes:
            self.loss_weights = {**self.loss_weights, "boxes": _BOX_WEIGHT}
        self.images = images
        self.answers = self.training.vocabulary()
        started = start_grid_model(
            settings.model,
            self.training.texts(),
            self.answers,
            image_size=(images.header.height, images.header.width),
        )
        self.tokenizer = started.tokenizer
        self.cells = started.extractor.config.num_cells
        self.model: nn.Module = ExtractorWithModel(started.extractor, started.model)
        self.max_text_length = settings.model.max_text_length
        self.tokens = [
            Tokens(corpus.texts(), self.tokenizer, longest=self.max_text_length)
            for corpus in splits
        ]
        self.single = is_single(settings.data.targets, self.training)
        self.targets = Targets(self.training, self.answers)
        # As text, because the objects take far more memory.
        self.baselines = Baselines.learn(self.training).to_text()
        self.rows = [images.positions(corpus.image_names) for corpus in splits]
        self.groups = group_by_image(self.training, settings.extractor.questions)

    @classmethod
    def prepare(
        cls,
        settings: CustomDataSettings,
        *,
        seed: int,
        folder: Path,
        first: bool = True,
        progress: Progress = lambda what, done, total: None,  # noqa: ARG005
    ) -> Self:
        """Check a custom data set, split it, resize its images, and build the task.

        Args:
            settings: the tables of the recipe.
            seed: seed of splits and random shifts.
            folder: folder of the run, for the report and the resized images.
            first: whether this process checks the data; see `open_custom_files`.
            progress: called while files are checked and images are resized.

        Raises:
            ValueError: if the data set cannot be used for training; the message gives the reason.
        """
        refuse_initial(settings.model)
        training, validation, _ = open_custom_files(
            settings.data,
            folder,
            seed=seed,
            longest=settings.model.max_text_length,
            first=first,
            progress=progress,
        )
        pairs = int((training.image_pairs[:, 1] >= 0).sum())
        if pairs:
            raise ValueError(
                f"{settings.data.train} has {count(pairs, 'question')} about two images, but an "
                "extractor is trained with questions about one image: use an existing extractor, "
                "--set data.extractor=FOLDER"
            )
        images = _prepare_images(settings.data, (training, validation), folder, progress)
        return cls(settings, seed=seed, splits=(training, validation), images=images)

    def __len__(self) -> int:
        return len(self.groups.bounds) - 1

    def example(self, index: int, epoch: int) -> ImageItem:
        """Return an image with a random shift and some of its questions."""
        shorter = min(self.images.header.height, self.images.header.width)
        most = round(self.settings.extractor.shift * shorter)
        generator = np.random.default_rng([self.seed, epoch, index])
        up, left = generator.integers(-most, most + 1, size=2).tolist()
        rows = self.groups.row(index).tolist()
        image = self.images[self.rows[0].item(self.training.images(rows[0])[0])]
        target = self.targets.best_id if self.single else self.targets.scores
        questions = [self.tokens[0][row] for row in rows]
        shown = [self._cells(row, up, left) for row in rows] if self.boxes else ()
        return ImageItem(image, (up, left), questions, [target(row) for row in rows], shown)

    def _cells(self, row: int, up: int, left: int) -> npt.NDArray[np.bool_]:
        """Return the cells that a question is about, `[cells]`, in its shifted image."""
        header = self.images.header
        x, y = left / header.width, up / header.height
        boxes = self.boxes.get(row, np.zeros((0, 4), np.float32))
        moved = np.clip(boxes - np.array([x, y, x, y], np.float32), 0, 1)
        return cells_of_boxes(moved, *self.cells)

    def collate(self, examples: Sequence[ImageItem]) -> Batch:
        """Batch images and their questions.

        Returns:
            `inputs`, the arguments of `ExtractorWithModel.forward`; and `targets`, `[questions]`
            or `[questions, answers]`.
        """
        counts = torch.tensor([len(item.questions) for item in examples])
        questions = [question for item in examples for question in item.questions]
        targets = [target for item in examples for target in item.targets]
        pixels = shift_images([item.pixels for item in examples], [i.shift for i in examples])
        images = {
            "pixels": torch.from_numpy(pixels),
            "owners": torch.arange(len(examples)).repeat_interleave(counts),
        }
        shown = [cells for item in examples for cells in item.shown]
        if shown:
            images["shown"] = torch.from_numpy(np.stack(shown))
        return {
            "inputs": images | collate_text(questions, pad_id=self.tokenizer.pad_token_id),
            "targets": torch.from_numpy(np.array(targets)),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the questions that have an answer in the list, the images, and known boxes."""
        counts = {
            "qa": count_answered(batch["targets"]),
            "image_only": float(len(batch["inputs"]["pixels"])),
        }
        if self.boxes:
            counts["boxes"] = float(batch["inputs"]["shown"].any(dim=1).sum())
        return counts

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run extractor and model; return the losses summed over questions and over images.

        The `qa` loss trains a new extractor slowly; the auxiliary `image_only` loss predicts all
        answers of an image's questions without the questions. `boxes` guides attention.
        """
        scores, image_only_logits, guided = model(**batch["inputs"])
        owners, targets = batch["inputs"]["owners"], batch["targets"]
        image_targets = answers_by_image(targets, owners, image_only_logits.shape)
        losses = {
            "qa": objectives.answering(scores, targets)[0],
            "image_only": objectives.answering(image_only_logits, image_targets)[0],
        }
        return losses if guided is None else {**losses, "boxes": guided}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Return the accuracy on validation questions, and that of the baselines.

        Returns:
            `overall`, each question type, and each of `baselines.BASELINES` overall.
        """
        groups = group_by_image(self.validation, self.settings.extractor.questions)
        num_groups = min(len(groups.bounds) - 1, limit or len(self.validation))
        rows = [groups.row(group).tolist() for group in range(num_groups)]
        predictions: list[str] = []
        for _, _, (scores, *_) in validation_outputs(
            self, rows, batch_size=_VALIDATION_BATCH, device=device
        ):
            predictions += [self.answers.answers[i] for i in scores.argmax(-1).tolist()]
        examples = self.validation.select(groups.values[: groups.bounds.item(num_groups)])
        return scores_beside_baselines(examples, predictions, self.baselines)

    def validation_example(self, rows: Sequence[int]) -> ImageItem:
        """Return a validation image without a shift, with the questions of some rows."""
        image = self.images[self.rows[1].item(self.validation.images(rows[0])[0])]
        questions = [self.tokens[1][row] for row in rows]
        return ImageItem(image, (0, 0), questions, [0] * len(rows))

    def save(self, folder: Path) -> None:
        """Write the model folder, with a copy of the extractor."""
        assert isinstance(self.model, ExtractorWithModel)
        extractor = GridExtractor(copy.deepcopy(self.model.extractor))
        preprocessor = PreprocessorConfig(
            fingerprint=extractor.fingerprint, max_text_length=self.max_text_length
        )
        save_model(
            folder, self.model.model, self.tokenizer, preprocessor, extractor, self.baselines
        )


def _relative_boxes(corpus: Corpus, images: Path) -> dict[int, FloatArray]:
    """Return the boxes of each question that has any, `[boxes, 4]` in `[0, 1]`, by its row."""
    rows = np.flatnonzero(corpus.num_boxes()).tolist()
    names = {row: corpus.image_ids(row)[0] for row in rows}
    sizes = {name: image_size(images / name) for name in set(names.values())}
    return {row: normalize(corpus.boxes(row), sizes[names[row]]) for row in rows}


def is_single(targets: str, corpus: Corpus) -> bool:
    """Return whether to train a single answer per question; `auto` decides by the corpus."""
    if targets != "auto":
        return targets == "single"
    return bool((corpus.num_answers() <= 1).all())


def answers_by_image(targets: Tensor, owners: Tensor, size: Sequence[int]) -> Tensor:
    """Return the best score of each answer over all questions about an image.

    Args:
        targets: `[questions]` answer ids, -100 for none, or `[questions, answers]` scores.
        owners: `[questions]`, the row of each question's image.
        size: number of images and of answers.

    Returns:
        `[images, answers]` in `[0, 1]`.
    """
    if targets.dim() == 1:
        known = targets != IGNORE_INDEX
        owners, targets = owners[known], functional.one_hot(targets[known], size[1]).float()
    best = targets.new_zeros(size)
    return best.scatter_reduce_(0, owners[:, None].expand_as(targets), targets, "amax")


def _prepare_images(
    data: CustomData, corpora: Sequence[Corpus], folder: Path, progress: Progress
) -> PixelStore:
    """Resize all images once, to a size chosen by the median image."""
    images = Path(data.images)
    names = sorted({corpus.image_names[i] for corpus in corpora for i in corpus.used_images})
    sampled = names[:: max(1, len(names) // _SAMPLED_IMAGES)]
    sizes = np.array([image_size(images / name) for name in sampled])
    config = GridConfig().for_images(*np.median(sizes, axis=0).tolist())
    layout = config.layout
    return PixelStore.write(
        folder / "images",
        names,
        lambda name: layout.stretch(load_image(images / name)),
        height=config.height,
        width=config.width,
        progress=lambda done, total: progress("images", done, total),
    )


def group_by_image(corpus: Corpus, most: int) -> Ragged:
    """Group the rows of each image's questions, at most `most` per group, in reading order."""
    images = corpus.image_pairs[:, 0]
    _, first, place = np.unique(images, return_index=True, return_inverse=True)
    order = np.argsort(first[place], kind="stable")  # images in order of appearance
    sizes = np.bincount(np.argsort(np.argsort(first))[place])
    offsets = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts = np.flatnonzero(offsets % most == 0)
    return Ragged(np.append(starts, len(order)).astype(np.uint32), order)


def shift_images(images: Sequence[Pixels], shifts: Sequence[tuple[int, int]]) -> Pixels:
    """Shift images, repeating the pixels at their edges.

    Args:
        images: `[side, side, 3]` each.
        shifts: pixels by which to move each image up and to the left.

    Returns:
        `[images, height, width, 3]`.
    """
    stacked = np.stack(images)
    _, height, width, _ = stacked.shape
    most = max(abs(pixels) for shift in shifts for pixels in shift)
    # Pad all images at once: padding one image takes longer than all other steps.
    padded = np.pad(stacked, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    for moved, wide, (up, left) in zip(stacked, padded, shifts, strict=True):
        moved[:] = wide[most + up : most + up + height, most + left : most + left + width]
    return stacked
