"""Masks are reproducible, have the documented rates, and change nothing else."""

import numpy as np
import pytest

from lxmert.data.masking import mask_regions, mask_words
from lxmert.schema import IGNORE_INDEX, FloatArray

MASK, SIZE = 4, 1009


def masked(sentence: np.ndarray, seed: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    words = mask_words(sentence, generator, rate=rate, mask_id=MASK, vocabulary_size=SIZE)
    return words.input_ids, words.labels


def test_words_are_hidden_at_the_published_rates() -> None:
    sentence = np.arange(100, 140)
    pairs = [masked(sentence, seed, 0.15) for seed in range(2000)]
    hidden = np.stack([ids for ids, _ in pairs])[:, 1:-1]
    labels = np.stack([labels for _, labels in pairs])[:, 1:-1]
    chosen = labels != IGNORE_INDEX
    assert chosen.mean() == pytest.approx(0.15, abs=0.005)
    assert (hidden[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # 10% replaced, of which one in SIZE is by chance the word itself
    assert (hidden[chosen] == labels[chosen]).mean() == pytest.approx(0.1, abs=0.01)
    assert hidden.max() < SIZE


@pytest.mark.parametrize("rate", [0.0, 0.15, 1.0])
def test_only_chosen_words_change_and_the_ends_never(rate: float) -> None:
    for seed in range(50):
        sentence = np.random.default_rng(seed).integers(5, 99, size=2 + seed % 9)
        ids, labels = masked(sentence, seed, rate)
        chosen = labels != IGNORE_INDEX
        assert np.array_equal(ids[~chosen], sentence[~chosen])
        assert np.array_equal(labels[chosen], sentence[chosen])
        assert not chosen[[0, -1]].any()
        if rate in (0.0, 1.0):
            assert (chosen[1:-1] == bool(rate)).all()


def test_the_same_generator_state_gives_the_same_masks() -> None:
    sentence = np.arange(30)
    assert np.array_equal(masked(sentence, 9, 0.4)[0], masked(sentence, 9, 0.4)[0])
    assert not np.array_equal(masked(sentence, 9, 0.4)[0], masked(sentence, 8, 0.4)[0])


def test_regions_are_zeroed_attribute_swapd_or_kept() -> None:
    features = np.full((4000, 3), 7.25, dtype=np.float32)
    others = np.full((2, 3), -3.5, dtype=np.float32)
    hidden, chosen = mask_regions(
        features, np.random.default_rng(1), rate=0.5, others=lambda: others
    )
    assert chosen.mean() == pytest.approx(0.5, abs=0.03)
    assert (hidden[~chosen] == 7.25).all()
    values, counts = np.unique(hidden[chosen][:, 0], return_counts=True)
    assert values.tolist() == [-3.5, 0.0, 7.25]
    np.testing.assert_allclose(counts / counts.sum(), [0.1, 0.8, 0.1], atol=0.03)
    assert (features == 7.25).all(), "the caller's features were overwritten"


def test_hidden_regions_may_all_be_zeros() -> None:
    """The rule of the paper; the original code also replaces and keeps some regions."""
    features = np.full((400, 3), 7.25, dtype=np.float32)

    def never() -> FloatArray:
        raise AssertionError("another image was read for nothing")

    hidden, chosen = mask_regions(
        features, np.random.default_rng(1), rate=0.5, others=never, shares=(1.0, 0.0)
    )
    assert (hidden[chosen] == 0).all()
    assert (hidden[~chosen] == 7.25).all()


@pytest.mark.parametrize("count", [1, 3, 50])
def test_replacements_come_from_all_regions_that_the_other_image_has(count: int) -> None:
    """The original code drew from 0 to 35 regardless of the number of regions."""
    features = np.full((4000, 1), -8, dtype=np.float32)
    others = np.arange(count, dtype=np.float32)[:, None]
    hidden, _ = mask_regions(
        features, np.random.default_rng(1), rate=1.0, others=lambda: others, shares=(0.0, 1.0)
    )
    assert set(np.unique(hidden)) == set(range(count))
