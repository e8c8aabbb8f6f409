"""The region store: what is written comes back; an interrupted run loses and doubles nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.schema import Regions

HEADER = StoreHeader("abc123", 5, "float32", "fp32", ("ball", "mug"), ("red", "large"))
IDS = [f"{number:03d}.png" for number in range(12)]


def regions_of(image_id: str) -> Regions:
    """Make regions that depend on the image id alone; their number does too, and may be 1."""
    generator = np.random.default_rng(int(image_id[:3]))
    count = 1 + int(image_id[:3]) % 4
    return Regions(
        boxes=generator.uniform(0, 90, size=(count, 4)).astype(np.float32),
        features=generator.normal(size=(count, 5)).astype(np.float32),
        image_size=(90 + count, 120),
        object_ids=generator.integers(2, size=count),
        object_scores=generator.random(count).astype(np.float32),
        attribute_ids=generator.integers(2, size=(count, 3)),
        attribute_scores=generator.random((count, 3)).astype(np.float32),
        found=count > 1,
    )


def extract(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
    return ((image_id, regions_of(image_id)) for image_id in image_ids)


def dying(after: int) -> Callable[[Sequence[str]], Iterable[tuple[str, Regions]]]:
    def run(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        yield from extract(image_ids[:after])
        raise KeyboardInterrupt

    return run


def assert_complete(store: RegionStore) -> None:
    assert store.image_ids == IDS
    for image_id in store.image_ids:
        found, expected = store[image_id], regions_of(image_id)
        for name, value in vars(expected).items():
            assert np.array_equal(getattr(found, name), value), (image_id, name)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    assert_complete(RegionStore(tmp_path / "store"))
    assert store.header == HEADER
    assert IDS[3] in store
    assert len(store) == 12


def test_half_precision_keeps_three_digits(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, extract, replace(HEADER, dtype="float16"))
    found, expected = store[IDS[7]].features, regions_of(IDS[7]).features
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=5e-4, atol=1e-4)


@pytest.mark.parametrize("cut", [0, 1, 7, 40, 200])
def test_interrupted_inside_a_write_it_is_taken_up_again(tmp_path: Path, cut: int) -> None:
    """The last line, or features without their line, may be half written when power goes."""
    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(folder, IDS, dying(5), HEADER)
    with pytest.raises(FileNotFoundError, match="no finished region store"):
        RegionStore(folder)
    with (folder / "features.bin").open("ab") as features:
        features.write(b"\x01" * cut)
    rows = folder / "rows.partial.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"image_id": "005.png", "size": [91, 12'[:cut])
    asked: list[str] = []

    def remember(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        asked.extend(image_ids)
        return extract(image_ids)

    assert_complete(RegionStore.write(folder, IDS, remember, HEADER))
    assert asked == IDS[5:]


def test_features_that_never_reached_the_disk_are_extracted_again(tmp_path: Path) -> None:
    """Rows without their features were filled up with zeros, and the store looked complete."""
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(tmp_path / "store", IDS, dying(5), HEADER)
    with (tmp_path / "store" / "features.bin").open("r+b") as features:
        features.truncate(30)
    assert_complete(RegionStore.write(tmp_path / "store", IDS, extract, HEADER))


def test_images_that_are_gone_may_not_stay_in_the_store(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(tmp_path / "store", IDS, dying(5), HEADER)
    with pytest.raises(ValueError, match=r"2 images that are not there any more, such as '000"):
        RegionStore.write(tmp_path / "store", IDS[2:], extract, HEADER)


def test_another_extractor_may_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(tmp_path / "store", IDS, dying(2), HEADER)
    with pytest.raises(ValueError, match="begun by extractor abc123 in fp32, not by other"):
        RegionStore.write(tmp_path / "store", IDS, extract, replace(HEADER, extractor="other"))


def test_a_finished_store_is_not_overwritten(tmp_path: Path) -> None:
    RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    with pytest.raises(FileExistsError, match="finished region store"):
        RegionStore.write(tmp_path / "store", IDS, extract, HEADER)


def test_damage_and_unknown_images_are_named(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    with pytest.raises(KeyError, match=r"'nine\.png' is not in the region store"):
        store["nine.png"]
    with (tmp_path / "store" / "features.bin").open("ab") as features:
        features.write(b"\x00")
    with pytest.raises(ValueError, match="the store is damaged"):
        RegionStore(tmp_path / "store")


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width 5, the store expects 6"):
        RegionStore.write(tmp_path / "store", IDS, extract, replace(HEADER, feature_dim=6))
