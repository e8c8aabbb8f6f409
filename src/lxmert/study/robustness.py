"""Does a model use image and question: answers after exchanging or damaging one of them.

If an answer stays the same with another image, the model ignored the image for this question; if it
stays the same with another question, it ignored the question.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.modality import Modality
from lxmert.metrics.intervals import bootstrap
from lxmert.predict import Predictor, Progress, RegionReader
from lxmert.schema import Example, Regions
from lxmert.tasks.metrics import score_answers

NOISE = 0.5
"""Standard deviation of the noise, in standard deviations of an image's features."""

DROPPED = 0.5
"""Share of the regions that is dropped."""


class RobustnessRow(TypedDict):
    """Answers under one change.

    Attributes:
        accuracy: accuracy on the original questions' answers, in `[0, 1]`; None if the question was
            exchanged.
        low: lower limit of the 95% interval of the accuracy, resampling images; or None.
        high: upper limit; or None.
        same_answer: share of questions with the same answer as without the change.
        same_low: lower limit of the interval of that share.
        same_high: upper limit.
    """

    accuracy: float | None
    low: float | None
    high: float | None
    same_answer: float
    same_low: float
    same_high: float


def measure_robustness(
    predictor: Predictor,
    corpus: Corpus,
    read: RegionReader,
    original: Sequence[str],
    *,
    seed: int = 0,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> dict[str, RobustnessRow]:
    """Answer questions under each of `CHANGES`.

    Args:
        predictor: a model that answers questions about one image.
        corpus: the questions, about at least two images.
        read: returns the regions of images.
        original: the answers without a change.
        seed: seed of all changes.
        progress: called with the numbers of finished and of all answers.

    Returns:
        `original` and each change, in order.

    Raises:
        ValueError: if all questions are about the same image.
    """
    examples = list(corpus)
    images = [example.image_ids[0] for example in examples]
    if len(set(images)) < 2:
        raise ValueError(
            f"all {len(examples)} questions are about {images[0]!r}: exchanging images needs at "
            "least two of them"
        )
    others = _partners(images, seed)
    total = len(examples) * len(CHANGES)
    rows = {"original": _row(examples, original, original, images, asked=True)}
    for number, (name, change) in enumerate(CHANGES.items()):
        changed, reader = change(examples, others, read, seed)
        before = number * len(examples)
        found = predictor.predict(
            Corpus.of(changed),
            reader,
            warn=False,  # about the same words again
            progress=partial(_progress_from, progress, before, total),
        )
        answers = [answer.answer for answer in found]
        rows[name] = _row(examples, answers, original, images, asked=name != "question exchanged")
    return rows


def _progress_from(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Report answers under one change as a part of those under all of them."""
    progress(before + done, total)


class _ChangedRegions:
    """A reader of regions that are changed before they are returned."""

    def __init__(
        self,
        read: RegionReader,
        change: Callable[[Regions, np.random.Generator], Regions],
        seed: int,
    ) -> None:
        self._read, self._change, self._seed = read, change, seed
        self.name = read.name

    def problem(self, image_id: str) -> str | None:
        """Return why an image has no regions; None if it has."""
        return self._read.problem(image_id)

    def __call__(self, image_ids: Sequence[str]) -> list[Regions]:
        """Return the changed regions; the change depends on the image and the seed only."""
        return [
            self._change(regions, np.random.default_rng([self._seed, *image_id.encode()]))
            for image_id, regions in zip(image_ids, self._read(image_ids), strict=True)
        ]


Changed = tuple[list[Example], RegionReader]
Change = Callable[[list[Example], list[int], RegionReader, int], Changed]


def _other_image(examples: list[Example], others: list[int], read: RegionReader, _: int) -> Changed:
    return [
        replace(example, image_ids=examples[other].image_ids)
        for example, other in zip(examples, others, strict=True)
    ], read


def _other_question(
    examples: list[Example], others: list[int], read: RegionReader, _: int
) -> Changed:
    return [
        replace(example, text=examples[other].text)
        for example, other in zip(examples, others, strict=True)
    ], read


def _fewer(examples: list[Example], _: list[int], read: RegionReader, seed: int) -> Changed:
    return examples, _ChangedRegions(read, drop_regions, seed)


def _noisy(examples: list[Example], _: list[int], read: RegionReader, seed: int) -> Changed:
    return examples, _ChangedRegions(read, add_noise, seed)


def _blank(examples: list[Example], _: list[int], read: RegionReader, seed: int) -> Changed:
    return examples, _ChangedRegions(read, blank, seed)


CHANGES: dict[str, Change] = {
    "image exchanged": _other_image,
    "question exchanged": _other_question,
    "features zero": _blank,
    "half of the regions": _fewer,
    "noisy features": _noisy,
}
"""Name -> change of the questions or the regions."""


def drop_regions(regions: Regions, generator: np.random.Generator) -> Regions:
    """Drop half of the regions at random; at least one is left."""
    number = max(1, round(len(regions) * (1 - DROPPED)))
    return regions.take(np.sort(generator.permutation(len(regions))[:number]))


def add_noise(regions: Regions, generator: np.random.Generator) -> Regions:
    """Add Gaussian noise to the features."""
    noise = generator.normal(size=regions.features.shape) * regions.features.std() * NOISE
    return replace(regions, features=(regions.features + noise).astype(np.float32))


def blank(regions: Regions, _: np.random.Generator) -> Regions:
    """Set the features to zero; the boxes stay."""
    return replace(regions, features=np.zeros_like(regions.features))


def one_modality(
    corpus: Corpus, read: RegionReader, modality: Modality
) -> tuple[Corpus, RegionReader]:
    """Return questions without words (`image`), or a reader without regions (`text`)."""
    if modality == "image":
        return Corpus.of(replace(example, text="") for example in corpus), read
    if modality == "text":
        return corpus, _ChangedRegions(read, no_regions, 0)
    return corpus, read


def no_regions(regions: Regions, _: np.random.Generator) -> Regions:
    """Drop all regions."""
    return regions.take(np.zeros(0, np.int64))


def _partners(images: Sequence[str], seed: int) -> list[int]:
    """Draw for each question another one, about another image."""
    generator = np.random.default_rng(seed)
    partners = []
    for image in images:
        other = int(generator.integers(len(images)))
        while images[other] == image:
            other = int(generator.integers(len(images)))
        partners.append(other)
    return partners


def _row(
    examples: Sequence[Example],
    answers: Sequence[str],
    original: Sequence[str],
    images: Sequence[str],
    *,
    asked: bool,
) -> RobustnessRow:
    same = [float(new == old) for new, old in zip(answers, original, strict=True)]
    stays = bootstrap(same, images)
    accuracy = bootstrap(score_answers(examples, answers), images) if asked else (None, None, None)
    return {
        "accuracy": accuracy[0],
        "low": accuracy[1],
        "high": accuracy[2],
        "same_answer": stays.mean,
        "same_low": stays.low,
        "same_high": stays.high,
    }
