"""The region store: what is written comes back; an interrupted run loses and doubles nothing."""

import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lxmert.data.store import RegionStore, StoreHeader, describe_store
from lxmert.data.store_writing import Extracted, StoreWriter
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


def test_ids_with_equal_checksums_are_distinguished(tmp_path: Path) -> None:
    twins = ["plumless", "buckeroo"]
    assert zlib.crc32(b"plumless") == zlib.crc32(b"buckeroo")
    generator = np.random.default_rng(1)
    images = {name: make_regions(generator, 2) for name in ["first", *twins, "last"]}
    store = write_all(tmp_path / "store", images, HEADER)
    assert store.rows(["buckeroo", "plumless", "last"]).tolist() == [2, 1, 3]
    one = write_all(tmp_path / "one", {"plumless": images["plumless"]}, HEADER)
    assert "buckeroo" not in one


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs sparse files")
def test_a_hundred_thousand_images_are_read_in_little_memory(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from store import make_sparse_store
    finally:
        sys.path.pop(0)
    make_sparse_store(tmp_path / "store", 100_000)
    assert (tmp_path / "store" / "features.bin").stat().st_size == 100_000 * 36 * 2048 * 2
    assert float(run_python(OPENING, tmp_path / "store")) < 100


def run_python(source: str, *arguments: object) -> str:
    command = [sys.executable, "-c", source, *map(str, arguments)]
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


@pytest.mark.parametrize("cut", range(0, 260, 13))
def test_interrupted_inside_a_write_it_is_taken_up_again(tmp_path: Path, cut: int) -> None:
    """A process may end after any byte of what it writes for an image."""
    folder, longer = tmp_path / "store", tmp_path / "longer"
    for path, count in ((folder, 5), (longer, 6)):
        with pytest.raises(KeyboardInterrupt):
            RegionStore.write(path, IDS, dying(count), HEADER)
    with pytest.raises(FileNotFoundError, match=r"no finished region store .* go on with"):
        RegionStore(folder)
    left = cut
    for name in ("features.bin", "regions.bin", "ids.bin", "images.bin"):
        old, new = (folder / name).read_bytes(), (longer / name).read_bytes()
        (folder / name).write_bytes(new[: min(len(new), len(old) + left)])
        left = max(0, left - (len(new) - len(old)))
    whole = 6 if left else 5
    asked: list[str] = []

    def remember(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        asked.extend(image_ids)
        return extract(image_ids)

    store = RegionStore.write(folder, IDS, remember, HEADER)
    assert_complete(store)
    assert store.verify() == []
    assert asked == IDS[whole:]


WRITER = """
import os, resource, signal, sys, threading
import numpy as np
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import StoreWriter
from lxmert.schema import Regions

def make(number):
    generator = np.random.default_rng(number)
    count = 1 + number % 3
    return Regions(
        generator.random((count, 4), np.float32), generator.random((count, 8192), np.float32),
        (40, 50), np.arange(count), generator.random(count, np.float32),
        np.arange(2 * count).reshape(count, 2), generator.random((count, 2), np.float32),
    )

HEADER = StoreHeader(
    fingerprint="extractor", feature_dim=8192, dtype="float32", precision="fp32",
    object_names=("a",), attribute_names=("b",),
)
folder, log, images, seconds, size = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
log = os.open(log, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
with StoreWriter(folder, HEADER) as writer:
    if size:  # the kernel ends the process within the write that would make a file longer
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = os.path.getsize(folder + "/features.bin") if writer.done else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit + size), resource.RLIM_INFINITY))
    elif seconds:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    for number in range(int(images)):
        if str(number) not in writer.done:
            os.write(log, b"%d\\n" % number)
            writer.add((str(number), make(number)))
    writer.finish()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs signals and limits of Linux")
def test_killed_twenty_times_it_loses_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    """Ten times after a random time, ten times inside a write after a random number of bytes."""
    folder, log, num_images, kills = tmp_path / "store", tmp_path / "log", 600, 20
    generator = np.random.default_rng(5)
    torn = 0
    for kill in range(kills):
        seconds = 0 if kill % 2 else generator.uniform(0.0005, 0.02)
        size = generator.integers(1, 400_000) if kill % 2 else 0
        command = [sys.executable, "-c", WRITER, folder, log, str(num_images), str(seconds)]
        ended = subprocess.run([*map(str, command), str(size)], capture_output=True, text=True)
        assert ended.returncode in (-9, -25), ended.stderr
        features = folder / "features.bin"
        torn += features.exists() and features.stat().st_size % (4 * 8192) != 0
    assert torn >= 5
    run_python(WRITER, folder, log, num_images, 0, 0)
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
    assert len(asked) <= num_images + kills


@pytest.mark.parametrize("hole", ["features.bin", "regions.bin", "ids.bin", "images.bin"])
def test_what_never_reached_the_disk_is_extracted_again(tmp_path: Path, hole: str) -> None:
    """After a power failure a file may be as long as it was, with zeros where data should be."""
    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        RegionStore.write(folder, IDS, dying(9), HEADER)
    content = (folder / hole).read_bytes()
    (folder / hole).write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    with StoreWriter(folder, HEADER) as writer:
        assert 0 < len(writer.done) < 9
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
        ({"fingerprint": "other"}, "begun with the fingerprint abc123, not with other"),
        ({"dtype": "float16"}, "begun with the dtype float32, not with float16"),
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
    generator = np.random.default_rng(2)
    paths = sorted(folder.iterdir())
    assert len(paths) == 7
    for path in paths:
        content = path.read_bytes()
        for _ in range(25):
            place, bit = int(generator.integers(len(content))), int(generator.integers(8))
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            if path.name == "header.json":
                if content[place : place + 1].isspace():
                    continue  # a tab for a space changes nothing
                with pytest.raises(ValueError, match=r"header\.json (is |has |must|: )"):
                    RegionStore(folder)
                continue
            found = RegionStore(folder).verify()
            assert path.name in {damage.file for damage in found}
            if path.name == "features.bin":
                image = names[int(np.searchsorted(ends, place, side="right"))]
                assert [(d.file, d.image_id) for d in found] == [("features.bin", image)]
        path.write_bytes(content)
    assert RegionStore(folder).verify() == []


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_index_is_named_where_it_is_read(tmp_path: Path, seed: int) -> None:
    """Rows that a flipped bit had sent past the end of a file came back short, without a word."""
    store = RegionStore.write(tmp_path / "store", IDS, extract, HEADER)
    content = bytearray((store.folder / "images.bin").read_bytes())
    generator = np.random.default_rng(seed)
    record = np.frombuffer(bytes(content[60 * 7 : 60 * 8]), "u1").copy()
    record[:36].view("<i4")[generator.integers(9)] = generator.choice([-9, 1 << 20, 1 << 30])
    content[60 * 7 : 60 * 8] = record.tobytes()
    (store.folder / "images.bin").write_bytes(content)
    damaged = RegionStore(store.folder)
    with pytest.raises(ValueError, match=r"images\.bin is damaged"):
        damaged.rows([IDS[7]])
    assert "image 7 of 12 is not as it was written" in {part.problem for part in damaged.verify()}


def test_files_of_the_wrong_size_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = RegionStore.write(folder, IDS, extract, HEADER)
    with pytest.raises(KeyError, match=r"'nine\.png' is not in the region store"):
        store["nine.png"]
    size = (folder / "features.bin").stat().st_size
    (folder / "features.bin").write_bytes((folder / "features.bin").read_bytes()[: size - 81])
    # The last image has four rows of 20 bytes: one byte of the one before is gone, too.
    with pytest.raises(ValueError, match=r"features\.bin has .* from image '010\.png' on"):
        RegionStore(folder)
    (folder / "lookup.bin").unlink()
    (folder / "features.bin").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=r"lookup\.bin is missing"):
        RegionStore(folder)


def test_stores_of_another_version_are_refused_with_the_command_that_makes_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "header.json").write_text(json.dumps({"format": 1, "fingerprint": "abc123"}))
    (tmp_path / "index.npz").write_bytes(b"\x00")
    for open_store in (RegionStore, describe_store):
        with pytest.raises(ValueError, match=r"format 1, expected 2: .*`lxmert extract IMAGES"):
            open_store(tmp_path)


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


@pytest.mark.parametrize("name", ["features.bin", "regions.bin", "ids.bin", "images.bin"])
def test_a_flipped_byte_is_found_when_its_image_is_read(tmp_path: Path, name: str) -> None:
    """Other regions, and other answers, were read without a word; only `verify` found it."""
    folder = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    store = RegionStore(folder)
    if name in ("features.bin", "regions.bin"):
        store[IDS[0]]  # its part is as it was written
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        store[IDS[-1]]


def test_a_flipped_byte_is_found_in_a_batch(tmp_path: Path) -> None:
    folder = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder
    content = bytearray((folder / "features.bin").read_bytes())
    content[0] ^= 1
    (folder / "features.bin").write_bytes(content)
    store = RegionStore(folder)
    with pytest.raises(ValueError, match=r"features\.bin is damaged: the part of image 0"):
        store.features(store.rows(IDS[:3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "object"}, "dtype: got"),
        ({"dtype": "float64"}, "dtype: got"),
        ({"dtype": None}, "dtype: got null"),
        ({"feature_dim": 0}, "feature_dim: got 0, expected at least 1"),
        ({"feature_dim": 128}, "features.bin has .* bytes, the counts need"),
        ({"feature_dim": 10**12}, "feature_dim: got 1000000000000"),
        ({"feature_dim": "5"}, "feature_dim: got"),
        ({"object_names": [1]}, "object_names"),
        ({"num_regions": [3]}, "num_regions: got 1 numbers"),
        ({"color": "red"}, "unknown key 'color'"),
        ({"contents": {"images": 1}}, "contents.regions is missing"),
        ({"contents": [1]}, "contents: got"),
        ({"fingerprint": ...}, "fingerprint is missing"),
    ],
)
def test_a_header_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Unknown and missing keys, dtypes and counts were tracebacks, or were believed."""
    path = RegionStore.write(tmp_path / "store", IDS, extract, HEADER).folder / "header.json"
    record = {**json.loads(path.read_text()), **changes}
    record = {key: value for key, value in record.items() if value is not ... and key != "checksum"}
    record["checksum"] = zlib.crc32(json.dumps(record, sort_keys=True).encode())
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as refused:
        RegionStore(path.parent)
    assert str(refused.value).startswith(str(path))
    assert "remove the folder and make it again" in str(refused.value)


@pytest.mark.parametrize("text", ["junk", "[1]", '{"image_id": 1, "reason": "x"}', '{"a": 1}'])
def test_junk_among_the_failures_is_named(tmp_path: Path, text: str) -> None:
    store = RegionStore.write(tmp_path / "store", IDS, failing({IDS[4]}), HEADER)
    (store.folder / "failed.jsonl").write_text(text + "\n")
    with pytest.raises(ValueError, match=r"failed\.jsonl line 1 is"):
        store.failures  # noqa: B018
    assert {damage.file for damage in store.verify()} == {"failed.jsonl"}
