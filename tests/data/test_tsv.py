"""TSV files: rows keep their bytes, errors name line and column, memory is bounded."""

import base64
import csv
import errno
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS

from lxmert.data import store_writing
from lxmert.data.store import RegionStore, StoreHeader, describe_store
from lxmert.data.tsv import (
    COLUMNS,
    TsvFormat,
    import_tsv,
    read_tsv,
    scan_tsv,
    write_tsv,
)
from lxmert.schema import Failure, Regions

ROWS = ASSETS / "train2014_obj36.tsv"
TINY = TsvFormat(feature_dim=3, num_objects=7, num_attributes=5)


def make_regions(generator: np.random.Generator, count: int, dim: int = 3) -> Regions:
    corners = np.sort(generator.uniform(0, 60, size=(count, 2, 2)), axis=1)
    return Regions(
        boxes=corners.reshape(count, 4).astype(np.float32),
        features=generator.normal(size=(count, dim)).astype(np.float32),
        image_size=(60, 80),
        object_ids=generator.integers(7, size=count),
        object_scores=generator.random(count).astype(np.float32),
        attribute_ids=generator.integers(5, size=(count, 1)),
        attribute_scores=generator.random((count, 1)).astype(np.float32),
    )


def encode(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def to_fields(image_id: str, regions: Regions) -> list[str]:
    """Write a line as the original does, with the standard library's base64."""
    return [
        image_id,
        str(regions.image_size[0]),
        str(regions.image_size[1]),
        encode(regions.object_ids, "<i8"),
        encode(regions.object_scores, "<f4"),
        encode(regions.attribute_ids, "<i8"),
        encode(regions.attribute_scores, "<f4"),
        str(len(regions)),
        encode(regions.boxes, "<f4"),
        encode(regions.features, "<f4"),
    ]


def write_lines(path: Path, lines: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows(lines)
    return path


def import_tiny(path: Path, folder: Path) -> RegionStore:
    objects, attributes = [f"thing {i}" for i in range(7)], [f"trait {i}" for i in range(5)]
    return import_tsv(path, folder, feature_dim=3, object_names=objects, attribute_names=attributes)


def assert_equal(found: Regions, expected: Regions) -> None:
    for name, value in vars(expected).items():
        assert np.array_equal(getattr(found, name), value), name


# Real rows


def test_published_rows_keep_their_bytes(tmp_path: Path) -> None:
    store = import_tsv(ROWS, tmp_path / "store")
    write_tsv(tmp_path / "back.tsv", store)
    assert (tmp_path / "back.tsv").read_bytes() == ROWS.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    assert (len(store), store.failures, store.verify()) == (2, [], [])
    assert store.header.fingerprint == "bottom-up-attention/caffe-36"
    assert (len(store.header.object_names), len(store.header.attribute_names)) == (1600, 400)


def test_published_rows_are_read_as_the_original_reads_them() -> None:
    csv.field_size_limit(sys.maxsize)
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file, COLUMNS, delimiter="\t"))
    found = list(read_tsv(ROWS))
    assert len(found) == len(rows) == 2
    for (image_id, regions), row in zip(found, rows, strict=True):

        def decode(column: str, dtype: type, row: dict[str, str] = row) -> np.ndarray:
            return np.frombuffer(base64.b64decode(row[column]), dtype)

        assert image_id == row["img_id"]
        assert regions.image_size == (int(row["img_h"]), int(row["img_w"]))
        assert np.array_equal(regions.object_ids, decode("objects_id", np.int64))
        assert np.array_equal(regions.object_scores, decode("objects_conf", np.float32))
        assert np.array_equal(regions.attribute_ids[:, 0], decode("attrs_id", np.int64))
        assert np.array_equal(regions.attribute_scores[:, 0], decode("attrs_conf", np.float32))
        assert np.array_equal(regions.boxes, decode("boxes", np.float32).reshape(6, 4))
        assert np.array_equal(regions.features, decode("features", np.float32).reshape(6, 2048))


def test_half_precision_keeps_three_digits_of_published_features(tmp_path: Path) -> None:
    store = import_tsv(ROWS, tmp_path / "store", dtype="float16")
    for image_id, regions in read_tsv(ROWS):
        np.testing.assert_allclose(
            store[image_id].features, regions.features, rtol=2**-11, atol=2**-25
        )


