"""Parquet files hold what region stores hold; pyarrow alone reads them."""

from pathlib import Path

import numpy as np
import pytest
from stores import first_shard, flip

from lxmert.data import store_writing
from lxmert.data.store import RegionStore
from lxmert.data.store_layout import StoreHeader
from lxmert.schema import Failure, Regions
from lxmert.workflows.conversion import convert
from lxmert.workflows.inspection import inspect

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")

HEADER = StoreHeader(
    fingerprint="extractor", feature_dim=6, dtype="float16", precision="fp32",
    object_names=("ball", "mug"), attribute_names=("red",), num_regions=(0, 4),
)  # fmt: skip


def regions_of(number: int, groups: int = 2) -> Regions:
    generator = np.random.default_rng(number)
    count = number % 4
    return Regions(
        boxes=generator.uniform(0, 50, (count, 4)).astype(np.float32),
        features=generator.normal(size=(count, 6)).astype(np.float16).astype(np.float32),
        image_size=(60 + number, 80),
        object_ids=generator.integers(2, size=count),
        object_scores=generator.random(count, np.float32),
        attribute_ids=generator.integers(1, size=(count, groups)),
        attribute_scores=generator.random((count, groups), np.float32),
        found=count > 1,
    )


def write(folder: Path, groups: int = 2, count: int = 150) -> RegionStore:
    items = [(f"ä/{number}.png", regions_of(number, groups)) for number in range(count)]
    return RegionStore.write(
        folder,
        [name for name, _ in items] + ["bad.png"],
        lambda ids: [*items, Failure("bad.png", "no image")],
        HEADER,
        shard_images=40,
    )


@pytest.mark.parametrize("groups", [0, 2])
def test_a_store_comes_back_from_a_parquet_file(tmp_path: Path, groups: int) -> None:
    store = write(tmp_path / "store", groups)
    path = tmp_path / "regions.parquet"
    assert convert(store.folder, path).notes == ["skipped without regions: 1 image"]
    report = inspect(path)
    assert (report.kind, report.facts["images"]) == ("Parquet file of regions", 150)
    assert convert(path, tmp_path / "again") == ([], [])
    again = RegionStore(tmp_path / "again")
    assert (again.header, again.image_ids) == (HEADER, store.image_ids)
    for number, name in enumerate(again.image_ids):
        expected, found = regions_of(number, groups), again[name]
        for field, value in vars(expected).items():
            assert np.array_equal(getattr(found, field), value), field
    with pytest.raises(FileExistsError, match="finished region store"):
        convert(path, tmp_path / "again")


def test_pyarrow_reads_the_columns(tmp_path: Path) -> None:
    convert(write(tmp_path / "store").folder, tmp_path / "regions.parquet")
    rows = parquet.read_table(tmp_path / "regions.parquet").to_pylist()
    assert [row["image_id"] for row in rows] == [f"ä/{number}.png" for number in range(150)]
    expected = regions_of(147)
    assert rows[147]["height"] == 207
    assert np.array_equal(np.array(rows[147]["features"], np.float32), expected.features)
    assert np.array_equal(np.array(rows[147]["boxes"], np.float32), expected.boxes)


def test_what_cannot_be_converted_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write(tmp_path / "store", count=5)
    path = tmp_path / "regions.parquet"
    convert(store.folder, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"regions.parquet is damaged .*: write it again"):
        convert(path, tmp_path / "again")
    parquet.write_table(parquet.read_table(_other(tmp_path)), path)
    with pytest.raises(ValueError, match=r"has the columns \[\"x\"\]; expected image, question"):
        convert(path, tmp_path / "again")
    flip(first_shard(store.folder), "features")
    with pytest.raises(ValueError, match=r"is damaged .*: make the store again"):
        convert(store.folder, tmp_path / "other.parquet")
    assert not (tmp_path / "other.parquet").exists()
    monkeypatch.setattr(store_writing, "SAVING", 0.0)
    images = {"a": regions_of(1, 1), "b": regions_of(2, 2)}
    RegionStore.write(tmp_path / "mixed", ["a", "b"], lambda ids: images.items(), HEADER)
    with pytest.raises(ValueError, match="different numbers of attribute groups"):
        convert(tmp_path / "mixed", tmp_path / "mixed.parquet")


def _other(folder: Path) -> Path:
    import pyarrow

    path = folder / "plain.parquet"
    parquet.write_table(pyarrow.table({"x": [1, 2]}), path)
    return path
