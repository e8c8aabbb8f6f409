"""A folder of images and a file of questions -> a model that answers, its eyes included.

The eyes are a grid of cells, trained with the answers, so that neither boxes nor weights are
needed. What is trained on at once is an image with some of its questions, seen once for all.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.check import Progress
from lxmert.data.collate import collate_text
from lxmert.data.columns import Ragged
from lxmert.data.corpus import Corpus, Targets
from lxmert.data.pixels import Pixels, PixelStore
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.tokenizer import build_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.images import image_size
from lxmert.model import objectives
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import count
from lxmert.records import Probability, Record
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork, shrink
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.custom_files import CustomData, open_custom_files
from lxmert.tasks.initialization import sizes_of
from lxmert.tasks.metrics import OVERALL, accuracy_by_question_type
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import ModelSettings, refuse_initial, save_model

_VALIDATION_BATCH = 64
_TYPICAL = 200
"""Images whose sizes decide how large images are made for the eyes."""


class ExtractorSettings(Record):
    """How the eyes are trained.

    Attributes:
        shift: images are moved at random by up to this share of their side, so that few
            images show more.
        questions: at most so many questions are asked about an image at once.
    """

    shift: Probability = 0.0625
    questions: PositiveInt = 8


class CustomDataSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`, `[extractor]`."""

    data: CustomData
    model: ModelSettings = ModelSettings()
    extractor: ExtractorSettings = ExtractorSettings()


class Item(NamedTuple):
    """One image with some questions about it.

    Attributes:
        pixels: `[side, side, 3]` uint8 RGB.
        shift: how far the image is to be moved up and to the left, in pixels; may be negative.
        questions: token ids of each.
        targets: class id of each question, or the score of each of its answers.
    """

    pixels: Pixels
    shift: tuple[int, int]
    questions: list[IntArray]
    targets: Sequence[int | FloatArray]