# Any rows


@pytest.mark.parametrize("seed", range(5))
def test_any_rows_keep_their_bytes(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = {
        f"{'äß漢🦊/ .'[i % 7]}{i}": make_regions(generator, int(generator.integers(51)))
        for i in range(20)
    }
    images["none"] = make_regions(generator, 0)
    path = write_lines(tmp_path / "a.tsv", [to_fields(*item) for item in images.items()])
    store = import_tiny(path, tmp_path / "store")
    assert store.image_ids == list(images)
    for image_id, regions in images.items():
        assert_equal(store[image_id], regions)
    write_tsv(tmp_path / "b.tsv", store)
    assert (tmp_path / "b.tsv").read_bytes() == path.read_bytes()


def test_lines_may_end_as_on_unix_and_the_last_one_not_at_all(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = ["\t".join(to_fields(name, make_regions(generator, 4))) for name in "abc"]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(lines), newline="")
    assert [image_id for image_id, _ in read_tsv(path, expected=TINY)] == ["a", "b", "c"]


def test_of_several_attributes_the_most_confident_is_written(tmp_path: Path) -> None:
    regions = replace(
        make_regions(np.random.default_rng(0), 2),
        attribute_ids=np.array([[4, 1, 2], [3, 0, 2]]),
        attribute_scores=np.array([[0.25, 0.5, 0.125], [0.75, 0.5, 0.5]], np.float32),
    )
    header = StoreHeader(
        fingerprint="x",
        feature_dim=3,
        dtype="float32",
        precision="fp32",
        object_names=("a",) * 7,
        attribute_names=("b",) * 5,
    )
    store = RegionStore.write(tmp_path / "store", ["i"], lambda ids: [("i", regions)], header)
    write_tsv(tmp_path / "a.tsv", store)
    ((_, found),) = read_tsv(tmp_path / "a.tsv", expected=TINY)
    assert found.attribute_ids.tolist() == [[1], [3]]
    assert found.attribute_scores.tolist() == [[0.5], [0.75]]


def make_store(folder: Path, image_ids: Sequence[str]) -> RegionStore:
    regions = make_regions(np.random.default_rng(0), 2)
    header = StoreHeader(
        fingerprint="x",
        feature_dim=3,
        dtype="float32",
        precision="fp32",
        object_names=("a",) * 7,
        attribute_names=("b",) * 5,
    )
    return RegionStore.write(folder, image_ids, lambda ids: [(i, regions) for i in ids], header)


@pytest.mark.parametrize("image_id", ["a\tb", 'a"b', "a\nb", "a\rb", "a\0b", "a\udcffb"])
def test_ids_that_the_format_cannot_hold_are_refused(tmp_path: Path, image_id: str) -> None:
    """Bug: half of the file was written before such an id was found; surrogates raised."""
    store = make_store(tmp_path / "store", ["good", image_id])
    (tmp_path / "a.tsv").write_text("older")
    seen: list[int] = []
    with pytest.raises(ValueError, match=r"the image id .* which a TSV file cannot hold"):
        write_tsv(tmp_path / "a.tsv", store, progress=lambda done, _: seen.append(done))
    assert seen == []
    assert (tmp_path / "a.tsv").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"store", "a.tsv"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_the_older_file_stays_when_the_disk_is_full(tmp_path: Path, code: int) -> None:
    """Bug: a full disk left half a file under a fixed name, and two writers shared that name."""
    store = make_store(tmp_path / "store", ["a", "b"])
    (tmp_path / "a.tsv").write_text("older")
    (tmp_path / "a.tsv.part").write_text("of somebody else")

    def fail(*_: int) -> None:
        raise OSError(code, "cannot")

    with pytest.raises(OSError, match=r"a\.tsv cannot be written: "):
        write_tsv(tmp_path / "a.tsv", store, progress=fail)
    assert (tmp_path / "a.tsv").read_text() == "older"
    assert (tmp_path / "a.tsv.part").read_text() == "of somebody else"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\n\n", b"  \n", b" "])
def test_blank_lines_are_no_images(tmp_path: Path, blank: bytes) -> None:
    """Bug: a blank last line was counted as a damaged image."""
    lines = [to_fields(name, make_regions(np.random.default_rng(0), 2)) for name in "ab"]
    path = write_lines(tmp_path / "a.tsv", lines)
    path.write_bytes(path.read_bytes() + blank)
    assert [image_id for image_id, _ in read_tsv(path, expected=TINY)] == ["a", "b"]
    path.write_bytes(blank)
    with pytest.raises(ValueError, match="has no valid line: is empty"):
        import_tiny(path, tmp_path / "store")


def to_six(fields: Sequence[str]) -> list[str]:
    """Return the columns of bottom-up-attention for a line of ten."""
    return [fields[index] for index in (0, 2, 1, 7, 8, 9)]


@pytest.mark.parametrize("count", [1, 2, 36])
def test_the_six_columns_of_bottom_up_attention_are_read(tmp_path: Path, count: int) -> None:
    """Bug: they were rejected as a truncated line of ten columns."""
    regions = make_regions(np.random.default_rng(0), count)
    path = write_lines(tmp_path / "a.tsv", [to_six(to_fields("42", regions))])
    ((image_id, found),) = read_tsv(path, expected=TINY)
    assert (image_id, found.image_size) == ("42", (60, 80))
    assert np.array_equal(found.boxes, regions.boxes)
    assert np.array_equal(found.features, regions.features)
    assert found.object_ids.tolist() == found.object_scores.tolist() == [0] * count
    assert found.attribute_ids.shape == (count, 0)


@pytest.mark.parametrize(
    ("index", "value", "problem"),
    [
        (1, "50", "column boxes: it has box"),
        (3, "3", "column boxes: it holds 32 bytes, expected 48"),
        (4, "AAAA AAA=", "column boxes: it is not base64 text"),
        (5, "", "column features: it holds 0 bytes"),
        (2, "6e1", "or the 6 of bottom-up-attention"),
    ],
)
def test_faults_in_six_columns_are_named(
    tmp_path: Path, index: int, value: str, problem: str
) -> None:
    fields = to_six(changed("boxes", (2, 79)))
    fields[index] = value
    path = write_lines(tmp_path / "a.tsv", [fields])
    with pytest.raises(ValueError, match=problem):
        list(read_tsv(path, expected=TINY))


NORMALIZED = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]], np.float32)


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("boxes", [NORMALIZED, NORMALIZED[::-1] / 2, NORMALIZED * 1.000005])
def test_normalized_boxes_are_not_taken_as_pixels(
    tmp_path: Path, boxes: np.ndarray, six: bool
) -> None:
    """Bug: boxes from 0 to 1 were silently read as regions of a single pixel."""
    regions = replace(make_regions(np.random.default_rng(0), 2), boxes=boxes)
    fields = to_fields("a", regions)
    path = write_lines(tmp_path / "a.tsv", [to_six(fields) if six else fields])
    message = "column boxes: it seems to be normalized: .* 80 x 60 pixels; .* multiply x by the"
    with pytest.raises(ValueError, match=message):
        list(read_tsv(path, expected=TINY))


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([[0, 0, 1, 1], [0, 0, 2, 2]], (60, 80)),
        ([[0, 0, 1, 1], [0, 0, 0.5, 1]], (2, 2)),
        ([[0, 0, 0, 0], [0, 0, 0, 0]], (60, 80)),
    ],
)
def test_small_boxes_may_be_pixels(
    tmp_path: Path, boxes: list[list[float]], size: tuple[int, int]
) -> None:
    regions = make_regions(np.random.default_rng(0), 2)
    regions = replace(regions, boxes=np.array(boxes, np.float32), image_size=size)
    path = write_lines(tmp_path / "a.tsv", [to_fields("a", regions)])
    assert len(list(read_tsv(path, expected=TINY))) == 1


