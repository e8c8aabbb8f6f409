"""Scores of foils and of Winoground's groups on cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

from lxmert.metrics.foils import auroc, score_foils, score_groups


def test_the_scores_of_four_pairs() -> None:
    found = score_foils([0.9, 0.6, 0.4, 0.3], [0.1, 0.7, 0.2, 0.3])
    assert found == {
        "pairwise_accuracy": 0.5,  # the second is the wrong way round, the last is a tie
        "accuracy": 0.625,
        "caption_precision": 0.5,
        "foil_precision": 0.75,
        "auroc": found["auroc"],
    }
    pairs = [(0.9, 0.6, 0.4, 0.3), (0.1, 0.7, 0.2, 0.3)]
    wins = sum((c > f) + (c == f) / 2 for c in pairs[0] for f in pairs[1])
    assert found["auroc"] == wins / 16


def test_constant_scores_are_at_chance_or_below() -> None:
    found = score_foils([0.8] * 5, [0.8] * 5)
    assert (found["pairwise_accuracy"], found["accuracy"], found["auroc"]) == (0.0, 0.5, 0.5)


def test_the_area_is_that_of_the_rank_sum_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 9, 70) / 9, rng.integers(0, 7, 50) / 9
    expected = mannwhitneyu(first, second).statistic / (70 * 50)
    assert auroc(first, second) == pytest.approx(expected)


def test_the_scores_of_groups() -> None:
    both = [[0.9, 0.1], [0.2, 0.8]]
    text_only = [[0.5, 0.6], [0.4, 0.9]]  # text 0 prefers image 1
    image_only = [[0.9, 0.3], [0.95, 0.97]]  # image 0 prefers text 1
    neither = [[0.5, 0.5], [0.5, 0.5]]
    for name, group, expected in (
        ("both", both, (1, 1, 1)),
        ("text", text_only, (1, 0, 0)),
        ("image", image_only, (0, 1, 0)),
        ("neither", neither, (0, 0, 0)),
    ):
        assert tuple(score_groups(np.array([group])).values()) == expected, name
    found = score_groups(np.array([both, text_only, image_only, neither]))
    assert found == {"text": 0.5, "image": 0.5, "group": 0.25}


def test_random_scores_are_at_chance() -> None:
    found = score_groups(np.random.default_rng(5).random((60_000, 2, 2)))
    assert found["text"] == pytest.approx(0.25, abs=0.01)
    assert found["image"] == pytest.approx(0.25, abs=0.01)
    assert found["group"] == pytest.approx(1 / 6, abs=0.01)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected pairs"):
        score_foils([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="2 texts, 2 images"):
        score_groups(np.zeros((3, 2)))
