"""Scores of foils and of Winoground's groups on cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

from lxmert.metrics.foils import (
    auroc,
    foil_intervals,
    group_intervals,
    score_foils,
    score_groups,
)
from lxmert.metrics.intervals import bootstrap, resample


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


def test_the_intervals_of_pairs_are_those_of_the_bootstrap() -> None:
    """60 images have three pairs each, and images differ in how easy they are."""
    rng = np.random.default_rng(6)
    ease = np.repeat(rng.normal(size=60), 3)
    foils = np.clip(0.5 + 0.2 * rng.normal(size=180), 0, 1)
    captions = np.clip(foils + 0.1 + 0.1 * ease + 0.1 * rng.normal(size=180), 0, 1)
    images = np.repeat(np.arange(60), 3).astype(str).tolist()
    found = foil_intervals(captions, foils, images)
    assert found.keys() == score_foils(captions, foils).keys()
    expected = bootstrap(captions > foils, images)
    assert found["pairwise_accuracy"] == (expected.low, expected.high)
    drawn = resample(np.eye(60), samples=2000).astype(int)  # how often each image is drawn
    rows = (np.repeat(np.arange(180), np.repeat(counts, 3)) for counts in drawn)
    areas = [auroc(captions[own], foils[own]) for own in rows]
    assert found["auroc"] == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.01)
    one_image = foil_intervals(captions, foils, ["a"] * 180)["auroc"]
    assert one_image == (auroc(captions, foils), auroc(captions, foils))


def test_the_intervals_of_groups_are_those_of_the_bootstrap() -> None:
    scores = np.random.default_rng(7).random((50, 2, 2))
    solved = [score_groups(group[None])["group"] for group in scores]
    expected = bootstrap(solved)
    found = group_intervals(scores)
    assert found["group"] == (expected.low, expected.high)
    assert found.keys() == score_groups(scores).keys()


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