# Faults


def changed(column: str, value: object) -> list[str]:
    """Return the fields of a valid line with one column changed; arrays are encoded."""
    regions = make_regions(np.random.default_rng(3), 2)
    fields = to_fields("bad", regions)
    if isinstance(value, tuple):
        index, number = value
        dtype = "<i8" if column.endswith("_id") else "<f4"
        array = np.frombuffer(base64.b64decode(fields[COLUMNS.index(column)]), dtype).copy()
        array[index] = number
        value = encode(array, dtype)
    fields[COLUMNS.index(column)] = str(value)
    return fields


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("img_id", "", "it is empty"),
        ("img_id", "good 1", "'good 1', which is already in line 1"),
        ("img_h", "-60", "it is b'-60', expected an integer of at least 1"),
        ("img_w", "0", "expected an integer of at least 1"),
        ("img_h", "6e1", "expected an integer"),
        ("num_boxes", "-2", "expected an integer of at least 0"),
        ("num_boxes", "3", None),
        ("objects_id", "AAAA AAA=", "not base64 text"),
        ("objects_conf", "AAAAAAAAAAA", "not base64 text"),
        ("attrs_conf", "AAAAAAA=", "holds 5 bytes, expected 8 for 2 x 1 float32"),
        ("boxes", "", "holds 0 bytes, expected 32 for 2 x 4 float32"),
        ("objects_id", (1, 7), "has the id 7, expected 0 to 6"),
        ("attrs_id", (0, -9), "has the id -9, expected 0 to 4"),
        ("objects_conf", (0, 1.25), "expected 0 to 1"),
        ("attrs_conf", (1, np.nan), "expected 0 to 1"),
        ("boxes", (2, 80.01), r"has box 0 at .*within the image of 80 x 60 pixels"),
        ("boxes", (5, -0.01), "has box 1 at"),
        ("boxes", (0, np.inf), "has box 0 at"),
        ("boxes", (4, 79.9), "x1 <= x2"),
        ("features", (4, np.nan), "has a value in row 1 that is not finite"),
        ("features", (2, -np.inf), "has a value in row 0"),
    ],
)
def test_faults_are_named_by_line_and_column(
    tmp_path: Path, column: str, value: object, problem: str | None
) -> None:
    generator = np.random.default_rng(1)
    good = [to_fields(f"good {i}", make_regions(generator, 2)) for i in (1, 2, 3)]
    path = write_lines(tmp_path / "a.tsv", [*good[:2], changed(column, value), good[2]])
    column = column if problem else "boxes"  # the first array that is not as long as num_boxes says
    message = f"line 3, column {column}: .*{problem or 'holds 32 bytes, expected 48'}"
    with pytest.raises(ValueError, match=message):
        list(read_tsv(path, expected=TINY))
    store = import_tiny(path, tmp_path / "store")
    assert store.image_ids == ["good 1", "good 2", "good 3"]
    assert len(store.failures) == 1
    assert f"line 3, column {column}: " in store.failures[0].reason


