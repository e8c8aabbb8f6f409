"""Image-text retrieval with the matching head.

Each training image is paired with its own caption and with captions of other images.
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
from lxmert.tasks.inputs import TextData
from lxmert.tasks.task import Batch
from lxmert.tasks.text_training import open_training
from lxmert.tasks.texts import ModelSettings, check_several_images, other_text

_PAIRS_AT_ONCE = 256


class RetrievalData(TextData):
    """Captions, and the regions of their images.

    Attributes:
        train: one or several JSONL files of training captions: `image`, `caption`.
        valid: the same for validation; all captions are ranked for all images, so the cost grows
            with the product of their numbers.
        regions: one or several region stores of the training images.
        valid_regions: one or several region stores of the validation images.
        extractor: folder of the extractor that made the stores, saved with the model.
        negatives: number of captions of other images per training caption.
    """

    negatives: PositiveInt = 1


class RetrievalSettings(Record):
    """The task's tables in a recipe: `[data]`, `[model]`."""

    data: RetrievalData
    model: ModelSettings = ModelSettings()


class CaptionItem(NamedTuple):
    """An image with its caption and with captions of other images.

    Attributes:
        captions: token ids of each caption; the first one describes the image.
        features: `[regions, dim]`.
        boxes: `[regions, 4]`, normalized to `[0, 1]`.
    """

    captions: list[IntArray]
    features: FloatArray
    boxes: FloatArray


class RetrievalTask:
    """Learn to tell the caption of an image from captions of other images."""

    settings_type: ClassVar[type[Record]] = RetrievalSettings
    best_metric = "mean_recall"

    def __init__(self, settings: RetrievalSettings, *, seed: int) -> None:
        """Read the captions, and initialize a model from a checkpoint or randomly."""
        data, self.seed = settings.data, seed
        self.negatives = data.negatives
        self.loss_weights: Mapping[str, float] = {"matched": 1.0}
        files = data.train, data.valid
        training, validation = (Corpus.read((), captions=each, strict=True) for each in files)
        self.parts = open_training(data, settings.model, "retrieval", (training, validation), files)
        self.model: nn.Module = self.parts.model
        self.tokenizer = self.parts.tokenizer
        self.training, self.validation = self.parts.training, self.parts.validation
        check_several_images(self.training, self.validation)

    def __len__(self) -> int:
        return len(self.training)

    def example(self, index: int, epoch: int) -> CaptionItem:
        """Return a training caption with its image, and captions of other images."""
        generator = np.random.default_rng([self.seed, epoch, index])
        others = [other_text(self.training, index, generator) for _ in range(self.negatives)]
        regions, boxes = self.training.regions(index)
        captions = [self.training.token_ids[row] for row in (index, *others)]
        return CaptionItem(captions, regions.features, boxes)

    def collate(self, examples: Sequence[CaptionItem]) -> Batch:
        """Batch images with their captions.

        Returns:
            `text` and `regions`, the model's keyword arguments for all captions and all images;
            `owners` `[captions]`, the row of each caption's image; `matched` `[captions]`, 1 for
            the first caption of each image, else 0.
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
        """Count the image-caption pairs."""
        return {"matched": float(len(batch["matched"]))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Score the pairs, encoding each image once; sum the cross-entropy over the pairs."""
        assert isinstance(model, LxmertForImageAndTextRetrieval)
        image = model.lxmert.encode_image(**batch["regions"]).take(batch["owners"])
        logits = model(**batch["text"], encoded_image=image).logits
        return {"matched": objectives.matching(logits, batch["matched"])[0]}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Rank all validation captions for all their images, and vice versa.

        Args:
            device: where to compute.
            limit: number of captions; only their images are ranked.

        Returns:
            Recall at K, `image_to_text_K` and `text_to_image_K`, for K = 1, 5 and 10; their mean
            `mean_recall`; the numbers of candidates, `images` and `captions`.
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
        """Score the first `num_captions` captions for the image of caption `row`, `[captions]`."""
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
        self.parts.save(folder)
