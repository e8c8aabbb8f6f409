"""Predicts answers in batches: regions from images or stores, logits of any runtime.

The one seam is `Runtime`: tokens and regions in, logits out. Whatever computes logits in another
way than the PyTorch model implements it, and every command uses it through `score` or `Predictor`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lxmert.data.arrays import Arrays, image_arrays, text_arrays
from lxmert.data.corpus import Corpus
from lxmert.data.encoding import TextTokenizer, padding_id
from lxmert.data.image_folder import ImageFolder
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.stores import RegionSource, open_regions
from lxmert.data.tokens import Tokens
from lxmert.devices import choose_device
from lxmert.exported import ExportedModel, is_exported
from lxmert.hub import find_model, missing_parts
from lxmert.names import count
from lxmert.regions.cache import DiskCache
from lxmert.regions.preprocess import ImageInput
from lxmert.schema import Answer, Example, FloatArray, IntArray, Regions

if TYPE_CHECKING:
    from torch import Tensor

TRUTHS = ("False", "True")
"""The answers of a model that judges statements, by class."""

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all examples."""

_logger = logging.getLogger(__name__)


class Runtime(Protocol):
    """Computes logits from tokens and regions: the PyTorch model, or an exported one."""

    def __call__(self, text: Arrays, image: Arrays, rows: IntArray) -> FloatArray:
        """Return the logits of texts about images.

        Args:
            text: `input_ids`, `attention_mask` and `token_type_ids`, each `[texts, length]` int64.
            image: `visual_feats` `[images, regions, dim]` and `visual_pos` `[images, regions, 4]`,
                float32, and `visual_attention_mask` `[images, regions]` int64; each image once.
            rows: `[texts, images of a text]`, the rows of `image` that each text is about.

        Returns:
            `[texts, classes]` float32.
        """
        ...


def score(runtime: Runtime, text: Arrays, regions: Sequence[Sequence[Regions]]) -> FloatArray:
    """Return the logits of texts about images with known regions, `[texts, classes]`.

    Args:
        runtime: computes the logits.
        text: token ids, as in `Runtime`.
        regions: for each text, the regions of its image or images; the same object is encoded once.
    """
    unique = {id(found): found for each in regions for found in each}
    places = {key: place for place, key in enumerate(unique)}
    rows = np.array([[places[id(found)] for found in each] for each in regions])
    return runtime(text, image_arrays([*unique.values()]), rows)


def softmax(logits: FloatArray) -> FloatArray:
    """Return the probabilities of the classes in the last dimension."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def rank(probabilities: FloatArray, answers: Sequence[str], top_k: int) -> list[Answer]:
    """Return the most probable answers, best first; of equal ones the first."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Answer(answers[index], float(probabilities[index])) for index in order]


def leave_out(runtime: Runtime, text: Arrays, regions: Regions) -> FloatArray:
    """Return the answers to one question with all regions, without each of them, without any.

    Args:
        runtime: computes the logits.
        text: token ids of the question, as in `Runtime`.
        regions: regions of its image.

    Returns:
        Probabilities `[regions + 2, answers]`. Without regions the model sees only the text.
    """
    number = len(regions)
    variants = number + 2
    image = {name: np.repeat(each, variants, 0) for name, each in image_arrays([regions]).items()}
    mask = image["visual_attention_mask"]
    mask[np.arange(number) + 1, np.arange(number)] = 0
    mask[-1] = 0
    texts = {name: np.repeat(each, variants, 0) for name, each in text.items()}
    return softmax(runtime(texts, image, np.arange(variants)[:, None]))


