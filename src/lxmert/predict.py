"""Predicts answers in batches: regions from images or stores, logits of any runtime.

The one seam is `Runtime`: tokens and regions in, logits out. Whatever computes logits in another
way than the PyTorch model implements it, and every command uses it through `score` or `Predictor`.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from transformers import BertTokenizer

from lxmert.data.collate import collate_images, collate_text
from lxmert.data.corpus import Corpus
from lxmert.data.image_folder import ImageFolder
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.stores import RegionSource, open_regions
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.devices import check_device
from lxmert.hub import find_model, missing_parts
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import read_folder
from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
    LxmertForQuestionAnswering,
)
from lxmert.model.loading import find_kind, load_heads, load_model
from lxmert.model.pretrained import read_config
from lxmert.model.wrappers import execution_device
from lxmert.names import count
from lxmert.processing import LxmertProcessor
from lxmert.regions.cache import DiskCache
from lxmert.schema import Answer, Example, Regions

_TEXTS_AT_ONCE = 64
"""Maximum number of texts per forward pass, to bound memory."""

TRUTHS = ("False", "True")
"""The answers of a model that judges statements, by class."""

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all examples."""

ScoringModel = (
    LxmertForQuestionAnswering
    | LxmertForImageAndTextRetrieval
    | LxmertForImagesAndTextClassification
)

_logger = logging.getLogger(__name__)


