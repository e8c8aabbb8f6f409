"""A remote store gives the regions of a local one, through a cache that stays small."""

import functools
import http.server
import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from stores import first_shard, flip

from lxmert.data import store_writing
from lxmert.data.store import RegionStore
from lxmert.data.store_layout import StoreHeader
from lxmert.data.stores import open_regions
from lxmert.schema import Regions

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install 'lxmert[cluster]'")

HEADER = StoreHeader(
    fingerprint="extractor", feature_dim=64, dtype="float32", precision="fp32",
    object_names=("ball",), attribute_names=(),
)  # fmt: skip
IDS = [f"{number}.png" for number in range(20)]


def regions_of(image_id: str) -> Regions:
    generator = np.random.default_rng(int(image_id[:-4]))
    return Regions(
        boxes=generator.random((3, 4), np.float32),
        features=generator.random((3, 64), np.float32),
        image_size=(60, 80),
        object_ids=np.zeros(3, np.int64),
        object_scores=np.ones(3, np.float32),
        attribute_ids=np.zeros((3, 0), np.int64),
        attribute_scores=np.zeros((3, 0), np.float32),
    )


def write(folder: Path) -> RegionStore:
    def extract(image_ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        return ((image_id, regions_of(image_id)) for image_id in image_ids)

    return RegionStore.write(folder, IDS, extract, HEADER, shard_images=2)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    store = write(tmp_path_factory.mktemp("local") / "store")
    assert len(list(store.folder.glob("shard-*"))) == 10
    return store


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield its address."""
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(params=["memory", "file", "http"])
def url(request: pytest.FixtureRequest, local: RegionStore) -> Iterator[str]:
    """Return the address of a copy of the store on three file systems."""
    if request.param == "file":
        yield f"file://{local.folder}"
    elif request.param == "memory":
        files = fsspec.filesystem("memory")
        files.put(str(local.folder), "/regions", recursive=True)
        yield "memory://regions"
        files.rm("/regions", recursive=True)
    else:
        with served(local.folder) as address:
            yield address


def test_a_remote_store_gives_the_regions_of_a_local_one(url: str, tmp_path: Path) -> None:
    store = RegionStore(url, tmp_path)
    assert len(list(store.folder.iterdir())) == 1  # the index alone
    assert "21.png" not in store
    for name in (IDS[5], IDS[4], IDS[19]):
        assert np.array_equal(store[name].features, regions_of(name).features)
    assert len(list(store.folder.iterdir())) == 3  # two of ten shards
    assert store.image_ids == IDS
    assert store.verify() == []
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.features([7]), store.features([7]))


def test_the_cache_keeps_its_size(local: RegionStore, tmp_path: Path) -> None:
    size = first_shard(local.folder).stat().st_size
    most = 4 * size
    store = RegionStore(f"file://{local.folder}", tmp_path, most)
    generator = np.random.default_rng(1)
    for name in generator.choice(IDS, size=60):
        assert np.array_equal(store[name].features, regions_of(name).features)
        assert sum(path.stat().st_size for path in store.folder.iterdir()) <= most
    assert len(store._mapped) <= 4


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_a_changed_store_is_read_anew(tmp_path: Path, scheme: str) -> None:
    """A copy of an earlier index led to other images; over http, it was never replaced."""
    store = write(tmp_path / "store")
    with served(store.folder) if scheme == "http" else nullcontext(f"file://{store.folder}") as url:
        assert len(RegionStore(url, tmp_path / "cache")) == 20
        with store_writing.StoreWriter(store.folder, HEADER) as writer:
            writer.add(("20.png", regions_of("20.png")))
            writer.finish()
        assert "20.png" in RegionStore(url, tmp_path / "cache")
        assert len(RegionStore(url, tmp_path / "cache")) == 21
        assert len(list((tmp_path / "cache").glob("*/*-index.safetensors"))) == 2


def test_a_damaged_copy_is_named(local: RegionStore, tmp_path: Path) -> None:
    store = RegionStore(f"file://{local.folder}", tmp_path)
    store[IDS[0]]
    (copy,) = store.folder.glob("*-shard-000000-0.safetensors")
    flip(copy, "ids")
    with pytest.raises(ValueError, match=r"shard-000000-0.safetensors is damaged"):
        RegionStore(f"file://{local.folder}", tmp_path)[IDS[0]]


def test_what_cannot_be_reached_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"there is no memory://none/index.safetensors: "):
        open_regions("memory://none")
    with pytest.raises(ValueError, match="unknown"):
        RegionStore("unknown://none")
    with pytest.raises((OSError, ModuleNotFoundError), match=r"^http://127.0.0.1:9/"):
        RegionStore("http://127.0.0.1:9/none")
