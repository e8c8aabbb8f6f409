"""Folders of .npz files: published forms are read, Python objects are not, errors reported."""

import io
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.npz import import_npz, read_npz_folder
from lxmert.schema import Failure, Regions

BOXES = np.array([[2, 3, 20, 30], [40, 30, 70.5, 50]], np.float32)
FEATURES = np.arange(10, dtype=np.float32).reshape(2, 5) / 8


class Hostile:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def save(path: Path, **changes: object) -> None:
    """Write a file as MILVLG's extractors do, with changed keys; None removes a key."""
    content = {"x": FEATURES, "bbox": BOXES, "num_bbox": 2, "image_h": 60, "image_w": 80}
    kept = {name: value for name, value in {**content, **changes}.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **kept)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"x": FEATURES.T},
        {"x": None, "features": FEATURES},
        {"bbox": None, "boxes": BOXES.astype(np.float64)},
        {"image_h": None, "image_w": None, "img_h": np.array([60]), "img_w": np.array([80])},
    ],
)
def test_published_forms_are_read(tmp_path: Path, changes: dict[str, object]) -> None:
    save(tmp_path / "files" / "train" / "000.jpg.npz", **changes)
    store = import_npz(
        tmp_path / "files", tmp_path / "store", fingerprint="extractor", feature_dim=5
    )
    assert store.image_ids == ["train/000.jpg"]
    regions = store["train/000.jpg"]
    assert np.array_equal(regions.boxes, BOXES)
    assert np.array_equal(regions.features, FEATURES)
    assert regions.image_size == (60, 80)
    assert regions.object_scores.tolist() == [0, 0]
    assert regions.attribute_ids.shape == (2, 0)
    assert (store.header.fingerprint, store.header.object_names) == ("extractor", ("unknown",))


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    info = np.array({"objects_id": Hostile(tmp_path / "executed")}, dtype=object)
    save(tmp_path / "a.npz", info=info)
    save(tmp_path / "b.npz", info=info, image_h=None)
    save(tmp_path / "c.npz", x=np.array([Hostile(tmp_path / "executed")], dtype=object))
    good, hidden, object_array = read_npz_folder(tmp_path, feature_dim=5)
    assert isinstance(good, tuple)
    assert isinstance(good[1], Regions)
    assert isinstance(hidden, Failure)
    assert "no image_h or img_h" in hidden.reason
    assert "`info` may contain it, but is a Python object, which is not read" in hidden.reason
    assert isinstance(object_array, Failure)
    assert "x has type object, expected numbers: Python objects are not read" in object_array.reason
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"x": FEATURES[:, :4]}, r"features \[2, 4\], expected"),
        ({"bbox": BOXES[:, :3]}, r"boxes \[2, 3\]"),
        ({"bbox": np.float32(3.25)}, "boxes"),
        ({"image_w": 0}, "its width is 0"),
        ({"image_w": 70}, "boxes has box 1 at .* within the image of 70 x 60 pixels"),
        ({"x": np.where(FEATURES == 1, np.nan, FEATURES)}, "not finite"),
        ({"bbox": BOXES / 80}, "boxes seems to be normalized: .* multiply x by the width"),
        ({"bbox": np.float64([[0, 0, 1, 1]] * 2)}, "boxes seems to be normalized"),
        ({"x": None}, r'it has no x or features, only \["bbox", "image_h"'),
    ],
)
def test_a_file_with_a_fault_is_reported_and_the_others_are_kept(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    for name in "abc":
        save(tmp_path / "files" / f"{name}.npz", **(changes if name == "b" else {}))
    seen = []
    store = import_npz(
        tmp_path / "files",
        tmp_path / "store",
        fingerprint="extractor",
        feature_dim=5,
        progress=lambda done, count: seen.append((done, count)),
    )
    assert store.image_ids == ["a", "c"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    ((image_id, reason),) = [(f.image_id, f.reason) for f in store.failures]
    assert image_id == "b"
    assert re.search(problem, reason)


@pytest.mark.parametrize("kind", ["too large", "link to nothing", "folder", "locked"])
def test_one_odd_file_does_not_end_an_import(tmp_path: Path, kind: str) -> None:
    """Bug: a feature too large for float16, or a broken link, ended the complete import."""
    for name in "abc":
        save(tmp_path / "files" / f"{name}.npz")
    path = tmp_path / "files" / "b.npz"
    if kind == "too large":
        save(path, x=FEATURES + 70000)
    else:
        path.unlink()
    if kind == "link to nothing":
        path.symlink_to(tmp_path / "nowhere")
    if kind in ("folder", "locked"):
        path.mkdir(mode=0o700 if kind == "folder" else 0)
    store = import_npz(
        tmp_path / "files", tmp_path / "s", fingerprint="x", dtype="float16", feature_dim=5
    )
    assert store.image_ids == ["a", "c"]
    assert [failure.image_id for failure in store.failures] == ["b"]
    assert "b" in store.failures[0].reason


@pytest.mark.parametrize("name", ["../secret", "/etc/secret", "a/../../secret", "a\0"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """Bug: an image id with `..` or an absolute path read files outside of the folder."""
    save(tmp_path / "secret.npz")
    (tmp_path / "files").mkdir()
    with pytest.raises(ValueError, match="is no relative path inside"):
        list(read_npz_folder(tmp_path / "files", feature_dim=5, names=[name]))


def test_files_that_are_cut_short_are_reported(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=FEATURES, bbox=BOXES, image_h=60, image_w=80)
    content = buffer.getvalue()
    for place in range(0, len(content), 97):
        (tmp_path / "a.npz").write_bytes(content[:place])
        (item,) = read_npz_folder(tmp_path, feature_dim=5)
        assert isinstance(item, Failure)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected one \.npz file for each image"):
        import_npz(tmp_path, tmp_path / "store", fingerprint="extractor")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """Return the header of an .npy file with a given shape."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


BOMBS = {
    "10^12 numbers": header("(1000000, 1000000)"),
    "10^400 numbers": header(f"({10**400},)"),
    "no number, but many": header("(2, 0, 1000000000000)"),
    "a negative side": header("(-8, 5)"),
    "zeros": header("(30000000,)") + bytes(30_000_000),
    "long texts": header("(2, 5)", "'<U1000000000'"),
    "records": header("(2, 5)", "[('a', '<f4', (100000, 100000))]"),
    "complex": header("(2, 5)", "'<c8'") + bytes(80),
    "deep": header("(" * 4000 + ")" * 4000),
    "signs": header("-" * 9000 + "1"),
    "a version": b"\x93NUMPY\x09\x00" + bytes(99),
    "no header": b"",
    "a long header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 99_999,
}


@pytest.mark.long
@pytest.mark.parametrize("key", ["x", "bbox", "image_h"])
@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_more_than_an_image_can_have_is_reported(
    tmp_path: Path, name: str, key: str
) -> None:
    """Bug: a file of 8 MB filled 8 GB of memory; a header with 10^12 ended in a traceback."""
    save(tmp_path / "a.npz", **{key: None})
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{key}.npy", BOMBS[name])
    tracemalloc.start()
    (item,) = read_npz_folder(tmp_path, feature_dim=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(item, Failure)
    assert peak < 8_000_000


def test_a_bare_array_under_the_name_of_an_archive_is_reported(tmp_path: Path) -> None:
    """np.load allocates the memory that the header of any .npy file announces."""
    (tmp_path / "a.npz").write_bytes(header("(1000000, 1000000)"))
    (item,) = read_npz_folder(tmp_path, feature_dim=5)
    assert isinstance(item, Failure)


@pytest.mark.parametrize("change", ["encrypted", "method"])
def test_an_archive_that_cannot_be_unpacked_is_reported(tmp_path: Path, change: str) -> None:
    save(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(magic), bytes(content)):
            content[match.start() + flags + (0 if change == "encrypted" else 2)] = 1
    (tmp_path / "a.npz").write_bytes(content)
    (item,) = read_npz_folder(tmp_path, feature_dim=5)
    assert isinstance(item, Failure)
