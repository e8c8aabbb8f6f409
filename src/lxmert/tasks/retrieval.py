"""Finding the caption of an image and the image of a caption, by the head of matching.

An image is read with its caption and with captions of others; which is its own is learned.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lxmert.data.collate import collate_regions, collate_text
from lxmert.data.corpus import Corpus
from lxmert.metrics.retrieval import CUTS, score_retrieval
from lxmert.model import objectives
from lxmert.model.heads import LxmertForImageAndTextRetrieval
from lxmert.records import Record
from lxmert.schema import FloatArray, IntArray
from lxmert.tasks.initialization import ModelSpec, initialize
from lxmert.tasks.inputs import File, Files
from lxmert.tasks.task import Batch
from lxmert.tasks.texts import (
    ModelSettings,
    check_several_images,
    load_eyes,
    open_stores,
    other_text,
    save_model,
)

_PAIRS_AT_ONCE = 256


class RetrievalData(Record):
    """Captions, and the regions of their images.

    Attributes:
        train: JSONL file, or several, of training captions: `image`, `caption`.
        valid: the same for validation; all its captions are ranked for all its images, so that the
            work grows with the product.
        regions: region store, or several, of the training images.
        valid_regions: region store, or several, of the validation images.
        extractor: folder of the extractor that made the stores, to be saved with the model.
        negatives: captions of other images beside each one.
    """

    train: Files
    valid: Files
    regions: Files
    valid_regions: Files
    extractor: File | None = None
    negatives: PositiveInt = 1


class RetrievalSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`."""

    data: RetrievalData
    model: ModelSettings = ModelSettings()


class Item(NamedTuple):
    """One image with its caption, and with captions of others.

    Attributes:
        captions: token ids of each; the first one is about the image.
        features: `[regions, dim]`.
        boxes: `[regions, 4]`, normalised to `[0, 1]`.
    """

    captions: list[IntArray]
    features: FloatArray
    boxes: FloatArray


class RetrievalTask:
    """Tell the caption of an image from those of others."""

    settings_type: ClassVar[type[Record]] = RetrievalSettings
    best_metric = "mean_recall"

    def __init__(self, settings: RetrievalSettings, *, seed: int) -> None:
        """Read the captions and start from a pretrained model, or from nothing."""
        data, self.seed = settings.data, seed
        self.negatives = data.negatives
        store, valid_store = open_stores(data.regions, data.valid_regions)
        self.loss_weights: Mapping[str, float] = {"matched": 1.0}
        training, validation = (
            Corpus.read((), captions=files, strict=True) for files in (data.train, data.valid)
        )
        begun = initialize(settings.model, ModelSpec("retrieval", store, training.texts))
        self.model: nn.Module = begun.model
        self.tokenizer, self.preprocessor = begun.tokenizer, begun.preprocessor
        self.extractor = load_eyes(data.extractor, store)
        self.training, self.validation = begun.read(
            (training, validation),
            (store, valid_store),
            (data.train, data.valid),
        )
        check_several_images(self.training, self.validation)

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> Item:
        """Return a training caption with its image, and with other images' captions."""
        generator = np.random.default_rng([self.seed, epoch, index])
        others = [other_text(self.training, index, generator) for _ in range(self.negatives)]
        regions, boxes = self.training.regions(index)
        captions = [self.training.token_ids[row] for row in (index, *others)]
        return Item(captions, regions.features, boxes)

    def collate(self, examples: Sequence[Item]) -> Batch:
        """Join images with their captions.

        Returns:
            `text` and `regions`, keyword arguments of the model for `captions` texts and `images`
            images; `owners` `[captions]`, the row of each one's image; `matched` `[captions]`, 1
            for the first caption of each image.
        """
        counts = torch.tensor([len(item.captions) for item in examples])
        captions = [caption for item in examples for caption in item.captions]
        matched = [int(place == 0) for item in examples for place in range(len(item.captions))]
        return {
            "text": collate_text(captions, pad_id=self.tokenizer.pad_token_id),
            "regions": collate_regions(
                [item.features for item in examples], [item.boxes for item in examples]
            ),
            "owners": torch.arange(len(examples)).repeat_interleave(counts),
            "matched": torch.tensor(matched),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the pairs of image and caption."""
        return {"matched": float(len(batch["matched"]))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Score the pairs, each image encoded once; the cross-entropy summed over the pairs."""
        assert isinstance(model, LxmertForImageAndTextRetrieval)
        image = model.lxmert.encode_image(**batch["regions"]).take(batch["owners"])
        logits = model(**batch["text"], encoded_image=image).logits
        return {"matched": objectives.matching(logits, batch["matched"])[0]}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Rank all validation captions for all their images, and the reverse.

        Args:
            device: where to compute.
            limit: number of captions; only images that they are about are ranked.

        Returns:
            `image_to_text_K` and `text_to_image_K` for K of 1, 5 and 10, the share whose own is
            among the first K; `mean_recall`, their mean; `images` and `captions`, how many there
            were to choose from.
        """
        rows = range(min(len(self.validation), limit or len(self.validation)))
        images = [self.validation.examples.images(row)[0] for row in rows]
        first = {image: row for row, image in reversed(list(enumerate(images)))}
        places = {image: place for place, image in enumerate(first)}
        with torch.inference_mode():
            scores = [self._score(row, len(rows), device) for row in first.values()]
        owners = [places[image] for image in images]
        recall = score_retrieval(np.stack(scores), owners)
        named = {
            f"{direction}_{k}": recall[direction][k]
            for direction in ("image_to_text", "text_to_image")
            for k in CUTS
        }
        mean = sum(named.values()) / len(named)
        return {"mean_recall": mean, **named, "images": len(first), "captions": len(rows)}

    def _score(self, row: int, num_captions: int, device: str) -> FloatArray:
        """Return how well each of the first captions matches the image of one, `[captions]`."""
        model = self.model
        assert isinstance(model, LxmertForImageAndTextRetrieval)
        regions, boxes = self.validation.regions(row)
        inputs = collate_regions([regions.features], [boxes])
        image = model.lxmert.encode_image(
            inputs["visual_feats"].to(device), inputs["visual_pos"].to(device)
        )
        scores = []
        for start in range(0, num_captions, _PAIRS_AT_ONCE):
            captions = range(start, min(start + _PAIRS_AT_ONCE, num_captions))
            text = collate_text(
                [self.validation.token_ids[caption] for caption in captions],
                pad_id=self.tokenizer.pad_token_id,
            )
            logits = model(
                **{name: value.to(device) for name, value in text.items()},
                encoded_image=image.take([0] * len(captions)),
            ).logits
            scores.append((logits[:, 1] - logits[:, 0]).float().cpu().numpy())
        return np.concatenate(scores)

    def save(self, folder: Path) -> None:
        """Write the model folder."""
        assert isinstance(self.model, LxmertForImageAndTextRetrieval)
        save_model(folder, self.model, self.tokenizer, self.preprocessor, self.extractor)