class RegionSupply(Protocol):
    """Returns the regions of images: a processor, or an exported model."""

    def regions(self, images: Sequence[ImageInput]) -> list[Regions]:
        """Return the regions of each image."""
        ...


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

    def __init__(self, folder: str | Path, processor: RegionSupply) -> None:
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
    model: Path,
    *,
    images: Path | None = None,
    stores: Sequence[Path] = (),
    device: str | None = "cpu",
) -> RegionReader:
    """Open the images or region stores that a model is asked about.

    Args:
        model: model folder; its own extractor describes `images`, and must have made `stores`.
        images: image folder.
        stores: region stores, if there is no image folder.
        device: where the extractor computes; None: the best device of this machine.

    Raises:
        FileNotFoundError: if the folder, a store or the extractor does not exist.
        ValueError: if another extractor made a store.
    """
    if images is not None:
        return ImageRegions(images, _load_supply(model, device))
    source = open_regions([str(path) for path in stores])
    known, given = _preprocessing(model), source.header.fingerprint
    if known is not None and not known.accepts(given):
        raise ValueError(
            f"the region store {source.folder} was made by extractor {given}, but the extractor "
            f"of model {model} is extractor {known.fingerprint}: extract the regions again with "
            "that extractor"
        )
    return StoredRegions(source)


def _preprocessing(model: Path) -> PreprocessorConfig | None:
    """Return what a model requires of regions, if the folder names it."""
    if is_exported(model):
        return PreprocessorConfig(fingerprint=ExportedModel(model).manifest.fingerprint)
    return PreprocessorConfig.load(model) if (model / FILE_NAME).is_file() else None


