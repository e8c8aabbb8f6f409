"""The region cache: by content, least recently used first out, never beyond its bytes."""

import numpy as np

from lxmert.schema import Regions
from lxmert.serve.cache import KnownImage, RegionCache


def make_image(size: int) -> KnownImage:
    regions = Regions(
        boxes=np.zeros((3, 4), np.float32),
        features=np.zeros((3, 5), np.float32),
        image_size=(8, 9),
        object_ids=np.zeros(3, np.int64),
        object_scores=np.zeros(3, np.float32),
        attribute_ids=np.zeros((3, 1), np.int64),
        attribute_scores=np.zeros((3, 1), np.float32),
    )
    return KnownImage(bytes(size), regions)


ARRAYS = 4 * (12 + 15 + 3 + 3) + 8 * (3 + 3)


def test_bytes_are_those_of_file_and_arrays() -> None:
    assert make_image(800).nbytes == 800 + ARRAYS


def test_the_least_recently_used_images_are_dropped() -> None:
    cache = RegionCache(3 * (800 + ARRAYS))
    for name in "abc":
        cache.put(name, make_image(800))
    assert cache.get("a") is not None
    cache.put("d", make_image(800))
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    assert cache.nbytes == 3 * (800 + ARRAYS)


def test_an_image_that_is_put_again_counts_once() -> None:
    cache = RegionCache(10_000)
    cache.put("a", make_image(800))
    cache.put("a", make_image(900))
    assert (len(cache), cache.nbytes) == (1, 900 + ARRAYS)


def test_an_image_beyond_the_limit_is_not_kept() -> None:
    for limit in (0, 800):
        cache = RegionCache(limit)
        cache.put("a", make_image(800))
        assert (len(cache), cache.nbytes, cache.get("a")) == (0, 0, None)
