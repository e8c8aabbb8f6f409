"""Attention patterns, against pairs listed by hand and sums over single entries."""

import numpy as np
import pytest
import torch

from lxmert.explain.maps import AttentionMaps
from lxmert.explain.patterns import PATTERNS, PatternInput, PatternScore, add_shares, find_pairs
from lxmert.explain.pointing import lie_inside

WORDS = ("[CLS]", "the", "Ball", "?", "[SEP]")
SEEN = PatternInput(
    words=WORDS,
    objects=("ball", "mug", "ball"),
    boxes=np.array([[0, 0, 10, 10], [5, 5, 15, 15], [50, 50, 60, 60]], dtype=np.float32),
    targets=np.array([[48, 48, 62, 62]], dtype=np.float32),
)


def pairs(name: str) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.argwhere(find_pairs(SEEN)[name])}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("next_word", {(1, 2), (2, 3)}),
        ("previous_word", {(2, 1), (3, 2)}),
        ("same_word", {(1, 1), (2, 2), (3, 3)}),
        ("sentence_ends", {(i, j) for i in (1, 2, 3) for j in (0, 4)}),
        ("same_region", {(0, 0), (1, 1), (2, 2)}),
        ("overlapping_regions", {(0, 1), (1, 0)}),
        ("same_kind", {(0, 2), (2, 0)}),
        ("named_regions", {(2, 0), (2, 2)}),
        ("asked_regions", {(0, 2)}),
        ("naming_words", {(0, 2), (2, 2)}),
    ],
)
def test_pairs_are_those_that_a_person_would_list(
    name: str, expected: set[tuple[int, int]]
) -> None:
    assert pairs(name) == expected


def test_every_pattern_has_pairs_of_the_shape_of_its_map() -> None:
    sizes = {"language": (5, 5), "relationship": (3, 3), "text_over_regions": (5, 3),
             "regions_over_text": (3, 5), "text_over_text": (5, 5)}  # fmt: skip
    found = find_pairs(SEEN)
    assert list(found) == list(PATTERNS)
    for name, each in found.items():
        assert each.shape == sizes[PATTERNS[name].kind]


@pytest.mark.parametrize("words", [("[CLS]", "[SEP]"), ("[CLS]", "what", "[SEP]")])
def test_the_shortest_texts_and_no_target_have_no_pairs(words: tuple[str, ...]) -> None:
    none = np.zeros((0, 4), dtype=np.float32)
    found = find_pairs(PatternInput(words, ("ball",), SEEN.boxes[:1], none))
    for name in ("next_word", "previous_word", "overlapping_regions", "same_kind", "asked_regions"):
        assert not found[name].any(), name


def make_maps(batch: int, words: int, regions: int) -> AttentionMaps:
    generator = torch.Generator().manual_seed(3)
    sizes = {"w": words, "r": regions}

    def layers(number: int, kind: str) -> tuple[torch.Tensor, ...]:
        shape = (batch, 2, sizes[kind[0]], sizes[kind[1]])
        return tuple(torch.rand(shape, generator=generator).softmax(-1) for _ in range(number))

    kinds = (
        layers(2, "ww"),
        (),
        layers(2, "wr"),
        layers(2, "rw"),
        layers(2, "ww"),
        layers(2, "rr"),
    )
    return AttentionMaps(*kinds)


def test_shares_are_means_over_all_readers_of_all_examples_without_padding() -> None:
    maps = make_maps(2, 7, 4)
    short = PatternInput(
        ("[CLS]", "a", "ball", "[SEP]"), ("mug", "ball"), SEEN.boxes[:2], SEEN.targets
    )
    shares: dict[str, PatternScore] = {}
    add_shares(shares, maps, [SEEN, short])
    assert "same_region" not in shares, "there is no relationship layer"
    for layer in range(2):
        for head in range(2):
            language = maps.language[layer][:, head]
            entries = [language[0, 1, 2], language[0, 2, 3], language[1, 1, 2]]
            assert shares["next_word"].mean[layer, head] == pytest.approx(sum(entries) / 3)
            cross = maps.text_over_regions[layer][:, head]
            named = [cross[0, 2, 0] + cross[0, 2, 2], cross[1, 2, 1]]
            assert shares["named_regions"].mean[layer, head] == pytest.approx(sum(named) / 2)
    assert shares["next_word"].mean_even == pytest.approx((1 / 5 + 1 / 5 + 1 / 4) / 3)
    assert shares["named_regions"].mean_even == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert shares["asked_regions"].readers == 1, "nothing of the second example is asked about"


def test_borders_of_a_target_belong_to_it() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 5, 5], [8, 8, 12, 12]], dtype=np.float32)
    targets = np.array([[2, 2, 3, 2], [0, 0, 0, 0], [9, 9, 10, 10]], dtype=np.float32)
    assert lie_inside(boxes, targets).tolist() == [True, False, True]
    assert lie_inside(boxes, targets[:0]).tolist() == [False] * 3
