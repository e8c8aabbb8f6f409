"""Speed and size of the region store, compared with plain ways to store features.

Run it as `python benchmarks/store.py`; it needs 2 GB of temporary disk space. Rounds are
interleaved, files are in the page cache, and every way returns the same float32 batch.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from store_baselines import BASELINES, Features, Read

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.store_layout import INDEX, UNIT, describe, file_name, table_checksum, write_shard
from lxmert.data.store_writing import write_index
from lxmert.data.tensor_maps import Array, encode_header, map_tensors, write_tensors
from lxmert.data.tsv import import_tsv, read_tsv, write_tsv
from lxmert.schema import Regions

IMAGES_HELD, REGIONS_HELD, DIM, BATCH, ROUNDS = 1000, 36, 2048, 32, 60
HEADER_FIELDS = StoreHeader(
    fingerprint="benchmark",
    feature_dim=DIM,
    dtype="float16",
    precision="fp32",
    object_names=("thing",),
    attribute_names=(),
)

OPENING = """
import sys, time
import torch
from lxmert.data.store import RegionStore
def private():
    # Mapped pages belong to the page cache, which all readers of the store share.
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
before, started = private(), time.perf_counter()
store = RegionStore(sys.argv[1])
seconds = time.perf_counter() - started
generator = torch.Generator().manual_seed(7)
for _ in range(30):
    rows = torch.randint(len(store), (32,), generator=generator).tolist()
    store.features(rows)
    store.rows([f"COCO_train2014_{row:012d}" for row in rows])
print(seconds, private() - before)
"""


def make_regions(features: Features) -> Regions:
    """Return regions around given features."""
    count = len(features)
    return Regions(
        boxes=np.tile(np.array([2, 3, 50, 60], np.float32), (count, 1)),
        features=features.astype(np.float32),
        image_size=(100, 120),
        object_ids=np.zeros(count, np.int64),
        object_scores=np.full(count, 0.75, np.float32),
        attribute_ids=np.zeros((count, 1), np.int64),
        attribute_scores=np.full((count, 1), 0.25, np.float32),
    )


def make_store(folder: Path, features: Features) -> RegionStore:
    """Write a store with the given features, `[images, regions, dim]`."""
    image_ids = [image_id(row) for row in range(len(features))]

    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        return ((name, make_regions(features[int(name[-12:])])) for name in remaining)

    return RegionStore.write(folder, image_ids, extract, HEADER_FIELDS)


def image_id(row: int) -> str:
    """Return the id of an image of a sparse store."""
    return f"COCO_train2014_{row:012d}"


def make_sparse_store(
    folder: Path,
    num_shards: int,
    *,
    dim: int = DIM,
    images: int = UNIT,
    regions: int = REGIONS_HELD,
) -> None:
    """Write a store of float16 features whose features and regions are zeros in holes of files.

    Args:
        folder: the store.
        num_shards: number of shards.
        dim: width of a feature row.
        images: images per shard.
        regions: regions per image.
    """
    folder.mkdir(parents=True)
    header = HEADER_FIELDS.replace(feature_dim=dim)
    packed = header.pack("", make_regions(np.zeros((regions, dim), np.float16)))
    for part in packed.rows.values():
        part[:] = 0
    first = folder / file_name(0, 0)
    write_shard(first, header, [(image_id(0), packed)], sync=False)
    shard = map_tensors(first)
    table: dict[str, Array] = {
        "starts": np.arange(images + 1) * regions,
        "id_starts": np.arange(images + 1) * len(image_id(0)),
        "ids": np.zeros(images * len(image_id(0)), np.uint8),
        "failures": np.zeros(0, np.uint8),
    }
    for name in ("checksums", "found", "image_sizes"):
        table[name] = np.repeat(shard.tensors[name], images, axis=0)
    entries, end = {}, 0
    with first.open("rb") as file:
        texts = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, entry in texts.items():  # in the order of the file
        if name == "__metadata__":
            continue
        shape = list(table[name].shape if name in table else entry["shape"])
        if name not in table:
            shape[0] *= images
        size = math.prod(shape) * shard.tensors[name].itemsize
        entries[name] = entry | {"shape": shape, "data_offsets": [end, end + size]}
        end += size
    for unit in range(num_shards):
        names = "".join(map(image_id, range(unit * images, (unit + 1) * images)))
        table["ids"] = np.frombuffer(names.encode(), np.uint8)
        sums = {"table_checksum": table_checksum(table), "checksum": f"{unit:08x}"}
        encoded = encode_header({"__metadata__": texts["__metadata__"] | sums, **entries})
        path, start = folder / file_name(unit, 0), 8 + len(encoded)
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(start + end)
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name, values in table.items():
                file.seek(start + entries[name]["data_offsets"][0])
                file.write(values.tobytes())
    write_index(folder, header)


def measure_batches(ways: dict[str, Read], reference: str, num_images: int) -> None:
    """Print the images per second of each method, and the ratio to the reference by round."""
    generator = np.random.default_rng(7)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for read in ways.values():  # every page is mapped once before it counts
        for start in range(0, num_images, BATCH):
            read(range(start, min(start + BATCH, num_images)))
    for _ in range(ROUNDS):
        rows = generator.integers(num_images, size=BATCH).tolist()
        for name, read in ways.items():
            started = time.perf_counter()
            read(rows)
            times[name].append(time.perf_counter() - started)
    print(f"\n{BATCH} random images of {REGIONS_HELD} x {DIM} as float32, {ROUNDS} rounds")
    for name, seconds in times.items():
        ratios = [b / a for a, b in zip(seconds, times[reference], strict=True)]
        median, best = BATCH / statistics.median(seconds), BATCH / min(seconds)
        ratio = statistics.median(ratios)
        print(f"{name:32} {median:9.0f} images/s, best {best:9.0f}, {ratio:5.2f} x {reference}")


def measure_opening(folder: Path, num_shards: int) -> None:
    """Print how long a fresh process takes to open a large store, and the memory it adds."""
    make_sparse_store(folder, num_shards)
    command = [sys.executable, "-c", OPENING, str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, megabytes = map(float, output.split())
    print(f"opening {num_shards * UNIT:,} images: {seconds * 1000:.1f} ms, then 960 images read: "
          f"{megabytes:.1f} MB private memory above torch")  # fmt: skip


LARGE = """
import statistics, sys, time
import torch
from lxmert.data.store import RegionStore
def private():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
before, started = private(), time.perf_counter()
large = RegionStore(sys.argv[1])
opened = time.perf_counter() - started
stores = [large, *map(RegionStore, sys.argv[2:])]
generator = torch.Generator().manual_seed(7)
def batch(store):
    rows = torch.randint(len(store), (32,), generator=generator).tolist()
    names = [f"COCO_train2014_{row:012d}" for row in rows]
    started = time.perf_counter()
    store.features(store.rows(names))
    return time.perf_counter() - started
