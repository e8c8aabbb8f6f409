"""The world keeps what it promises: reproducible, exact boxes, enough of everything."""

from collections import Counter

import numpy as np
import pytest

from lxmert.scenes.layout import sample_layout
from lxmert.scenes.picture import MIN_PIXELS, MIN_VISIBLE, SPLITS, Picture, make_picture
from lxmert.scenes.render import SIZE
from lxmert.scenes.vocabulary import COLORS, MATERIALS, OBJECTS, SIZES

COUNT = 40


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [make_picture("train", index, seed=7) for index in range(COUNT)]


def test_same_seed_and_index_give_the_same_picture(pictures: list[Picture]) -> None:
    again = make_picture("train", 3, seed=7)
    assert np.array_equal(again.pixels, pictures[3].pixels)
    assert again.objects == pictures[3].objects


def test_splits_seeds_and_indices_give_other_scenes() -> None:
    arguments = [(split, index, seed) for split in SPLITS for index in (0, 1) for seed in (7, 8)]
    scenes = {make_picture(s, i, seed=seed).pixels.tobytes() for s, i, seed in arguments}
    assert len(scenes) == len(arguments)


def test_pictures_are_full_of_partly_hidden_objects(pictures: list[Picture]) -> None:
    seen = [item for picture in pictures for item in picture.objects]
    assert len(seen) / COUNT >= 4
    assert np.mean([item.visible < 0.95 for item in seen]) >= 0.18  # a sample of the 20 %
    assert min(item.visible for item in seen) >= MIN_VISIBLE
    assert min(item.pixels for item in seen) >= MIN_PIXELS


def test_boxes_are_within_the_picture_and_hold_all_visible_pixels(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert picture.pixels.shape == (SIZE, SIZE, 3)
        for item in picture.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= SIZE
            assert 0 <= y1 < y2 <= SIZE
            assert item.pixels <= (x2 - x1) * (y2 - y1)


def test_an_object_paints_its_box_and_nothing_else_but_light() -> None:
    """Take one object off the table: only its box, its shadow and reflections may change."""
    from dataclasses import replace

    from lxmert.scenes.render import pixel_rays, render, trace

    layout = sample_layout(np.random.default_rng([7, 0, 5]))
    origin = np.array(layout.camera.position, dtype=np.float32)[:, None]
    hits = trace(layout.objects, origin, pixel_rays(layout))
    first, _ = hits.nearest()
    number = int(np.bincount(first[first >= 0]).argmax())
    rest = [index for index in range(len(layout.objects)) if index != number]
    fewer = replace(layout, objects=tuple(layout.objects[index] for index in rest))
    full = render(layout, hits, np.random.default_rng(0)).astype(int)
    less = render(fewer, hits.keep(rest), np.random.default_rng(0)).astype(int)
    changed = np.abs(full - less).max(axis=2).ravel() > 8
    assert changed[first == number].mean() > 0.7
    assert changed[first != number].mean() < 0.2


def test_labels_are_balanced() -> None:
    generator = np.random.default_rng(9)
    things = [thing for _ in range(600) for thing in sample_layout(generator).objects]
    for aspect, values in (
        ("name", OBJECTS),
        ("color", COLORS),
        ("size", SIZES),
        ("material", MATERIALS),
    ):
        counts = Counter(getattr(thing, aspect) for thing in things)
        assert set(counts) == set(values)
        assert max(counts.values()) < 1.5 * len(things) / len(values)


@pytest.mark.parametrize(("split", "index"), [("tset", 0), ("test", -1)])
def test_impossible_pictures_are_refused(split: str, index: int) -> None:
    with pytest.raises(ValueError, match=r"expected one of|negative"):
        make_picture(split, index, seed=7)
