"""Scenes are reproducible, boxes exact, and labels balanced."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lxmert.lab.scenes.image import (
    MIN_PIXELS,
    MIN_VISIBLE,
    SPLITS,
    SceneImage,
    look,
    make_image,
)
from lxmert.lab.scenes.layout import sample_layout
from lxmert.lab.scenes.programs import CLEAR_DEPTH
from lxmert.lab.scenes.render import SIZE, pixel_rays, render, trace
from lxmert.lab.scenes.vocabulary import COLORS, MATERIALS, OBJECTS, SIZES

from .scenes import see_objects

COUNT = 40


@pytest.fixture(scope="module")
def images() -> list[SceneImage]:
    return [make_image("train", index, seed=7) for index in range(COUNT)]


def test_same_seed_and_index_give_the_same_image(images: list[SceneImage]) -> None:
    again = make_image("train", 3, seed=7)
    assert np.array_equal(again.pixels, images[3].pixels)
    assert again.objects == images[3].objects


def test_splits_seeds_and_indices_give_other_scenes() -> None:
    arguments = [(split, index, seed) for split in SPLITS for index in (0, 1) for seed in (7, 8)]
    scenes = {make_image(s, i, seed=seed).pixels.tobytes() for s, i, seed in arguments}
    assert len(scenes) == len(arguments)


def test_images_are_full_of_objects_that_can_be_seen(images: list[SceneImage]) -> None:
    seen = [item for image in images for item in image.objects]
    assert len(seen) / COUNT >= 4
    assert min(item.visible for item in seen) >= MIN_VISIBLE
    assert min(item.pixels for item in seen) >= MIN_PIXELS


@pytest.mark.long
def test_about_a_fifth_of_the_objects_is_partly_hidden() -> None:
    seen = [item for index in range(250) for item in see_objects("train", index, seed=3)]
    assert np.mean([item.visible < 0.95 for item in seen]) >= 0.18


def test_boxes_are_exact(images: list[SceneImage]) -> None:
    """Against the image: without an object, the largest change is inside its box."""
    for image in images:
        assert image.pixels.shape == (SIZE, SIZE, 3)
        for item in image.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= SIZE
            assert 0 <= y1 < y2 <= SIZE
            assert item.pixels <= (x2 - x1) * (y2 - y1)
    layout = sample_layout(np.random.default_rng([7, 0, 4]))
    layout = replace(layout, surroundings=replace(layout.surroundings, light=(0.0, 1.0, 0.0)))
    origin = np.array(layout.camera.position, dtype=np.float32)[:, None]
    hits = trace(layout.objects, origin, pixel_rays(layout))
    full = render(layout, hits, np.random.default_rng(0)).astype(int)
    for item in look(layout.objects, hits):
        number = layout.objects.index(item.thing)
        rest = [index for index in range(len(layout.objects)) if index != number]
        fewer = replace(layout, objects=tuple(layout.objects[index] for index in rest))
        less = render(fewer, hits.keep(rest), np.random.default_rng(0)).astype(int)
        rows, columns = np.nonzero(np.abs(full - less).max(axis=2) > 24)
        x1, y1, x2, y2 = item.box
        assert abs(rows.min() - y1) <= 2, item
        # Below and beside an object lies its shadow; inside its box most pixels must change.
        inside = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
        assert inside.sum() > 0.4 * item.pixels, item


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
def test_impossible_images_are_refused(split: str, index: int) -> None:
    with pytest.raises(ValueError, match=r"expected one of|expected 0 or more"):
        make_image(split, index, seed=7)


def test_texts_know_where_an_object_is_seen_and_how_far_it_stands(images: list[SceneImage]) -> None:
    for image in images:
        for item in image.objects:
            thing = item.as_thing()
            assert thing.across == (item.box[0] + item.box[2]) / 2
            assert thing.depth == item.thing.z
    # What stands clearly nearer also ends lower in the image, as a viewer judges depth by.
    agree = [
        (near.box[3] > far.box[3])
        for image in images
        for near in image.objects
        for far in image.objects
        if near.thing.z + CLEAR_DEPTH < far.thing.z
    ]
    assert np.mean(agree) > 0.98
