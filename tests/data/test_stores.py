"""Several region stores read as one."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.stores import RegionStores, open_regions
from lxmert.schema import Regions

HEADER = StoreHeader(
    fingerprint="fingerprint",
    feature_dim=3,
    dtype="float32",
    precision="fp32",
    object_names=("ball",),
    attribute_names=("red",),
)


def regions_of(value: float) -> Regions:
    return Regions(
        boxes=np.array([[1, 2, 30, 40]], dtype=np.float32),
        features=np.full((1, 3), value, dtype=np.float32),
        image_size=(60, 80),
        object_ids=np.zeros(1, dtype=np.int64),
        object_scores=np.ones(1, dtype=np.float32),
        attribute_ids=np.zeros((1, 1), dtype=np.int64),
        attribute_scores=np.ones((1, 1), dtype=np.float32),
    )


def write(folder: Path, values: dict[str, float], header: StoreHeader = HEADER) -> str:
    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        return ((name, regions_of(values[name])) for name in remaining)

    RegionStore.write(folder, list(values), extract, header)
    return str(folder)


def test_images_are_found_wherever_they_are(tmp_path: Path) -> None:
    first = write(tmp_path / "coco", {"a": -8.0, "both": 1.5})
    second = write(tmp_path / "vg", {"both": 2.5, "b": 3.25})
    stores = open_regions([first, second])
    assert isinstance(stores, RegionStores)
    assert len(stores) == 4
    for store in (stores, pickle.loads(pickle.dumps(stores))):
        found = {name: store[name].features[0, 0] for name in ("a", "b", "both")}
        assert found == {"a": -8.0, "b": 3.25, "both": 1.5}
        assert "b" in store
        assert "c" not in store
    with pytest.raises(KeyError, match=r"'c' is in none of .*coco, .*vg"):
        stores["c"]


def test_one_store_stays_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "coco", {"a": -8.0})
    assert isinstance(open_regions(path), RegionStore)
    assert isinstance(open_regions([path]), RegionStore)
    with pytest.raises(ValueError, match="no region store is named"):
        open_regions([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "another fingerprint than .*other instead of fingerprint"),
        ({"object_names": ("mug",)}, r"another object_names.*\('mug',\) instead of \('ball',\)"),
    ],
)
def test_stores_of_different_extractor_are_not_joined(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """Their features look alike, and mean nothing to each other's model."""
    first = write(tmp_path / "coco", {"a": -8.0})
    second = write(tmp_path / "vg", {"b": 3.25}, HEADER.replace(**change))
    with pytest.raises(ValueError, match=message):
        open_regions([first, second])
