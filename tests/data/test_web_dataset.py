"""WebDataset folders hold what region stores hold; tarfile, JSON and NumPy alone read them."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores import first_shard, flip

from lxmert.data.store import RegionStore
from lxmert.data.store_layout import StoreHeader
from lxmert.files import sha256
from lxmert.schema import Failure, Regions
from lxmert.workflows.conversion import convert
from lxmert.workflows.inspection import inspect

NAMES = [f"ä.b/{number}.x.png" for number in range(150)] + ["\udce4.png"]

HEADER = StoreHeader(
    fingerprint="extractor", feature_dim=6, dtype="float16", precision="fp32",
    object_names=("ball", "mug"), attribute_names=("red",), num_regions=(0, 4),
)  # fmt: skip


def regions_of(number: int, groups: int, dtype: str) -> Regions:
    generator = np.random.default_rng(number)
    count = number % 4
    return Regions(
        boxes=generator.uniform(0, 50, (count, 4)).astype(np.float32),
        features=generator.normal(size=(count, 6)).astype(dtype).astype(np.float32),
        image_size=(60 + number, 80),
        object_ids=generator.integers(2, size=count),
        object_scores=generator.random(count, np.float32),
        attribute_ids=generator.integers(1, size=(count, groups)),
        attribute_scores=generator.random((count, groups), np.float32),
        found=count > 1,
    )


def write(folder: Path, groups: int = 2, dtype: str = "float16", shard: int = 40) -> RegionStore:
    items = [(name, regions_of(number, groups, dtype)) for number, name in enumerate(NAMES)]
    return RegionStore.write(
        folder,
        [*NAMES, "bad.png"],
        lambda ids: [*items, Failure("bad.png", "no image")],
        HEADER.replace(dtype=dtype),
        shard_images=shard,
    )


def sample_groups(folder: Path) -> list[dict[str, bytes]]:
    """Group the members of all shards as WebDataset does: by the name up to the first full stop."""
    groups: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                found = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", member.name)
                file = tar.extractfile(member)
                assert found is not None
                assert file is not None
                key, extension = found.groups()
                groups.setdefault(key, {})[extension] = file.read()
    return list(groups.values())


@pytest.mark.parametrize(("groups", "dtype"), [(0, "float32"), (2, "float16")])
def test_a_store_comes_back_from_a_web_dataset(tmp_path: Path, groups: int, dtype: str) -> None:
    store = write(tmp_path / "store", groups, dtype)
    folder = tmp_path / "regions.wds"
    assert convert(store.folder, folder).notes == ["skipped without regions: 1 image"]
    report = inspect(folder)
    assert report.kind == "WebDataset folder of regions"
    assert (report.facts["images"], report.facts["tar files"]) == (151, 4)
    assert convert(folder, tmp_path / "again") == ([], [])
    again = RegionStore(tmp_path / "again")
    assert (again.header, again.image_ids) == (store.header, NAMES)
    for number, name in enumerate(NAMES):
        expected, found = regions_of(number, groups, dtype), again[name]
        for field, value in vars(expected).items():
            assert np.array_equal(getattr(found, field), value), field
    with pytest.raises(FileExistsError, match="finished region store"):
        convert(folder, tmp_path / "again")
    with pytest.raises(FileExistsError, match="exists already"):
        convert(store.folder, folder)
    convert(again.folder, tmp_path / "one.wds")
    convert(tmp_path / "one.wds", tmp_path / "third")
    # The same shards, byte for byte, and the same tar files whenever they are written.
    assert first_shard(tmp_path / "third").read_bytes() == first_shard(again.folder).read_bytes()
    convert(store.folder, tmp_path / "twice.wds")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "twice.wds" / path.name).read_bytes()


def test_other_programs_read_the_samples(tmp_path: Path) -> None:
    convert(write(tmp_path / "store").folder, tmp_path / "regions.wds")
    samples = sample_groups(tmp_path / "regions.wds")
    assert len(samples) == len(NAMES)
    for number, sample in enumerate(samples):
        assert sample.keys() == {"json", "npy"}
        described, expected = json.loads(sample["json"]), regions_of(number, 2, "float16")
        features = np.lib.format.read_array(io.BytesIO(sample["npy"]))
        assert features.dtype == np.float16
        assert np.array_equal(features, expected.features)
        assert (described["image_id"], described["height"]) == (NAMES[number], 60 + number)
        boxes = np.array(described["boxes"], np.float32).reshape(-1, 4)
        assert np.array_equal(boxes, expected.boxes)
        assert described["attribute_ids"] == expected.attribute_ids.tolist()


def test_an_interrupted_import_is_resumed(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    folder, last = tmp_path / "regions.wds", tmp_path / "regions.wds" / "000003.tar"
    convert(store.folder, folder)
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(FileNotFoundError, match=r"000003.tar is missing, but listed in index.json"):
        convert(folder, tmp_path / "again")
    last.write_bytes(content)
    convert(folder, tmp_path / "again")
    assert RegionStore(tmp_path / "again").image_ids == NAMES


def _replace(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, content.replace(b'"height": 60', b'"height": -8')


def _rename(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member.name = f"../{member.name}"
    return member, content


def _link(member: tarfile.TarInfo, _: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
    return member, b""


def _pickle(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    if member.name.endswith("npy"):
        file = io.BytesIO()
        np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
        content = file.getvalue()
    return member, content


def _inflate(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, content.replace(b"(0, 6)", b"(9" + 11 * b"9" + b", 6)")


def _fill(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, content + bytes(4096) if member.name.endswith("npy") else content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_replace, "height: got -8, expected at least 1"),
        (_rename, "it has '../000000000.json' in the place of the file 000000000.json"),
        (_link, "it has '000000000.json' in the place of the file"),
        (_pickle, "features are object"),
        (_inflate, "features are float16 .*, expected float16"),
        (_fill, "000000000.npy has 4224 bytes, expected at most 1024"),
    ],
)
def test_what_others_put_into_a_tar_file_is_not_trusted(
    tmp_path: Path,
    change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]],
    message: str,
) -> None:
    folder, path = tmp_path / "regions.wds", tmp_path / "regions.wds" / "000000.tar"
    convert(write(tmp_path / "store").folder, folder)
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member)) for member in tar]
        contents = [(member, file.read()) for member, file in members if file is not None]
    with tarfile.open(path, "w") as tar:
        for member, content in contents:
            changed, content = change(member, content)
            changed.size = len(content)
            tar.addfile(changed, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"000000.tar does not have the checksum"):
        convert(folder, tmp_path / "again")
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["sha256"] = sha256(path)
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"is damaged .*{message}.*: convert the store again"):
        convert(folder, tmp_path / "again")


def test_what_cannot_be_converted_is_one_sentence(tmp_path: Path) -> None:
    store, folder = write(tmp_path / "store"), tmp_path / "regions.wds"
    convert(store.folder, folder)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["name"] = "../../etc/passwd"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"shards\[0\]\.name: got .*: convert the store again"):
        convert(folder, tmp_path / "again")
    flip(first_shard(store.folder), "features")
    with pytest.raises(ValueError, match=r"is damaged .*: make the store again"):
        convert(store.folder, tmp_path / "other.wds")
    assert not (tmp_path / "other.wds").exists()
    RegionStore.write(tmp_path / "empty", ["a"], lambda ids: [Failure("a", "no image")], HEADER)
    with pytest.raises(ValueError, match="there is nothing to write"):
        convert(tmp_path / "empty", tmp_path / "other.wds")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".partial")]