def test_a_box_may_lie_outside_by_rounding(tmp_path: Path) -> None:
    """The original code allows 1e-5 of the image, and its files need it."""
    path = write_lines(tmp_path / "a.tsv", [changed("boxes", (2, 80.0005))])
    assert len(list(read_tsv(path, expected=TINY))) == 1


def test_a_file_cut_off_anywhere_is_noticed(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    lines = [to_fields(name, make_regions(generator, 5)) for name in ("first", "second")]
    content = write_lines(tmp_path / "whole.tsv", lines).read_bytes()
    start = content.index(b"\n") + 1
    whole = len(content) - len(b"\r\n")
    places = [*range(start + 1, start + 40), *range(start + 40, whole, 7), whole - 1]
    for place in places:
        (tmp_path / "cut.tsv").write_bytes(content[:place])
        items = [item for _, item in scan_tsv(tmp_path / "cut.tsv", expected=TINY)]
        assert len(items) == 2
        assert isinstance(items[1], Failure)
        assert "the file ends within the line" in items[1].reason
    for place in (start, whole, whole + 1, len(content)):
        (tmp_path / "cut.tsv").write_bytes(content[:place])
        count = 1 if place == start else 2
        assert len(list(read_tsv(tmp_path / "cut.tsv", expected=TINY))) == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no valid line: is empty"),
        (
            b"\x89PNG\r\n\x1a\n" * 3,
            "has no valid line: line 1, column img_id: .*expected 10 in all",
        ),
        (b"a\tb\n", "line 1, column img_h: it is number 2 of the line, expected 10"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        import_tiny(tmp_path / "a.tsv", tmp_path / "store")
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.tsv"):
        import_tiny(tmp_path / "b.tsv", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_feature_too_large_for_half_precision_fails_alone(tmp_path: Path) -> None:
    """Bug: one such image ended the complete import and left half of a store."""
    generator = np.random.default_rng(1)
    lines = [to_fields(name, make_regions(generator, 2)) for name in "ab"]
    path = write_lines(tmp_path / "a.tsv", [lines[0], changed("features", (1, 70000)), lines[1]])
    store = import_tsv(path, tmp_path / "store", feature_dim=3, dtype="float16")
    assert store.image_ids == ["a", "b"]
    (failure,) = store.failures
    assert (
        failure.reason
        == "bad: features has the value 70000.0, too large for float16: store float32"
    )


# Long files


def test_an_interrupted_import_is_taken_up_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    images = {f"{i}.png": make_regions(generator, 3) for i in range(9)}
    lines = [to_fields(*item) for item in images.items()]
    path = write_lines(tmp_path / "a.tsv", [*lines[:2], changed("boxes", (0, -9)), *lines[2:]])

    def stop(done: int, size: int) -> None:
        assert 0 < done < size == path.stat().st_size
        if done > size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_tsv(path, tmp_path / "s", feature_dim=3, progress=stop)
    begun = describe_store(tmp_path / "s")
    assert not begun["complete"]
    seen = []
    store = import_tsv(
        path, tmp_path / "s", feature_dim=3, progress=lambda done, _: seen.append(done)
    )
    assert len(seen) == 10 - int(str(begun["images"]))
    assert store.image_ids == list(images)
    for image_id, regions in images.items():
        assert_equal(store[image_id], regions)
    assert [failure.image_id for failure in store.failures] == ["bad"]


def test_several_files_become_one_store(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    images = {name: make_regions(generator, 2) for name in ("c", "a", "b")}
    lines = [to_fields(*item) for item in images.items()]
    (tmp_path / "all/deep").mkdir(parents=True)
    write_lines(tmp_path / "all/x.tsv", lines[:2])
    write_lines(tmp_path / "all/deep/y.tsv", [lines[2], lines[0]])
    (tmp_path / "all/notes.txt").write_text("no regions")
    reported = []
    store = import_tsv(
        tmp_path / "all", tmp_path / "s", feature_dim=3, progress=lambda *now: reported.append(now)
    )
    assert store.image_ids == ["b", "c", "a"]
    for image_id, regions in images.items():
        assert_equal(store[image_id], regions)
    (failure,) = store.failures
    assert failure.reason == (
        "x.tsv line 1, column img_id: it is 'c', which is already in deep/y.tsv line 2"
    )
    size = sum(path.stat().st_size for path in (tmp_path / "all").rglob("*.tsv"))
    assert reported[-1] == (size, size)


def test_fixed_lines_are_added_to_a_finished_store(tmp_path: Path) -> None:
    good, bad = to_fields("good", make_regions(np.random.default_rng(1), 2)), changed("img_h", 0)
    path = write_lines(tmp_path / "a.tsv", [good, bad])
    assert import_tiny(path, tmp_path / "store").image_ids == ["good"]
    write_lines(path, [good, changed("img_h", 60)])
    store = import_tiny(path, tmp_path / "store")
    assert (store.image_ids, store.failures, store.verify()) == (["good", "bad"], [], [])
    with pytest.raises(FileExistsError, match="finished region store"):
        import_tiny(path, tmp_path / "store")


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original code holds all rows: 40 KB each here, so that 350 more would take 14 MB."""
    monkeypatch.setattr(store_writing, "MOST_BYTES", 1 << 20)
    peaks = []
    for count in (50, 400):
        generator = np.random.default_rng(1)
        path = write_lines(
            tmp_path / f"{count}.tsv",
            [to_fields(f"{i}", make_regions(generator, 10, 1000)) for i in range(count)],
        )
        tracemalloc.start()
        store = import_tsv(path, tmp_path / f"{count}", feature_dim=1000)
        write_tsv(tmp_path / "back.tsv", store)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 350 * 1000
    assert peaks[1] < 5_000_000


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.tsv").open("wb") as file:
        file.truncate(70 << 20)
    with pytest.raises(ValueError, match="line 1 has 67108864 bytes or more"):
        list(read_tsv(tmp_path / "a.tsv"))