for _ in range(2000):  # most pages are mapped before they count
    for store in stores:
        batch(store)
times = [[batch(store) for store in stores] for _ in range(1000)]
ratios = [statistics.median(row[0] / row[i] for row in times) for i in (1, 2)]
print(opened, statistics.median(row[0] for row in times), *ratios, private() - before)
"""


def measure_large(folder: Path) -> None:
    """Print what 10 million images in 2,500 shards cost, with small features."""
    started = time.perf_counter()
    make_sparse_store(folder / "large", 2500, dim=64, images=4000, regions=4)
    print(f"10 million images indexed: {time.perf_counter() - started:.0f} s")
    make_sparse_store(folder / "one", 1, dim=64, images=10_000_000, regions=4)
    make_sparse_store(folder / "small", 1, dim=64, images=4000, regions=4)
    paths = [str(folder / name) for name in ("large", "one", "small")]
    output = subprocess.run(
        [sys.executable, "-c", LARGE, *paths], check=True, capture_output=True, text=True
    ).stdout
    opened, batch, one, small, megabytes = map(float, output.split())
    print(
        f"opened: {opened * 1000:.0f} ms; random batch of {BATCH} by id: {batch * 1e6:.0f} us, "
        f"{one:.2f} times that of one shard with as many images, {small:.2f} times that of 4,000 "
        f"images that stay in the caches; {megabytes:.0f} MB private memory above torch"
    )


INDEX_ONLY = """
import sys, time
from lxmert.data.store import RegionStore
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
before, started = resident(), time.perf_counter()
store = RegionStore(sys.argv[1])
opened = time.perf_counter() - started
started = time.perf_counter()
assert store.find([f"absent {number}" for number in range(100_000)]) == [None] * 100_000
print(opened, (time.perf_counter() - started) * 10, resident() - before)
"""


def measure_index(folder: Path) -> None:
    """Print what the index of 100 million images in 25,000 shards costs; its shards are empty."""
    images, size = 100_000_000, 4000
    folder.mkdir()
    hashes = np.random.default_rng(3).integers(1 << 64, size=images, dtype=np.uint64)
    hashes.sort()
    numbers = np.arange(images // size)
    for unit in numbers.tolist():
        (folder / file_name(unit, 0)).touch()
    columns = {
        "hashes": hashes,
        "places": np.arange(images, dtype="<u4"),
        "shard_starts": np.arange(0, images + 1, size),
        "shards": np.stack([numbers, 0 * numbers], 1).astype("<i4"),
        "shard_bytes": 0 * numbers,
        "shard_sums": np.zeros(len(numbers), "<u4"),
        "failures": np.zeros(0, np.uint8),
    }
    metadata = describe(HEADER_FIELDS) | {"failed": "0", "regions": "0 0 0"}
    parts = {name: [column] for name, column in columns.items()}
    write_tensors(folder / INDEX, parts, metadata, sync=False)
    command = [sys.executable, "-c", INDEX_ONLY, str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    opened, looked, megabytes = map(float, output.split())
    print(
        f"100 million images by the index: opened in {opened:.1f} s, {looked:.1f} us to look up an "
        f"id, {megabytes:.0f} MB resident, mapped pages included"
    )


def measure_tsv(folder: Path, store: RegionStore, features: Features) -> None:
    """Print how fast a TSV file is written, read and imported."""
    path = folder / "regions.tsv"
    started = time.perf_counter()
    write_tsv(path, store)
    size = path.stat().st_size / 1e6
    print(f"TSV written: {size / (time.perf_counter() - started):.0f} MB/s")
    started = time.perf_counter()
    count = sum(1 for _ in read_tsv(path))
    seconds = time.perf_counter() - started
    print(f"TSV read and checked: {size / seconds:.0f} MB/s, {count / seconds:.0f} images/s")
    for dtype in ("float32", "float16"):
        started = time.perf_counter()
        import_tsv(path, folder / dtype, dtype=dtype)
        print(f"TSV imported in {dtype}: {size / (time.perf_counter() - started):.0f} MB/s")
    assert len(features) == count


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put temporary files")
    parser.add_argument("--large", action="store_true", help="only: 10 and 100 million images")
    arguments = parser.parse_args()
    if arguments.large:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            measure_large(Path(temporary))
            measure_index(Path(temporary) / "index")
        return
    generator = np.random.default_rng(3)
    shape = (IMAGES_HELD, REGIONS_HELD, DIM)
    features = generator.random(shape, dtype=np.float32).astype(np.float16)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        started = time.perf_counter()
        store = make_store(folder / "store", features)
        print(f"store written: {IMAGES_HELD / (time.perf_counter() - started):.0f} images/s")
        size = sum(path.stat().st_size for path in store.folder.iterdir())
        print(f"size: {size / len(store) / 1000:.1f} kB an image")
        started = time.perf_counter()
        assert store.verify() == []
        print(f"verified: {size / 1e6 / (time.perf_counter() - started):.0f} MB/s")
        names = store.image_ids
        ways: dict[str, Read] = {
            "store.features(rows)": store.features,
            "store.features(store.rows(ids))": lambda rows: store.features(
                store.rows([names[row] for row in rows])
            ),
            "stack of store[id].features": lambda rows: torch.stack(
                [torch.from_numpy(store[names[row]].features) for row in rows]
            ),
        }
        for name, make in BASELINES.items():
            (folder / name).mkdir()
            started = time.perf_counter()
            ways[name] = make(features, folder / name)
            print(f"{name}: written and opened in {time.perf_counter() - started:.1f} s")
        expected = torch.from_numpy(features[[5, 9]].astype(np.float32))
        assert all(torch.equal(read([5, 9]), expected) for read in ways.values())
        measure_batches(ways, "memmap float16, numpy astype", IMAGES_HELD)
        measure_opening(folder / "sparse", 98)
        measure_tsv(folder, store, features)


if __name__ == "__main__":
    main()
