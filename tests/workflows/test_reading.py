"""Images are read ahead in their order, and never too many bytes of them."""

import threading
import time

import pytest
from PIL import Image

from lxmert.schema import Failure
from lxmert.workflows import reading
from lxmert.workflows.reading import join_batches, load_ahead


@pytest.fixture
def numbered(tmp_path):
    """Images whose widths are their numbers."""
    for index in range(1, 41):
        Image.new("RGB", (index, 9)).save(tmp_path / f"{index}.png")
    return tmp_path, [f"{index}.png" for index in range(1, 41)]


def count_reads(monkeypatch):
    """Return the list to which each read adds the name of its image."""
    begun = []
    load = reading._load

    def count(folder, image_id):
        begun.append(image_id)
        return load(folder, image_id)

    monkeypatch.setattr(reading, "_load", count)
    return begun


def test_images_are_read_ahead_in_order_and_within_bounds(numbered, monkeypatch):
    folder, names = numbered
    monkeypatch.setattr(reading, "MOST_AHEAD", 5)
    begun = count_reads(monkeypatch)
    items = []
    for item in load_ahead(folder, [*names[:20], "none.png", *names[20:]], workers=3):
        items.append(item)
        assert len(begun) <= len(items) + 5
    assert isinstance(items[20], Failure)
    assert "none.png" in items[20].reason
    del items[20]
    assert [name for name, _ in items] == names
    assert [pixels.shape[1] for _, pixels in items] == list(range(1, 41))


@pytest.mark.parametrize("workers", [1, 3])
def test_large_images_are_not_read_far_ahead(numbered, monkeypatch, workers):
    """Memory must not depend on how large the images of a folder are."""
    folder, names = numbered
    monkeypatch.setattr(reading, "MOST_BYTES", 9 * 3 * 60)
    begun = count_reads(monkeypatch)
    loaded = load_ahead(folder, names[28:], workers=workers)  # two of these have enough bytes
    for taken, _ in enumerate(loaded, start=1):
        time.sleep(0.02)  # as long as they like
        assert len(begun) <= taken + 3 + workers
    assert taken == 12
    batches = join_batches(load_ahead(folder, names[28:], workers=workers))
    assert max(map(len, batches)) == 3


def test_a_reader_that_is_left_ends_its_threads(numbered, monkeypatch):
    folder, names = numbered
    monkeypatch.setattr(reading, "MOST_BYTES", 1)
    before = threading.active_count()
    loaded = load_ahead(folder, names, workers=2)
    next(loaded)
    loaded.close()
    assert threading.active_count() == before