class SeeingModel(nn.Module):
    """Eyes in front of a model, trained together."""

    def __init__(self, extractor: GridNetwork, model: LxmertForQuestionAnswering) -> None:
        super().__init__()
        self.extractor = extractor
        self.model = model
        self.image_only = nn.Linear(extractor.config.feature_dim, model.num_qa_labels)

    def forward(
        self, pixels: Tensor, owners: Tensor, text: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Score the answers of all questions, and those of each image without its questions.

        Args:
            pixels: `[images, side, side, 3]` uint8 RGB.
            owners: `[questions]`, the image that each question is about.
            text: the text's keyword arguments of the model's forward.

        Returns:
            `[questions, answers]` and `[images, answers]`.
        """
        features, cells = self.extractor(pixels)
        image = self.model.lxmert.encode_image(features, cells)
        scores: Tensor = self.model(**text, encoded_image=image.take(owners))[0]
        return scores, self.image_only(features.mean(dim=1))


class CustomDataTask:
    """Learn to answer from the user's own images and questions, and nothing else."""

    settings_type: ClassVar[type[Record]] = CustomDataSettings
    best_metric = OVERALL

    def __init__(
        self,
        settings: CustomDataSettings,
        *,
        seed: int,
        folder: Path,
        first: bool = True,
        progress: Progress = lambda what, done, total: None,  # noqa: ARG005
    ) -> None:
        """Check the data set, split it, prepare its images, and make a new model.

        Args:
            settings: the tables of the recipe.
            seed: of splits and random shifts.
            folder: of the run, where the report and the prepared images are kept.
            first: whether this is the process that looks at the data; see `open_custom_files`.
            progress: called while files are looked at and images are prepared.

        Raises:
            ValueError: if the data set cannot be trained on; the message says why.
        """
        refuse_initial(settings.model)
        self.settings, self.seed = settings, seed
        self.loss_weights: Mapping[str, float] = {"qa": 1.0, "image_only": 1.0}
        data, length = settings.data, settings.model.max_text_length
        files = open_custom_files(
            data, folder, seed=seed, longest=length, first=first, progress=progress
        )
        self.training, self.validation = files.training, files.validation
        pairs = int((self.training.image_pairs[:, 1] >= 0).sum())
        if pairs:
            raise ValueError(
                f"{data.train} has {count(pairs, 'question')} about two images, which eyes that are "
                "trained along cannot read: name others, --set data.extractor=FOLDER"
            )
        self.tokenizer = build_tokenizer(self.training.texts())
        self.tokens = [
            Tokens(corpus.texts(), self.tokenizer, longest=length)
            for corpus in (self.training, self.validation)
        ]
        self.answers = self.training.vocabulary()
        self.single = is_single(data.targets, self.training)
        self.targets = Targets(self.training, self.answers)
        self.baselines = Baselines.learn(
            self.training
        ).to_text()  # its objects would take far more memory
        self.images = _prepare_images(data, (self.training, self.validation), folder, progress)
        self.rows = [
            self.images.rows(corpus.image_names) for corpus in (self.training, self.validation)
        ]
        self.groups = group_by_image(self.training, settings.extractor.questions)
        extractor = GridNetwork(GridConfig.for_images(self.images.side))
        model = LxmertForQuestionAnswering(
            _new_config(settings.model, len(self.tokenizer), extractor.config, self.answers)
        )
        self.model: nn.Module = SeeingModel(extractor, model)

    def __len__(self) -> int:
        return len(self.groups.bounds) - 1

    def example(self, index: int, epoch: int) -> Item:
        """Return an image, to be shifted at random, with some of its questions."""
        most = round(self.settings.extractor.shift * self.images.side)
        generator = np.random.default_rng([self.seed, epoch, index])
        up, left = generator.integers(-most, most + 1, size=2).tolist()
        rows = self.groups.row(index).tolist()
        image = self.images[self.rows[0].item(self.training.images(rows[0])[0])]
        target = self.targets.best_id if self.single else self.targets.scores
        questions = [self.tokens[0][row] for row in rows]
        return Item(image, (up, left), questions, [target(row) for row in rows])

    def collate(self, examples: Sequence[Item]) -> Batch:
        """Join images and their questions.

        Returns:
            `pixels` `[images, side, side, 3]`, `owners` `[questions]`, `text` as keyword
            arguments of the model, and `targets` `[questions]` or `[questions, answers]`.
        """
        counts = torch.tensor([len(item.questions) for item in examples])
        questions = [question for item in examples for question in item.questions]
        targets = [target for item in examples for target in item.targets]
        pixels = shift_images([item.pixels for item in examples], [i.shift for i in examples])
        return {
            "pixels": torch.from_numpy(pixels),
            "owners": torch.arange(len(examples)).repeat_interleave(counts),
            "text": collate_text(questions, pad_id=self.tokenizer.pad_token_id),
            "targets": torch.from_numpy(np.array(targets)),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the questions that have an answer in the list, and the images."""
        targets = batch["targets"]
        return {
            "qa": float((targets != IGNORE_INDEX).sum() if self.single else len(targets)),
            "image_only": float(len(batch["pixels"])),
        }

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Look and answer, and sum the losses over questions and over images.

        `qa` alone teaches new eyes slowly, since what they see counts only once words are
        understood. `image_only` asks them for all answers that an image's questions have, without
        the questions.
        """
        scores, image_only_logits = model(batch["pixels"], batch["owners"], batch["text"])
        seen = answers_by_image(batch["targets"], batch["owners"], image_only_logits.shape)
        return {
            "qa": objectives.answering(scores, batch["targets"])[0],
            "image_only": objectives.answering(image_only_logits, seen)[0],
        }

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Return the accuracy on validation questions, and that of guesses without an image.

        Returns:
            `overall`, each question type, and the `blind.GUESSES` overall.
        """
        groups = group_by_image(self.validation, self.settings.extractor.questions)
        count = min(len(groups.bounds) - 1, limit or len(self.validation))
        predictions: list[str] = []
        for start in range(0, count, _VALIDATION_BATCH):
            part = range(start, min(start + _VALIDATION_BATCH, count))
            batch = self.collate([self._seen(groups.row(group).tolist()) for group in part])
            text = {name: value.to(device) for name, value in batch["text"].items()}
            with torch.inference_mode():
                scores, _ = self.model(batch["pixels"].to(device), batch["owners"].to(device), text)
            predictions += [self.answers.answers[i] for i in scores.argmax(-1).tolist()]
        examples = self.validation.select(groups.values[: groups.bounds.item(count)])
        baselines = Baselines.from_text(self.baselines).scores(examples)
        return accuracy_by_question_type(examples, predictions) | {
            name: scores[OVERALL] for name, scores in baselines.items()
        }

    def _seen(self, rows: Sequence[int]) -> Item:
        """Return a validation image as it is, with its questions."""
        image = self.images[self.rows[1].item(self.validation.images(rows[0])[0])]
        questions = [self.tokens[1][row] for row in rows]
        return Item(image, (0, 0), questions, [0] * len(rows))

    def save(self, folder: Path) -> None:
        """Write the model folder, with the eyes as they are now."""
        assert isinstance(self.model, SeeingModel)
        extractor = GridExtractor(copy.deepcopy(self.model.extractor))
        preprocessor = PreprocessorConfig(
            fingerprint=extractor.fingerprint, max_text_length=self.settings.model.max_text_length
        )
        save_model(
            folder, self.model.model, self.tokenizer, preprocessor, extractor, self.baselines
        )


def is_single(targets: str, corpus: Corpus) -> bool:
    """Tell whether to train one answer a question."""
    if targets != "auto":
        return targets == "single"
    return bool((corpus.num_answers() <= 1).all())


def answers_by_image(targets: Tensor, owners: Tensor, size: Sequence[int]) -> Tensor:
    """Return the best score that each answer has in any question about an image.

    Args:
        targets: `[questions]` answer ids, of which -100 is none, or `[questions, answers]` scores.
        owners: `[questions]`, the image that each is about.
        size: images, answers.

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
    """Resize all images once, to a size that suits them."""
    images = Path(data.images)
    names = sorted({corpus.image_names[i] for corpus in corpora for i in corpus.used_images})
    typical = names[:: max(1, len(names) // _TYPICAL)]
    sides = [min(image_size(images / name)) for name in typical]
    side = GridConfig.for_images(median(sides)).side
    return PixelStore.write(
        folder / "images",
        names,
        lambda name: shrink(images / name, side),
        side=side,
        progress=lambda done, total: progress("images", done, total),
    )


def group_by_image(corpus: Corpus, most: int) -> Ragged:
    """Return the rows of each image's questions, at most so many at once, in the order read."""
    images = corpus.image_pairs[:, 0]
    _, first, place = np.unique(images, return_index=True, return_inverse=True)
    order = np.argsort(first[place], kind="stable")  # images as they come, rows as they are
    sizes = np.bincount(np.argsort(np.argsort(first))[place])
    offsets = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts = np.flatnonzero(offsets % most == 0)
    return Ragged(np.append(starts, len(order)).astype(np.uint32), order)


def shift_images(images: Sequence[Pixels], shifts: Sequence[tuple[int, int]]) -> Pixels:
    """Move each image; what comes in at an edge repeats it.

    Args:
        images: `[side, side, 3]` each.
        shifts: by how many pixels each is moved up and to the left.

    Returns:
        `[images, side, side, 3]`.
    """
    stacked = np.stack(images)
    side, most = stacked.shape[1], max(abs(pixels) for shift in shifts for pixels in shift)
    # Once for all, as padding one image takes longer than all that is done with it else.
    padded = np.pad(stacked, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    for moved, wide, (up, left) in zip(stacked, padded, shifts, strict=True):
        moved[:] = wide[most + up : most + up + side, most + left : most + left + side]
    return stacked


def _new_config(
    sizes: ModelSettings, vocab_size: int, extractor: GridConfig, answers: AnswerVocabulary
) -> LxmertConfig:
    """Return the configuration of a new model."""
    names = answers.answers
    return LxmertConfig(
        **sizes_of(sizes),  # type: ignore[arg-type]
        vocab_size=vocab_size,
        max_position_embeddings=max(64, sizes.max_text_length),
        num_qa_labels=len(names),
        visual_feat_dim=extractor.feature_dim,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        pad_token_id=0,
    )
