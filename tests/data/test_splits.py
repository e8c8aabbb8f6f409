"""Splitting by image."""

from collections import Counter

import numpy as np
import pytest

from lxmert.data.corpus import Corpus
from lxmert.data.splits import SHARES, Splits, split_by_image
from lxmert.schema import Example


def make(seed: int, *, images: int = 80, count: int = 300, pairs: bool = True) -> list[Example]:
    """Return questions about single images and pairs, with frequent and rare answers."""
    generator = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        first = int(generator.integers(images))
        both = pairs and generator.random() < 0.1
        names = (f"{first}.png", f"{(first + 1) % images}.png") if both else (f"{first}.png",)
        answer = str(int(generator.geometric(0.15)))
        examples.append(Example(str(number), "What?", names, {answer: 1.0}))
    return examples


def images_by_split(examples: list[Example], splits: Splits) -> dict[str, set[str]]:
    return {
        name: {image for index in rows for image in examples[index].image_ids}
        for name, rows in splits.rows.items()
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shares", [SHARES, {"train": 0.9, "valid": 0.1}], ids=["three", "two"])
def test_no_image_is_in_two_splits_and_no_example_is_lost(
    seed: int, shares: dict[str, float]
) -> None:
    examples = make(seed)
    copies = {"7.png": "3.png", "50.png": "3.png", "9.png": "nowhere.png"}
    splits = split_by_image(Corpus.of(examples), seed=seed, shares=shares, copies=copies)
    assert list(splits.rows) == list(shares)
    assert sorted(np.concatenate(list(splits.rows.values())).tolist()) == list(range(300))
    images = images_by_split(examples, splits)
    counts = Counter(name for names in images.values() for name in names)
    assert set(counts.values()) == {1}
    together = {"3.png", "7.png", "50.png"} & set(counts)
    assert sum(together <= names for names in images.values()) == 1


@pytest.mark.parametrize("seed", range(8))
def test_the_same_images_are_split_alike_in_any_order(seed: int) -> None:
    """Without swaps, which depend on the answers; those follow the order of the images too."""
    examples = make(seed)
    order = np.random.default_rng(seed).permutation(300)
    shuffled = [examples[index] for index in order]
    first = split_by_image(Corpus.of(examples), seed=3)
    second = split_by_image(Corpus.of(shuffled), seed=3)
    assert images_by_split(examples, first) == images_by_split(shuffled, second)
    other = split_by_image(Corpus.of(examples), seed=4)
    assert images_by_split(examples, first) != images_by_split(examples, other)


def test_shares_are_those_of_the_images() -> None:
    examples = make(1, images=1000, count=6000, pairs=False)
    images = images_by_split(examples, split_by_image(Corpus.of(examples), seed=5))
    total = sum(map(len, images.values()))
    assert {name: round(len(found) / total, 2) for name, found in images.items()} == SHARES


@pytest.mark.parametrize("seed", range(8))
def test_training_has_every_answer_or_the_lack_is_reported(seed: int) -> None:
    examples = make(seed)
    splits = split_by_image(Corpus.of(examples), seed=seed)
    answers = {
        name: Counter(answer for index in rows for answer in examples[index].answers)
        for name, rows in splits.rows.items()
    }
    others = answers["valid"] + answers["test"]
    expected = {name: count for name, count in others.items() if name not in answers["train"]}
    assert splits.unseen == expected
    assert splits.unseen == {}  # rare answers are exchanged: there are images to spare


def test_answers_that_no_attribute_swap_can_teach_are_reported() -> None:
    examples = [Example(str(n), "What?", (f"{n}.png",), {f"{n}": 1.0}) for n in range(20)]
    splits = split_by_image(Corpus.of(examples), seed=3)
    assert [len(rows) for rows in splits.rows.values()] == [16, 2, 2]
    held = np.concatenate([splits.rows["valid"], splits.rows["test"]])
    assert splits.unseen == {str(n): 1 for n in held}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_images_fill_every_split(count: int) -> None:
    examples = [Example(str(n), "What?", (f"{n}.png",), {"a": 1.0}) for n in range(count)]
    splits = split_by_image(Corpus.of(examples), seed=3)
    assert min(map(len, splits.rows.values())) == 1
    with pytest.raises(ValueError, match="has 2 separate images"):
        split_by_image(Corpus.of(examples[:2]), seed=3)
