"""The cache of regions: once per image and extractor, never a damaged entry, bounded, shared."""

import errno
import os
import zipfile
from collections.abc import Sequence
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.regions.cache import DiskCache, default_folder
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.regions.preprocess import ImageInput
from lxmert.schema import Regions


class Counting(GridExtractor):
    """Counts the images that it describes."""

    seen = 0

    def __call__(self, images: Sequence[ImageInput]) -> list[Regions]:
        self.seen += len(images)
        return super().__call__(images)


def make_extractor() -> Counting:
    return Counting(GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=4)))


def draw(number: int) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [generator.integers(256, size=(24, 30, 3), dtype=np.uint8) for _ in range(number)]


def assert_same(found: Regions, expected: Regions) -> None:
    for field in fields(Regions):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert (one, type(one)) == (other, type(other))


def test_each_image_is_extracted_once_whatever_its_form(tmp_path: Path) -> None:
    extractor, cache, (one, other) = make_extractor(), DiskCache(tmp_path / "c"), draw(2)
    Image.fromarray(one).save(tmp_path / "one.png")
    expected = extractor([one, other])
    extractor.seen = 0
    first = cache.extract(extractor, "f", [one, other, one])
    assert extractor.seen == 2
    forms = [tmp_path / "one.png", Image.fromarray(one), other, (tmp_path / "one.png").read_bytes()]
    again = DiskCache(tmp_path / "c").extract(extractor, "f", forms)
    assert extractor.seen == 2
    for found, image in zip((*first, *again), (0, 1, 0, 0, 0, 1, 0), strict=True):
        assert_same(found, expected[image])


def test_another_extractor_precision_or_shape_is_another_entry(tmp_path: Path) -> None:
    extractor, cache, (image,) = make_extractor(), DiskCache(tmp_path), draw(1)
    cache.extract(extractor, "f", [image])
    cache.extract(extractor, "g", [image])
    extractor.precision = "bf16"
    cache.extract(extractor, "f", [image])
    cache.extract(extractor, "f", [image.reshape(30, 24, 3)])
    assert (extractor.seen, len(cache.entries())) == (4, 4)


def flip_byte(path: Path) -> None:
    """Change one byte of the stored features."""
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("features.npy")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 200] ^= 8
    path.write_bytes(content)


def flip_method(path: Path) -> None:
    """Bug: a damaged list of files ended the program."""
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 10] ^= 1  # the method of compression
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_byte,
        flip_method,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: np.savez(path, boxes=np.zeros((3, 4))),
        lambda path: path.write_bytes(b"\x80\x04."),
    ],
)
def test_a_damaged_entry_is_extracted_again(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    extractor, cache, (image,) = make_extractor(), DiskCache(tmp_path), draw(1)
    (expected,) = cache.extract(extractor, "f", [image])
    damage(cache.entries()[0].path)
    for _ in range(2):
        assert_same(cache.extract(extractor, "f", [image])[0], expected)
    assert extractor.seen == 2, "it is replaced by a good one"


def test_the_least_recently_used_entries_are_removed(tmp_path: Path) -> None:
    extractor, images = make_extractor(), draw(6)
    DiskCache(tmp_path).extract(extractor, "f", images[:1])
    (entry,) = DiskCache(tmp_path).entries()
    cache = DiskCache(tmp_path, max_bytes=5 * entry.size)
    cache.extract(extractor, "f", images[1:5])
    for number, old in enumerate(cache.entries()):
        os.utime(old.path, ns=(number, number))
    oldest, second = cache.entries()[:2]
    os.utime(oldest.path)
    cache.extract(extractor, "f", images[5:])
    left = {entry.path for entry in cache.entries()}
    assert (oldest.path in left, second.path in left, len(left)) == (True, False, 4)


def test_a_folder_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    extractor, (image,) = make_extractor(), draw(1)
    (found,) = DiskCache(tmp_path / "file").extract(extractor, "f", [image])
    assert_same(found, extractor([image])[0])
    assert "are not cached" in caplog.text


def test_a_folder_that_can_only_be_read_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: every entry counted as damaged, because its time could not be set."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    extractor, images = make_extractor(), draw(1)
    DiskCache(tmp_path).extract(extractor, "f", images)
    monkeypatch.setattr(os, "utime", refuse)
    DiskCache(tmp_path).extract(extractor, "f", images)
    assert extractor.seen == 1


def test_it_is_in_the_cache_folder_of_the_user_and_can_be_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "lxmert" / "regions"
    cache = DiskCache()
    cache.extract(make_extractor(), "f", draw(3))
    assert cache.clear() == 3
    assert [*cache.folder.rglob("*")] == []
    assert cache.clear() == 0


def fill(folder: Path) -> int:
    """Extract twelve images with a cache that has room for about four of them."""
    cache = DiskCache(folder, max_bytes=20_000)
    extractor = make_extractor()
    expected = extractor(draw(12))
    for found, wanted in zip(cache.extract(extractor, "f", draw(12)), expected, strict=True):
        np.testing.assert_array_equal(found.image_size, wanted.image_size)
    return len(cache.entries())


@pytest.mark.slow
def test_processes_share_it(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        assert len(pool.map(fill, [tmp_path] * 8)) == 8
    assert [path for path in tmp_path.rglob("*") if ".partial" in path.name] == []
    assert sum(entry.size for entry in DiskCache(tmp_path).entries()) <= 20_000 + 8 * 6_000
