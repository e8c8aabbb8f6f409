"""What text tasks share: opening data and model, running validation batches, saving the model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from transformers import BertTokenizer, PreTrainedModel

from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, PreprocessorConfig
from lxmert.data.stores import RegionSource, open_regions
from lxmert.files import write_text
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.tasks.baselines import FILE_NAME as BASELINES_NAME
from lxmert.tasks.initialization import ModelSpec, initialize
from lxmert.tasks.inputs import RegionData
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import ModelSettings, TextCorpus, check_extractor

_logger = getLogger(__name__)


class ValidatedTask(Protocol):
    """A task whose validation examples are collated as its training examples."""

    @property
    def model(self) -> nn.Module:
        """The model to validate."""

    def validation_example(self, row: Any, /) -> Any:
        """Return a validation example without random changes."""

    def collate(self, examples: Sequence[Any], /) -> Batch:
        """Combine examples into one batch."""


class TextTraining(NamedTuple):
    """Everything that a text task trains with; `save` writes the model folder."""

    model: LxmertPreTrainedModel
    tokenizer: BertTokenizer
    preprocessor: PreprocessorConfig
    extractor: RegionExtractor | None
    training: TextCorpus
    validation: TextCorpus

    def save(self, folder: Path, baselines: str = "") -> None:
        """Write the model folder, including `Baselines.to_text` if given."""
        save_model(folder, self.model, self.tokenizer, self.preprocessor, self.extractor, baselines)


def open_stores(data: RegionData) -> tuple[RegionSource, RegionSource]:
    """Open the regions of training and of validation images.

    Raises:
        FileNotFoundError: if a store does not exist.
        ValueError: if different extractors made them.
    """
    store, valid_store = open_regions(data.regions), open_regions(data.valid_regions)
    owner = f"the extractor of the training store {store.folder}"
    check_extractor(valid_store, store.header.fingerprint, owner)
    return store, valid_store


def open_training(
    data: RegionData,
    settings: ModelSettings,
    kind: str,
    splits: tuple[Corpus, Corpus],
    files: tuple[Sequence[str], Sequence[str]],
    *,
    texts: Callable[[], Iterable[str]] | None = None,
    answers: Callable[[], Sequence[str]] | None = None,
    answer_list: Sequence[str] | None = None,
    extractor_first: bool = False,
) -> TextTraining:
    """Open the stores, initialize the model, load the extractor and tokenize all texts.

    Args:
        data: the table `[data]`.
        settings: the table `[model]`.
        kind: row of `lxmert.model.loading.MODELS`.
        splits: training and validation examples.
        files: names of the files that they were read from, for the log.
        texts: returns the texts from which a tokenizer is built if none is named; None: those of
            the training examples.
        answers: as in `ModelSpec`.
        answer_list: as in `ModelSpec`.
        extractor_first: whether the extractor is loaded before the model is initialized. Both
            draw from torch's generator, so the order decides the first weights.

    Raises:
        FileNotFoundError: if a store, checkpoint, tokenizer or extractor does not exist.
        ValueError: if stores, extractor, checkpoint and examples do not fit each other.
    """
    store, valid_store = open_stores(data)
    extractor = _load_extractor(data.extractor, store) if extractor_first else None
    initialized = initialize(
        settings, ModelSpec(kind, store, texts or splits[0].texts, answers, answer_list)
    )
    if not extractor_first:
        extractor = _load_extractor(data.extractor, store)
    length = initialized.preprocessor.max_text_length
    training, validation = (
        TextCorpus(corpus, regions, initialized.tokenizer, max_text_length=length)
        for corpus, regions in zip(splits, (store, valid_store), strict=True)
    )
    _logger.info(
        "training on %d texts of %s; validating on %d of %s",
        len(training),
        ", ".join(files[0]),
        len(validation),
        ", ".join(files[1]),
    )
    return TextTraining(*initialized, extractor, training, validation)


def validation_outputs(
    task: ValidatedTask, rows: Sequence[Any], *, batch_size: int, device: str, **options: bool
) -> Iterator[tuple[Sequence[Any], Batch, Any]]:
    """Run the model of a task on validation examples in batches, without gradients.

    Args:
        task: its model is called with the `inputs` of each batch as keyword arguments, and is
            already on `device`.
        rows: which examples, in this order; each is passed to `validation_example`.
        batch_size: examples per batch.
        device: where the model is.
        **options: further keyword arguments of the model.

    Yields:
        The rows of a batch, the batch on the CPU, and the model's output.
    """
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        batch = task.collate([task.validation_example(row) for row in part])
        inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
        with torch.inference_mode():
            output = task.model(**inputs, **options)
        yield part, batch, output


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: BertTokenizer,
    preprocessor: PreprocessorConfig,
    extractor: RegionExtractor | None,
    baselines: str = "",
) -> None:
    """Write everything that inference needs to one folder, and `Baselines.to_text` if given."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preprocessor.save(folder)
    if baselines:
        write_text(folder / BASELINES_NAME, baselines)
    if extractor is not None:
        extractor.save_pretrained(folder / EXTRACTOR_FOLDER)


def _load_extractor(folder: str | None, store: RegionSource) -> RegionExtractor | None:
    """Load the extractor that made a store, to save it with the model; None if none is named."""
    if folder is None:
        return None
    extractor = load_extractor(folder)
    check_extractor(store, extractor.fingerprint, f"the extractor in {folder}")
    return extractor
