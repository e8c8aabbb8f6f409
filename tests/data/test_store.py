"""The region store: what is written comes back; an interrupted run loses and doubles nothing."""

import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from stores import data_offsets, first_shard, flip

from lxmert.data import shards, store_layout, store_writing
from lxmert.data.store import RegionStore, StoreHeader, describe_store, list_failures
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.data.tensor_maps import map_tensors, write_tensors
from lxmert.schema import Failure, Regions

ROOT = Path(__file__).parents[2]
HEADER = StoreHeader(
    fingerprint="abc123",
    feature_dim=5,
    dtype="float32",
    precision="fp32",
    object_names=("ball", "mug"),
    attribute_names=("red", "large"),
)
IDS = [f"{number:03d}.png" for number in range(12)]


def make_regions(
    generator: np.random.Generator, count: int, *, groups: int = 3, dim: int = 5
) -> Regions:
    return Regions(
        boxes=generator.uniform(0, 90, size=(count, 4)).astype(np.float32),
        features=generator.normal(size=(count, dim)).astype(np.float32),
        image_size=(90 + count, 120),
        object_ids=generator.integers(2, size=count),
        object_scores=generator.random(count).astype(np.float32),
        attribute_ids=generator.integers(2, size=(count, groups)),
        attribute_scores=generator.random((count, groups)).astype(np.float32),
        found=count > 1,
    )


def regions_of(image_id: str) -> Regions:
    """Make regions that depend on the image id alone; their number does too, and may be 1."""
    number = int(image_id[:3])
    return make_regions(np.random.default_rng(number), 1 + number % 4)