class Runtime(Protocol):
    """Computes logits from tokens and regions: the PyTorch model, or an exported one."""

    def __call__(
        self, text: Mapping[str, Tensor], image: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Return the logits of texts about images.

        Args:
            text: `input_ids`, `attention_mask` and `token_type_ids`, each `[texts, length]` int64.
            image: `visual_feats` `[images, regions, dim]` and `visual_pos` `[images, regions, 4]`,
                float32, and `visual_attention_mask` `[images, regions]` int64; each image once.
            rows: `[texts, images of a text]` int64, the rows of `image` that each text is about.

        Returns:
            `[texts, classes]` float32 on the CPU, as are all arguments.
        """
        ...


class TorchRuntime:
    """The PyTorch model as a `Runtime`; each image is encoded once for all of its texts."""

    _threaded: ClassVar[int | None] = None
    """Process in which torch first computed with several threads."""

    def __init__(self, model: ScoringModel) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(
        self, text: Mapping[str, Tensor], image: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Return logits; see `Runtime`."""
        check_fork()
        device = execution_device(self.model)
        names = ("visual_feats", "visual_pos", "visual_attention_mask")
        encoded = self.model.lxmert.encode_image(*(image[name].to(device) for name in names))
        logits = []
        for start in range(0, len(rows), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            output = self.model(
                **{name: value[part].to(device) for name, value in text.items()},
                encoded_image=encoded.take(rows[part].flatten().to(device)),
                return_dict=False,
            )
            logits.append(output[0])
        return torch.cat(logits).float().cpu()


def check_fork() -> None:
    """Raise `RuntimeError` in a forked process, where torch would wait for lost threads."""
    threads, before = torch.get_num_threads(), TorchRuntime._threaded
    if threads == 1:
        return
    if before not in (None, os.getpid()):
        raise RuntimeError(
            f"this process was forked from process {before}, in which torch has computed with "
            f"{threads} threads, and would wait for them forever: start processes with "
            "multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) in them"
        )
    TorchRuntime._threaded = os.getpid()


def score(
    runtime: Runtime, text: Mapping[str, Tensor], regions: Sequence[Sequence[Regions]]
) -> Tensor:
    """Return the logits of texts about images with known regions, `[texts, classes]`.

    Args:
        runtime: computes the logits.
        text: collated tokens, as in `Runtime`.
        regions: for each text, the regions of its image or images; the same object is encoded once.
    """
    unique = {id(found): found for each in regions for found in each}
    places = {key: place for place, key in enumerate(unique)}
    rows = torch.tensor([[places[id(found)] for found in each] for each in regions])
    return runtime(text, collate_images([*unique.values()]), rows)


class RegionReader(Protocol):
    """Where a prediction gets the regions of images from: image files or region stores.

    Attributes:
        name: folder or stores, for messages.
    """

    name: str

    def problem(self, image_id: str) -> str | None:
        """Return why an image has no regions; None if it has."""
        ...

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the regions of each image."""
        ...


class ImageRegions:
    """Extracts the regions of image files; names may differ from the files as in `ImageFolder`."""

    def __init__(self, folder: str | Path, processor: LxmertProcessor) -> None:
        """List the folder.

        Raises:
            FileNotFoundError: if there is no such folder.
        """
        self._images = ImageFolder(folder)
        self._processor = processor
        self.name = f"the folder {folder}"

    def problem(self, image_id: str) -> str | None:
        """Return why there is no such image; None if there is one."""
        match = self._images.match(image_id)
        return None if match.name is not None else match.detail

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the regions of each image."""
        names = [self._images.match(image_id).name or image_id for image_id in image_ids]
        return self._processor.regions([self._images.folder / name for name in names])


class StoredRegions:
    """Reads regions from one or several stores."""

    def __init__(self, source: RegionSource) -> None:
        self._source = source
        self.name = f"the region store {source.folder}"

    def problem(self, image_id: str) -> str | None:
        """Return why there is no such image; None if there is one."""
        return None if image_id in self._source else f"{image_id!r} is not in {self.name}"

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the regions of each image."""
        return [self._source[image_id] for image_id in image_ids]


def open_reader(
    model: Path, *, images: Path | None = None, stores: Sequence[Path] = (), device: str = "cpu"
) -> RegionReader:
    """Open the images or region stores that a model is asked about.

    Args:
        model: model folder; its own extractor describes `images`, and must have made `stores`.
        images: image folder.
        stores: region stores, if there is no image folder.
        device: where the extractor computes.

    Raises:
        FileNotFoundError: if the folder, a store or the extractor does not exist.
        ValueError: if another extractor made a store.
    """
    if images is not None:
        processor = LxmertProcessor.from_pretrained(model, device=device)
        processor.cache = DiskCache()
        return ImageRegions(images, processor)
    source = open_regions([str(path) for path in stores])
    if (model / FILE_NAME).is_file():
        known, given = PreprocessorConfig.load(model).fingerprint, source.header.fingerprint
        if given != known:
            raise ValueError(
                f"the region store {source.folder} was made by extractor {given}, but the "
                f"extractor of model {model} is extractor {known}: extract the regions again with "
                "that extractor"
            )
    return StoredRegions(source)


def region_batches(
    examples: Sequence[Example], read: RegionReader, *, batch_size: int
) -> Iterator[tuple[list[int], list[tuple[Regions, ...]]]]:
    """Yield examples in batches with the regions of their images.

    Examples about the same image or pair follow each other, so that its regions are read once.

    Args:
        examples: the examples, in any order.
        read: returns the regions of images.
        batch_size: examples per batch.

    Yields:
        The indices of the examples, and for each of them the regions of its image or images.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.image_ids, []).append(index)
    order = [(index, names) for names, indices in groups.items() for index in indices]
    known: dict[str, Regions] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        used = dict.fromkeys(name for _, names in part for name in names)
        new = [name for name in used if name not in known]
        known = {name: known[name] for name in used if name in known}
        known |= zip(new, read(new) if new else (), strict=True)
        yield [index for index, _ in part], [tuple(known[n] for n in names) for _, names in part]


class Predictor:
    """Answers questions about images, or judges statements about two images each, in batches.

    Attributes:
        runtime: computes the logits.
        answers: name of each class.
        num_images: images that a text is about, 1 or 2.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: BertTokenizer,
        answers: Sequence[str],
        *,
        max_text_length: int,
        num_images: int = 1,
    ) -> None:
        """Combine a runtime with the tokenizer and the answers of its model.

        Args:
            runtime: the PyTorch model as `TorchRuntime(model)`, or an exported one.
            tokenizer: tokenizer of the model.
            answers: name of each class of the logits.
            max_text_length: maximum number of tokens of a text.
            num_images: images that a text is about.
        """
        self.runtime = runtime
        self.answers = tuple(answers)
        self.num_images = num_images
        self._tokenizer = tokenizer
        self._max_text_length = max_text_length

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu") -> "Predictor":
        """Load the model and the tokenizer of a folder; an extractor is not needed.

        Raises:
            FileNotFoundError: if the folder lacks a file.
            ValueError: if the model answers nothing, its files do not match, or its answers have no
                names.
        """
        check_device(device)
        folder = find_model(name_or_path)
        judges = judges_statements(folder)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder) if judges else load_heads(folder).answering
        assert isinstance(model, LxmertForImagesAndTextClassification | LxmertForQuestionAnswering)
        check_words(tokenizer, model.config.vocab_size, folder)
        answers = TRUTHS if judges else answers_of(model.config)
        if answers is None:
            raise missing_parts(folder, extractor=False, num_answers=model.config.num_qa_labels)
        known = (folder / FILE_NAME).is_file()
        config = PreprocessorConfig.load(folder) if known else PreprocessorConfig(fingerprint="")
        model.to(device)  # type: ignore[arg-type]
        return cls(
            TorchRuntime(model),
            tokenizer,
            answers,
            max_text_length=config.max_text_length,
            num_images=2 if judges else 1,
        )

    def predict(
        self,
        corpus: Corpus,
        read: RegionReader,
        *,
        batch_size: int = 32,
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> list[Answer]:
        """Return the best answer to each text.

        Args:
            corpus: the texts and their images.
            read: returns the regions of images.
            batch_size: texts per batch.
            progress: called after each batch.

        Raises:
            ValueError: if a text is about another number of images, or an image is missing; nothing
                is computed then.
        """
        best: dict[int, Answer] = {}
        for indices, logits in self.logits(corpus, read, batch_size=batch_size):
            top = logits.softmax(-1).max(-1)
            for index, value, place in zip(
                indices, top.values.tolist(), top.indices.tolist(), strict=True
            ):
                best[index] = Answer(self.answers[place], value)
            progress(len(best), len(corpus))
        return [best[index] for index in range(len(corpus))]

    def logits(
        self, corpus: Corpus, read: RegionReader, *, batch_size: int = 32
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the logits of the texts in batches, in another order than that of the corpus.

        Arguments and errors are those of `predict`.

        Yields:
            The indices of the texts of a batch, and their logits `[texts, answers]`.
        """
        self._check(corpus, read)
        tokens = Tokens(corpus.texts(), self._tokenizer, longest=self._max_text_length)
        tokens.log_losses(_logger)
        for indices, regions in region_batches(corpus, read, batch_size=batch_size):
            text = collate_text(
                [tokens[index] for index in indices], pad_id=self._tokenizer.pad_token_id
            )
            yield indices, score(self.runtime, text, regions)

    def inputs(self, text: str, regions: Regions) -> dict[str, Tensor]:
        """Return the arguments of the model's forward for one text about one image."""
        tokens = Tokens([text], self._tokenizer, longest=self._max_text_length)
        collated = collate_text([tokens[0]], pad_id=self._tokenizer.pad_token_id)
        return {**collated, **collate_images([regions])}

    def _check(self, corpus: Corpus, read: RegionReader) -> None:
        """Check the images of all texts before anything is computed."""
        counts = (corpus.image_pairs >= 0).sum(axis=1)
        if (counts != self.num_images).any():
            wrong = int((counts != self.num_images).argmax())
            raise ValueError(
                f"{corpus.example_id(wrong)!r} is about {count(counts[wrong], 'image')}, but the "
                f"model reads {self.num_images} with each text"
            )
        names = [corpus.image_names[image] for image in corpus.used_images]
        problems = [problem for name in sorted(names) if (problem := read.problem(name))]
        if problems:
            raise ValueError(
                f"{read.name} lacks {len(problems):,} of {count(len(names), 'image')}, the first: "
                f"{problems[0]}; every question must be answered: correct the names"
            )


def judges_statements(folder: Path) -> bool:
    """Return whether a model judges statements about two images; otherwise it answers questions.

    Raises:
        ValueError: if it does neither.
    """
    kind = find_kind(read_folder(folder, device="meta"))
    if kind not in ("pairs", "answering", "pretraining"):
        raise ValueError(
            f"{folder} holds a model of the kind {kind!r}, which answers nothing: fine-tune it "
            "with an answering or a pairs recipe first"
        )
    return kind == "pairs"


def check_parts(
    folder: Path, extractor: str | Path | None = None, answers: str | Path | None = None
) -> None:
    """Raise `ValueError` if a model comes without extractor and none is given.

    The message then also names missing answers. Only the configuration is read.
    """
    if extractor is not None or (folder / EXTRACTOR_FOLDER).is_dir():
        return
    config = read_config(folder)
    nameless = answers is None and answers_of(config) is None
    raise missing_parts(
        folder, extractor=True, num_answers=config.num_qa_labels if nameless else None
    )