def _load_supply(model: Path, device: str | None) -> RegionSupply:
    """Load what extracts regions for a model."""
    if is_exported(model):
        return ExportedModel(model, cache=DiskCache())
    from lxmert.processing import LxmertProcessor

    processor = LxmertProcessor.from_pretrained(model, device=choose_device(device))
    processor.cache = DiskCache()
    return processor


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
        tokenizer: tokenizer of the model.
        max_text_length: maximum number of tokens of a text.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: TextTokenizer,
        answers: Sequence[str],
        *,
        max_text_length: int,
        num_images: int = 1,
    ) -> None:
        """Combine a runtime with the tokenizer and the answers of its model.

        Args:
            runtime: the PyTorch model as `TorchRuntime(model)`, or that of an `ExportedModel`.
            tokenizer: tokenizer of the model.
            answers: name of each class of the logits.
            max_text_length: maximum number of tokens of a text.
            num_images: images that a text is about.
        """
        self.runtime = runtime
        self.answers = tuple(answers)
        self.num_images = num_images
        self.tokenizer = tokenizer
        self.max_text_length = max_text_length

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, device: str | None = "cpu"
    ) -> "Predictor":
        """Load the model and the tokenizer of a folder; an extractor is not needed.

        Raises:
            FileNotFoundError: if the folder lacks a file.
            ValueError: if the model answers nothing, its files do not match, or its answers have no
                names.
        """
        folder = find_model(name_or_path)
        if not is_exported(folder):
            return _load_model(folder, choose_device(device))
        exported = ExportedModel(folder)
        if exported.answering is None:
            raise ValueError(
                f"{folder} holds an exported model that only matches captions: export a model that "
                "answers questions"
            )
        return cls(
            exported.answering,
            exported.tokenizer,
            exported.manifest.answers,
            max_text_length=exported.manifest.max_text_length,
        )

    def predict(
        self,
        corpus: Corpus,
        read: RegionReader,
        *,
        batch_size: int = 32,
        warn: bool = True,
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> list[Answer]:
        """Return the best answer to each text.

        Args:
            corpus: the texts and their images.
            read: returns the regions of images.
            batch_size: texts per batch.
            warn: whether to warn about texts that are truncated, or have unknown words.
            progress: called after each batch.

        Raises:
            ValueError: if a text is about another number of images, or an image is missing; nothing
                is computed then.
        """
        best: dict[int, Answer] = {}
        for indices, logits in self.logits(corpus, read, batch_size=batch_size, warn=warn):
            for index, row in zip(indices, softmax(logits), strict=True):
                best[index] = rank(row, self.answers, 1)[0]
            progress(len(best), len(corpus))
        return [best[index] for index in range(len(corpus))]

    def logits(
        self, corpus: Corpus, read: RegionReader, *, batch_size: int = 32, warn: bool = True
    ) -> Iterator[tuple[list[int], FloatArray]]:
        """Yield the logits of the texts in batches, in another order than that of the corpus.

        Arguments and errors are those of `predict`.

        Yields:
            The indices of the texts of a batch, and their logits `[texts, answers]`.
        """
        check_images(corpus, read, self.num_images)
        tokens = Tokens(corpus.texts(), self.tokenizer, longest=self.max_text_length)
        if warn:
            tokens.log_losses(_logger)
        pad_id = padding_id(self.tokenizer)
        for indices, regions in region_batches(corpus, read, batch_size=batch_size):
            text = text_arrays([tokens[index] for index in indices], pad_id=pad_id)
            yield indices, score(self.runtime, text, regions)

    def inputs(self, text: str, regions: Regions) -> dict[str, "Tensor"]:
        """Return the arguments of the model's forward for one text about one image."""
        tokens = Tokens([text], self.tokenizer, longest=self.max_text_length)
        from lxmert.data.collate import collate_images, collate_text

        collated = collate_text([tokens[0]], pad_id=padding_id(self.tokenizer))
        return {**collated, **collate_images([regions])}


def check_images(corpus: Corpus, read: RegionReader, num_images: int) -> None:
    """Check the images of all texts before anything is computed.

    Args:
        corpus: the texts.
        read: where the regions of their images come from.
        num_images: images that each text must be about.

    Raises:
        ValueError: if a text is about another number of images, or an image is missing.
    """
    counts = (corpus.image_pairs >= 0).sum(axis=1)
    if (counts != num_images).any():
        wrong = int((counts != num_images).argmax())
        raise ValueError(
            f"{corpus.example_id(wrong)!r} is about {count(counts[wrong], 'image')}, but the "
            f"model reads {num_images} with each text: name a model for such texts"
        )
    names = [corpus.image_names[image] for image in corpus.used_images]
    problems = [problem for name in sorted(names) if (problem := read.problem(name))]
    if problems:
        raise ValueError(
            f"{read.name} lacks {len(problems):,} of {count(len(names), 'image')}, the first: "
            f"{problems[0]}; every text needs its image: correct the names"
        )


def refuse_exported(folder: Path) -> None:
    """Raise `ValueError` for an exported model, where one in PyTorch is needed."""
    if is_exported(folder):
        raise ValueError(
            f"{folder} is an exported model: expected one in PyTorch, such as that which it was "
            "exported from"
        )


def _load_model(folder: Path, device: str) -> Predictor:
    """Load a PyTorch model; see `Predictor.from_pretrained`."""
    from lxmert.data.tokenizer import check_words, load_tokenizer
    from lxmert.model.answers import answers_of
    from lxmert.model.heads import (
        LxmertForImagesAndTextClassification,
        LxmertForQuestionAnswering,
    )
    from lxmert.model.loading import load_heads, load_model
    from lxmert.model.runtime import TorchRuntime

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
    return Predictor(
        TorchRuntime(model),
        tokenizer,
        answers,
        max_text_length=config.max_text_length,
        num_images=2 if judges else 1,
    )


def judges_statements(folder: Path) -> bool:
    """Return whether a model judges statements about two images; otherwise it answers questions.

    Raises:
        ValueError: if it does neither.
    """
    if is_exported(folder):
        return False
    from lxmert.model.checkpoints import read_folder
    from lxmert.model.loading import find_kind

    kind = find_kind(read_folder(folder, device="meta"))
    if kind not in ("pairs", "answering", "pretraining"):
        raise ValueError(
            f"{folder} holds a model of the kind {kind!r}, which answers nothing: fine-tune it "
            "with an answering or a pairs recipe first"
        )
    return kind == "pairs"