def extract(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
    return ((image_id, regions_of(image_id)) for image_id in image_ids)


def dying(after: int) -> Callable[[Sequence[str]], Iterable[tuple[str, Regions]]]:
    def run(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        yield from extract(image_ids[:after])
        raise KeyboardInterrupt

    return run


def write_all(folder: Path, images: dict[str, Regions], header: StoreHeader) -> RegionStore:
    return RegionStore.write(
        folder, list(images), lambda ids: ((i, images[i]) for i in ids), header
    )


def assert_equal(found: Regions, expected: Regions, *, exact_features: bool = True) -> None:
    for name, value in vars(expected).items():
        if name != "features" or exact_features:
            assert np.array_equal(getattr(found, name), value), name
    assert found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, expected.features, rtol=5e-4, atol=1e-4)


def assert_complete(store: RegionStore) -> None:
    assert store.image_ids == IDS
    for image_id in store.image_ids:
        assert_equal(store[image_id], regions_of(image_id))


# What is written comes back


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("seed", range(4))
def test_any_images_come_back_by_id_and_in_order(tmp_path: Path, seed: int, dtype: str) -> None:
    generator = np.random.default_rng(seed)
    groups = int(generator.integers(4))
    names = [f"{'äß漢🦊/ .'[i % 7]}{generator.integers(1 << 30)}-{i}" for i in range(40)]
    counts = [0, 50, *generator.integers(51, size=38).tolist()]
    images = {
        n: make_regions(generator, c, groups=groups) for n, c in zip(names, counts, strict=True)
    }
    written = write_all(tmp_path / "store", images, HEADER.replace(dtype=dtype))
    store = RegionStore(tmp_path / "store")
    assert store.image_ids == written.image_ids == names
    assert store.header == HEADER.replace(dtype=dtype)
    assert len(store) == 40
    for name in generator.permutation(names).tolist():
        assert_equal(store[name], images[name], exact_features=dtype == "float32")
        assert name in store
        assert name[:-1] not in store
    assert store.verify() == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("counts", [(7, 7, 7, 7), (3, 0, 50, 1), (0, 0, 0, 0)])
def test_batches_are_padded_with_zeros(tmp_path: Path, counts: tuple[int, ...], dtype: str) -> None:
    generator = np.random.default_rng(8)
    images = {f"{i}.png": make_regions(generator, count) for i, count in enumerate(counts)}
    store = write_all(tmp_path / "store", images, HEADER.replace(dtype=dtype))
    for chosen in ([2, 0, 0, 3], [1], [3, 1, 2]):
        names = [f"{index}.png" for index in chosen]
        longest = max(counts[index] for index in chosen)
        expected = np.zeros((len(chosen), longest, 5), np.float32)
        for row, name in zip(expected, names, strict=True):
            row[: len(images[name])] = images[name].features.astype(dtype)
        batch = store.features(store.rows(names))
        assert batch.dtype == torch.float32
        assert np.array_equal(batch.numpy(), expected)


def test_reading_gives_copies(tmp_path: Path) -> None:
    """Mapped features are read-only: to write into them would end the process."""
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    store[IDS[3]].features[:] = -8
    store[IDS[3]].boxes[:] = -8
    store.features([3]).fill_(-8)
    assert_complete(store)


@pytest.mark.parametrize("unit", [1, 3, 5])
@pytest.mark.parametrize("most_bytes", [100, 1 << 20])
def test_images_are_found_in_any_number_of_shards(
    tmp_path: Path, unit: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writing, "UNIT", unit)
    monkeypatch.setattr(store_writing, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(shards, "MOST_MAPPED", 2)
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    files = list((tmp_path / "store").glob("shard-*"))
    assert len(files) >= 12 // unit
    assert_complete(store)
    assert store.rows(reversed(IDS)).tolist() == list(range(11, -1, -1))
    expected = regions_of(IDS[7]).features
    assert np.array_equal(store.features([3, 7])[1, : len(expected)].numpy(), expected)
    assert store.verify() == []


def test_images_with_other_attribute_groups_start_a_shard(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    images = {f"{i}.png": make_regions(generator, 2, groups=i // 2) for i in range(5)}
    store = write_all(tmp_path / "store", images, HEADER)
    assert len(list(store.folder.glob("shard-*"))) == 3
    for name, regions in images.items():
        assert_equal(store[name], regions)


def test_ids_with_equal_hashes_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shards, store_writing):
        monkeypatch.setattr(module, "hash_id", lambda stored: len(stored))
    generator = np.random.default_rng(1)
    images = {name: make_regions(generator, 2) for name in ["first", "one", "two", "six", "last"]}
    store = write_all(tmp_path / "store", images, HEADER)
    assert store.rows(["two", "six", "one", "last"]).tolist() == [2, 3, 1, 4]
    assert "ten" not in store


def test_files_are_read_by_safetensors(tmp_path: Path) -> None:
    """The format is documented in `store_layout`; other programs need nothing of ours."""
    store = RegionStore.write(tmp_path / "store", IDS, failing({IDS[4]}), HEADER)
    tensors = load_file(first_shard(store.folder))
    expected = np.concatenate([regions_of(name).features for name in store.image_ids])
    assert np.array_equal(tensors["features"], expected)
    ids, ends = tensors["ids"].tobytes(), tensors["id_starts"].tolist()
    assert [ids[a:b].decode() for a, b in pairwise(ends)] == store.image_ids
    index = load_file(store.folder / "index.safetensors")
    assert (np.diff(index["hashes"].astype(object)) > 0).all()
    with safe_open(store.folder / "index.safetensors", "np") as file:
        assert '"fingerprint": "abc123"' in file.metadata()["header"]


def test_an_image_at_full_size_takes_less_than_150_kilobytes(tmp_path: Path) -> None:
    header = HEADER.replace(feature_dim=2048, dtype="float16")
    generator = np.random.default_rng(1)
    sizes = []
    for count in (2, 12):
        images = {
            f"COCO_train2014_{i:012d}": make_regions(generator, 36, groups=1, dim=2048)
            for i in range(count)
        }
        write_all(tmp_path / str(count), images, header)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / str(count)).iterdir()))
    assert 147_456 < (sizes[1] - sizes[0]) / 10 < 150_000


OPENING = """
import sys, torch
from lxmert.data.store import RegionStore
def private():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
before = private()
store = RegionStore(sys.argv[1])
for start in range(0, 100_000, 3_125):
    names = [f"COCO_train2014_{start + step:012d}" for step in range(0, 320, 10)]
    rows = store.rows(names)
    assert rows.tolist() == list(range(start, start + 320, 10))
    assert store.features(rows).shape == (32, 36, 2048)
print(private() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs sparse files")
def test_a_hundred_thousand_images_are_read_in_little_memory(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from store import make_sparse_store
    finally:
        sys.path.pop(0)
    make_sparse_store(tmp_path / "store", 98)
    sizes = [path.stat().st_size for path in (tmp_path / "store").glob("shard-*")]
    assert sum(sizes) > 100_000 * 36 * 2048 * 2
    assert float(run_python(OPENING, tmp_path / "store")) < 100


def run_python(source: str, *arguments: object, python: str | Path = sys.executable) -> str:
    command = [python, "-c", source, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class _Features(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, store: RegionStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.store.features([row])[0]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_worker_processes_share_a_store(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    loader = torch.utils.data.DataLoader(
        _Features(store), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for name, features in zip(IDS, loader, strict=True):
        assert np.array_equal(features.numpy(), regions_of(name).features)


def test_a_store_travels_as_its_path(tmp_path: Path) -> None:
    message = pickle.dumps(RegionStore.write(tmp_path / "store", IDS, extract, HEADER))
    assert len(message) < 500
    assert_complete(pickle.loads(message))


# An interrupted run


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("unit", [4, 1000])
@pytest.mark.parametrize("saving", [0.0, 1e9])
def test_an_interrupted_store_gets_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, unit: int, saving: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writing, "UNIT", unit)
    monkeypatch.setattr(store_writing, "SAVING", saving)
    RegionStore.write(tmp_path / "whole", IDS, failing({IDS[1], IDS[5]}), HEADER)
    folder = tmp_path / "store"
    asked: list[str] = []

    def dying(image_ids: Sequence[str]) -> Iterator[Extracted]:
        for item in failing({IDS[1], IDS[5]})(image_ids[:1]):
            asked.append(image_ids[0])
            yield item
        raise KeyboardInterrupt

    for _ in IDS:
        with pytest.raises(KeyboardInterrupt):
            RegionStore.write(folder, IDS, dying, HEADER)
        with pytest.raises(FileNotFoundError, match=r"no finished region store .* to resume"):
            RegionStore(folder)
    RegionStore.write(folder, IDS, dying_never, HEADER)
    assert asked == IDS
    assert read_files(folder) == read_files(tmp_path / "whole")


def dying_never(image_ids: Sequence[str]) -> Iterator[Extracted]:
    assert not image_ids
    return iter(())


WRITER = """
import os, resource, signal, sys, threading
import numpy as np
from lxmert.data import store_writing
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import StoreWriter
from lxmert.schema import Regions

store_writing.UNIT, store_writing.SAVING = 50, 1e9
HEADER = StoreHeader(
    fingerprint="extractor", feature_dim=8192, dtype="float32", precision="fp32",
    object_names=("a",), attribute_names=("b",),
)
folder, num_images = sys.argv[1], int(sys.argv[3])
log = os.open(sys.argv[2], os.O_APPEND | os.O_WRONLY | os.O_CREAT)

def make(number):
    generator = np.random.default_rng(number)
    count = 1 + number % 3
    return Regions(
        generator.random((count, 4), np.float32), generator.random((count, 8192), np.float32),
        (40, 50), np.arange(count), generator.random(count, np.float32),
        np.arange(2 * count).reshape(count, 2), generator.random((count, 2), np.float32),
    )

def write(seconds, size):
    with StoreWriter(folder, HEADER) as writer:
        if size:  # the kernel ends the process within the write that would make a file longer
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
        elif seconds:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        missing = [number for number in range(num_images) if str(number) not in writer.done]
        for number in missing[:25] if seconds else missing:
            os.write(log, b"%d\\n" % number)
            writer.add((str(number), make(number)))
        if seconds:  # however fast the disk is, images are left for the other runs
            signal.pause()
        writer.finish()

for seconds, size in zip(map(float, sys.argv[4::2]), map(float, sys.argv[5::2])):
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        write(seconds, size)
        os._exit(0)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs signals and limits of Linux")
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_loses_nothing_and_writes_nothing_twice(
    programs: Path, tmp_path: Path, times: int
) -> None:
    """Half of the times after a random time, the others in a write after some number of bytes."""
    folder, log, num_images = tmp_path / "store", tmp_path / "log", 30 * times
    generator = np.random.default_rng(5)
    # Images have 33 to 100 kB, shards 3 MB: no run adds more than 30 images, so work is left.
    kills = [(generator.uniform(0.002, 0.04), 0) for _ in range(times // 2)]
    kills += [(0, size) for size in generator.choice([70_000, 2_000_000], size=times // 2)]
    order = generator.permutation(times)
    runs = [kills[i] for i in order] + [(0, 0)]
    numbers = [number for run in runs for number in run]
    given, python = (folder, log, num_images, *numbers), programs / "python"
    codes = list(map(int, run_python(WRITER, *given, python=python).split()))
    assert set(codes[:-1]) == {-9, -25}
    assert codes[-1] == 0
    store = RegionStore(folder)
    assert store.verify() == []
    assert store.image_ids == [str(number) for number in range(num_images)]
    for number in range(num_images):
        found, random = store[str(number)], np.random.default_rng(number)
        count = 1 + number % 3
        assert np.array_equal(found.boxes, random.random((count, 4), np.float32))
        assert np.array_equal(found.features, random.random((count, 8192), np.float32))
        assert found.attribute_ids.tolist() == np.arange(2 * count).reshape(count, 2).tolist()
    asked = log.read_text().split()
    assert len(set(asked)) == num_images
    assert num_images < len(asked) <= num_images + times
    shards = (f"shard-{number:06d}-0.safetensors" for number in range(-(-num_images // 50)))
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "index.safetensors", *shards]


@pytest.mark.parametrize("tensor", ["features", "ids", "starts", "boxes"])
def test_what_never_reached_the_disk_is_extracted_again(
    tmp_path: Path, tensor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure a file may have its length, with zeros where data should be."""
    monkeypatch.setattr(store_writing, "SAVING", 1e9)
    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(folder, IDS, dying(9), HEADER)
    saved = folder / "saved-000000-0-5.safetensors"
    begin, end = data_offsets(saved, tensor)
    content = saved.read_bytes()
    saved.write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    with StoreWriter(folder, HEADER) as writer:
        assert writer.done == set(IDS[:5])
    assert_complete(RegionStore.write(folder, IDS, extract, HEADER))


def test_a_finished_store_is_not_overwritten(tmp_path: Path) -> None:
    RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    with pytest.raises(FileExistsError, match="finished region store"):
        RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    assert_complete(RegionStore(tmp_path / "store"))


def test_new_images_are_added_while_others_read(tmp_path: Path) -> None:
    early = RegionStore.write(tmp_path / "store", IDS[:7], extract, HEADER)
    assert_complete(RegionStore.write(tmp_path / "store", IDS, extract, HEADER))
    assert early.image_ids == IDS[:7]
    assert_equal(early[IDS[6]], regions_of(IDS[6]))


def test_images_that_are_gone_may_not_stay_in_the_store(tmp_path: Path) -> None:
    RegionStore.write(tmp_path / "store", IDS[:5], extract, HEADER)
    with pytest.raises(ValueError, match=r"2 images missing now, such as '000"):
        RegionStore.write(tmp_path / "store", IDS[2:], extract, HEADER)
    assert len(RegionStore(tmp_path / "store")) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "started with the fingerprint abc123, not with other"),
        ({"dtype": "float16"}, "started with the dtype float32, not with float16"),
        ({"object_names": ("hat",)}, r"object_names \('ball', 'mug'\), not with \('hat',\)"),
    ],
)
def test_another_extractor_may_not_go_on(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(tmp_path / "store", IDS, dying(2), HEADER)
    with pytest.raises(ValueError, match=message):
        RegionStore.write(tmp_path / "store", IDS, extract, HEADER.replace(**change))
    assert_complete(RegionStore.write(tmp_path / "store", IDS, extract, HEADER))


def test_two_processes_may_not_write_at_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", HEADER) as writer:
        writer.add((IDS[0], regions_of(IDS[0])))
        with pytest.raises(ValueError, match="being written by another process"):
            RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    assert_complete(RegionStore.write(tmp_path / "store", IDS, extract, HEADER))


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.txt', but no region store"):
        RegionStore.write(tmp_path, IDS, extract, HEADER)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# Images that cannot be extracted


def failing(bad: set[str]) -> Callable[[Sequence[str]], Iterator[Extracted]]:
    def run(image_ids: Sequence[str]) -> Iterator[Extracted]:
        for image_id in image_ids:
            reason = f"{image_id} is cut short after 8 of 9 bytes: \n copy it again"
            yield Failure(image_id, reason) if image_id in bad else (image_id, regions_of(image_id))

    return run


def test_failures_are_kept_and_tried_again(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, failing({IDS[2], IDS[11]}), HEADER)
    assert [failure.image_id for failure in store.failures] == [IDS[2], IDS[11]]
    assert store.failures[0].reason == "002.png is cut short after 8 of 9 bytes: \n copy it again"
    assert store.image_ids == [name for name in IDS if name not in (IDS[2], IDS[11])]
    asked: list[str] = []

    def fixed(image_ids: Sequence[str]) -> Iterator[Extracted]:
        asked.extend(image_ids)
        return failing({IDS[11]})(image_ids)

    store = RegionStore.write(tmp_path / "store", IDS, fixed, HEADER)
    assert asked == [IDS[2], IDS[11]]
    assert not (store.folder / "previous.safetensors").exists()
    assert [failure.image_id for failure in store.failures] == [IDS[11]]
    assert_equal(store[IDS[2]], regions_of(IDS[2]))
    assert store.verify() == []


def test_features_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    header = HEADER.replace(dtype="float16")
    large, small = regions_of(IDS[3]), regions_of(IDS[3])
    large.features[1, 2] = 70_000  # fits into float32 only
    small.features[0, 4] = np.nan
    with StoreWriter(tmp_path / "half", header) as writer:
        for regions in (large, small):
            with pytest.raises(ValueError, match=r"'a\.png' has features that are not finite"):
                writer.add(("a.png", regions))
    with StoreWriter(tmp_path / "full", HEADER) as writer:
        writer.add(("a.png", large))
        with pytest.raises(ValueError, match=r"image 'a\.png' came twice"):
            writer.add(("a.png", large))
        with pytest.raises(ValueError, match=r"image '' has an empty id"):
            writer.add(("", large))
        with pytest.raises(ValueError, match=r"4 boxes and features of the shape \[4, 2\]"):
            writer.add(("b.png", replace(large, features=large.features[:, :2])))
        writer.finish()
    assert RegionStore(tmp_path / "full").image_ids == ["a.png"]


# Damage


def test_every_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    """One bit in any file, at random places; the name of the image too, where it has one."""
    folder = tmp_path / "store"
    store = RegionStore.write(folder, IDS, failing({IDS[4]}), HEADER)
    names = store.image_ids
    ends = np.cumsum([len(regions_of(name)) * 5 * 4 for name in names])
    begin, end = data_offsets(first_shard(folder), "features")
    generator = np.random.default_rng(2)
    paths = [first_shard(folder), folder / "index.safetensors"]
    for path in paths:
        content = path.read_bytes()
        places = [*generator.integers(len(content), size=60), *range(9)]
        places += range(begin, end, 31) if path == paths[0] else []
        for place in map(int, places):
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            if path == paths[1]:
                with pytest.raises(ValueError, match=r"index\.safetensors is damaged"):
                    RegionStore(folder)
                continue
            found = RegionStore(folder).verify()
            assert {damage.file for damage in found} == {path.name}
            if begin <= place < end:
                image = names[int(np.searchsorted(ends, place - begin, side="right"))]
                assert [damage.image_id for damage in found] == [image]
        path.write_bytes(content)
    assert RegionStore(folder).verify() == []


def test_files_that_are_missing_cut_or_exchanged_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writing, "UNIT", 6)
    folder = tmp_path / "store"
    store = RegionStore.write(folder, IDS, extract, HEADER)
    with pytest.raises(KeyError, match=r"'nine\.png' is not in the region store"):
        store["nine.png"]
    first, second = sorted(folder.glob("shard-*"))
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[1][:-1])
    with pytest.raises(ValueError, match=r"shard-000001-0\.safetensors has .* the index says"):
        RegionStore(folder)
    second.unlink()
    with pytest.raises(ValueError, match=r"shard-000001-0\.safetensors is missing"):
        RegionStore(folder)
    shifted = {name: regions_of(f"{int(name[:3]) + 4:03d}") for name in IDS[6:]}
    other = write_all(tmp_path / "other", shifted, HEADER)
    second.write_bytes(first_shard(other.folder).read_bytes())
    assert second.stat().st_size == len(contents[1])
    with pytest.raises(ValueError, match="is not the shard that the index of its store lists"):
        RegionStore(folder)[IDS[6]]
    assert [damage.file for damage in RegionStore(folder).verify()] == [second.name]


def test_an_image_in_two_shards_is_refused(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    (store.folder / "shard-000001-0.safetensors").write_bytes(
        first_shard(store.folder).read_bytes()
    )
    with pytest.raises(ValueError, match=r"has the image '0\d\d\.png' twice"):
        store_writing.write_index(store.folder, HEADER)


def test_a_store_of_the_earlier_format_is_refused_with_the_command_that_converts_it(
    tmp_path: Path,
) -> None:
    old = ROOT / "tests/assets/old_store"
    with pytest.raises(
        FileNotFoundError, match=r"earlier format: .*`lxmert convert .*old_store NEW`"
    ):
        RegionStore(old)
    with pytest.raises(FileExistsError, match="earlier format"):
        StoreWriter(old, HEADER)
    with pytest.raises(FileNotFoundError, match="is no region store"):
        describe_store(tmp_path)


# What a store is


def test_a_store_describes_itself(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match="is no region store"):
        describe_store(folder)
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(folder, IDS, dying(3), HEADER)
    unfinished = describe_store(folder)
    assert (unfinished["complete"], unfinished["images"], unfinished["regions"]) == (False, 3, 6)
    RegionStore.write(folder, IDS, failing({IDS[0], IDS[4], IDS[8]}), HEADER)
    counts = [1 + number % 4 for number in range(1, 12) if number not in (4, 8)]
    with pytest.raises(ValueError, match="images missing now"):
        RegionStore.write(folder, IDS[1:2], extract, HEADER)
    assert describe_store(folder) == {
        "complete": True,
        "images": 10,
        "failed": 2,
        "regions": sum(counts) + 1,
        "regions_min": 1,
        "regions_mean": (sum(counts) + 1) / 10,
        "regions_max": 4,
        "feature_dim": 5,
        "dtype": "float32",
        "fingerprint": "abc123",
        "precision": "fp32",
        "objects": 2,
        "attributes": 2,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


def test_a_store_without_images_is_one(tmp_path: Path) -> None:
    store = RegionStore.write(tmp_path / "store", IDS[:2], failing(set(IDS)), HEADER)
    assert (len(store), store.image_ids, store.verify()) == (0, [], [])
    assert IDS[0] not in store
    described = describe_store(tmp_path / "store")
    assert (described["images"], described["regions_min"], described["failed"]) == (0, 0, 2)
    assert [failure.image_id for failure in list_failures(tmp_path / "store")] == IDS[:2]


@pytest.mark.parametrize("tensor", ["features", "boxes", "object_scores", "attribute_ids"])
def test_a_flipped_bit_is_found_when_its_image_is_read(tmp_path: Path, tensor: str) -> None:
    """Other regions, and other answers, were read without a word; only `verify` found it."""
    folder = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder
    flip(first_shard(folder), tensor)
    store = RegionStore(folder)
    assert_equal(store[IDS[0]], regions_of(IDS[0]))
    with pytest.raises(ValueError, match=r"shard-000000-0.safetensors is damaged: image 11 of 12"):
        store[IDS[-1]]
    flip(first_shard(folder), tensor, place=0)
    with pytest.raises(ValueError, match=r"is damaged: image 0 of 12"):
        RegionStore(folder).features([2, 0])


@pytest.mark.parametrize("tensor", ["ids", "starts", "id_starts", "image_sizes", "failures"])
def test_a_flipped_bit_outside_of_images_is_found_at_once(tmp_path: Path, tensor: str) -> None:
    folder = RegionStore.write(tmp_path / "store", IDS, failing({IDS[3]}), HEADER).folder
    flip(first_shard(folder), tensor)
    with pytest.raises(ValueError, match="its ids or sizes do not have their checksum"):
        RegionStore(folder)[IDS[0]]


def rewrite(
    path: Path,
    tensors: dict[str, np.ndarray | None],
    metadata: dict[str, str],
) -> None:
    """Change tensors and metadata of a file; its checksums are right."""
    old = map_tensors(path)
    changed: dict[str, np.ndarray | None] = {name: old.tensors[name].copy() for name in old.tensors}
    changed |= tensors
    kept = {name: value for name, value in changed.items() if value is not None}
    table = {n: v for n, v in kept.items() if n not in StoreHeader.row_columns}
    sums = {"table_checksum": store_layout.table_checksum(table)}
    write_tensors(path, {n: [v] for n, v in kept.items()}, old.metadata | sums | metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "object"}, "dtype: got"),
        ({"dtype": None}, "dtype: got null"),
        ({"feature_dim": 0}, "feature_dim: got 0, expected at least 1"),
        ({"feature_dim": 10**12}, "feature_dim: got 1000000000000"),
        ({"feature_dim": "5"}, "feature_dim: got"),
        ({"object_names": [1]}, "object_names"),
        ({"num_regions": [3]}, "num_regions"),
        ({"color": "red"}, "unknown key 'color'"),
        ({"fingerprint": ...}, "fingerprint is missing"),
    ],
)
def test_a_header_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Unknown and missing keys, dtypes and counts were tracebacks, or were believed."""
    path = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder / "index.safetensors"
    record = {**HEADER.to_dict(), **changes}
    record = {key: value for key, value in record.items() if value is not ...}
    rewrite(path, {}, {"header": json.dumps(record)})
    with pytest.raises(ValueError, match=message) as refused:
        RegionStore(path.parent)
    assert str(refused.value).startswith(str(path))
    assert "make the store again" in str(refused.value)


@pytest.mark.parametrize("metadata", [
    {"format": "lxmert-store-4"}, {"kind": "pixels"}, {"header": "junk"}, {"header": "[1]"},
    {"failed": "few"}, {"regions": "1 2"},
])  # fmt: skip
def test_metadata_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    path = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder / "index.safetensors"
    rewrite(path, {}, metadata)
    with pytest.raises(ValueError, match=r"index\.safetensors.*: make the store again"):
        RegionStore(path.parent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hashes", None), ("hashes", np.zeros(11, "<u8")), ("places", np.zeros(12, "<i8")),
        ("shard_starts", np.array([0, 13], "<i8")), ("shard_starts", np.array([12, 12], "<i8")),
        ("shards", np.zeros((1, 3), "<i4")), ("failures", None), ("shard_sums", None),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, name: str, value: np.ndarray | None
) -> None:
    path = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder / "index.safetensors"
    rewrite(path, {name: value}, {})
    with pytest.raises(ValueError, match=r"index\.safetensors is no index of a store: make"):
        RegionStore(path.parent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", None), ("features", np.zeros((30, 4), "<f4")),
        ("features", np.zeros((30, 5), "<f2")), ("boxes", np.zeros((29, 4), "<f4")),
        ("starts", None), ("starts", np.arange(0, 26, 2)[::-1].copy()),
        ("starts", np.full(13, 30)), ("id_starts", np.zeros(13, "<i8")),
        ("image_sizes", np.zeros((12, 3), "<i4")), ("checksums", np.zeros(3, "<u4")),
        ("attribute_ids", np.zeros(30, "<i4")), ("starts", np.zeros((), "<i8")[None][:0]),
    ],
)  # fmt: skip
def test_a_shard_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, name: str, value: np.ndarray | None
) -> None:
    folder = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder
    rewrite(first_shard(folder), {name: value}, {})
    with pytest.raises(ValueError, match=r"shard-000000-0\.safetensors.*: make the store again"):
        store_writing.write_index(folder, HEADER)


@pytest.mark.parametrize("header", [
    b"", b"{", b"[]", b"{}", b"[" * 10**5, b'{"header_checksum": "00000000"}',
    b'{"__metadata__": {"header_checksum": "00000000"}, "x": {"dtype": "F32"}}',
    b'{"__metadata__": {"header_checksum": "00000000"}, "x": 7}',
    b'{"__metadata__": {"header_checksum": "00000000"}, "x": {"dtype": "F32", "shape": [2], '
    b'"data_offsets": [0, 999999]}}',
    b'{"__metadata__": {"header_checksum": "00000000"}, "x": {"dtype": "F32", "shape": [-1], '
    b'"data_offsets": [0, 8]}}',
    b'{"__metadata__": {"header_checksum": "00000000"}, "x": {"dtype": "BOX", "shape": [2], '
    b'"data_offsets": [0, 8]}}',
])  # fmt: skip
def test_a_file_header_that_is_nonsense_is_one_sentence(tmp_path: Path, header: bytes) -> None:
    checksum = b'"%08x"' % zlib.crc32(header)
    content = header.replace(b'"00000000"', checksum)
    path = tmp_path / "shard.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(8))
    with pytest.raises(ValueError, match=r"shard\.safetensors (is|must|has).*again$"):
        map_tensors(path)
