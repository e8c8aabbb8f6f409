"""On a Ray cluster of this machine the same bytes result, and what cannot work is refused."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from PIL import Image

from lxmert.cluster.extraction import Loading, extraction_job, join_shards
from lxmert.cluster.ray_engine import run_on_ray
from lxmert.cluster.shards import Job, run_share
from lxmert.files import sha256
from lxmert.hub import find_model
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_folder,
    find_images,
    load_for_extraction,
)

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'lxmert[cluster]'")

pytestmark = pytest.mark.long

SETTINGS = ExtractionSettings(shard_images=6)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, as Ray's actors do: sums of several threads differ in last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start Ray with two CPUs for all tests."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20
    )
    yield
    ray.shutdown()


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(3)
    for number in range(count):
        pixels = generator.integers(256, size=(40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    (folder / "0005b.png").write_bytes(b"no image")
    return folder


def ignore(done: int, total: int) -> None:
    pass


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of each file."""
    return {path.name: sha256(path) for path in folder.iterdir() if path.name != ".lock"}


def job(images: Path, output: Path) -> Job:
    return extraction_job(images, output, Loading(), SETTINGS)


def test_two_actors_write_what_one_process_writes(cluster: None, tmp_path: Path) -> None:
    """One shard fails, and is named with worker and cause; a local job writes it afterwards."""
    images, output = write_images(tmp_path / "images", 20), tmp_path / "two"
    extract_folder(images, tmp_path / "one", load_for_extraction(None), SETTINGS, progress=ignore)
    output.mkdir()
    (output / "part-000001").write_text("in the way")
    steps: list[tuple[int, int]] = []
    with pytest.raises(OSError, match=r"missing: 1 shard of 4; shard 1 on .*:\d+: .*part-0"):
        run_on_ray(
            job(images, output), actors=2, device="cpu", progress=lambda *step: steps.append(step)
        )
    assert steps[0] == (0, 4)
    assert steps[-1] == (3, 4)
    (output / "part-000001").unlink()
    rest = job(images, output)
    assert list(rest.parts) == [1]
    run_share(rest.load("cpu"), rest, share=(0, 1), progress=ignore)
    join_shards(output, find_images(images), 6)
    assert contents(output) == contents(tmp_path / "one")


@pytest.mark.slow
def test_receipts_name_the_workers(cluster: None, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 20)
    receipts = run_on_ray(job(images, tmp_path / "two"), actors=2, device="cpu", progress=ignore)
    assert [receipt.shard for receipt in receipts] == [0, 1, 2, 3]
    assert [receipt.done for receipt in receipts] == [6, 5, 6, 3]
    assert len({receipt.worker for receipt in receipts}) == 2


def test_more_actors_than_processors_are_refused_at_once(cluster: None, tmp_path: Path) -> None:
    """A pool of actors that lacks one CPU waits for ever."""
    images = write_images(tmp_path / "images", 20)
    with pytest.raises(
        ValueError, match=r"--actors is 3, which need one CPU each, .* free of 2: pass"
    ):
        run_on_ray(job(images, tmp_path / "store"), actors=3, device="cpu", progress=ignore)
    with pytest.raises(ValueError, match="need one GPU each, but the cluster has 0 free of 0"):
        run_on_ray(job(images, tmp_path / "store"), device="cuda", progress=ignore)


@pytest.mark.slow
def test_predictions_on_ray_are_those_of_one_process(
    cluster: None, lxmert: Command, tmp_path: Path
) -> None:
    images = ROOT / "src/lxmert/examples"
    names = sorted(path.name for path in images.glob("*.png"))
    assert names
    data = tmp_path / "questions.jsonl"
    lines = [{"image": names[n % len(names)], "question": f"what is at {n}?"} for n in range(30)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("predict", find_model(None), "--data", data, "--images", images, "--device", "cpu")
    options += ("--shard-questions", "8")
    assert lxmert(*options, "-o", tmp_path / "one.jsonl").code == 0
    result = lxmert(*options, "-o", tmp_path / "two.jsonl", "--engine", "ray", "--actors", "2")
    assert result.code == 0, result.err
    assert "shard 3: 6 questions" in result.out
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "127.0.0.1:{port}", "6379"])
def test_an_address_that_cannot_be_reached_is_named(tmp_path: Path, address: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = address.format(port=unused.getsockname()[1])
    images = write_images(tmp_path / "images", 3)
    with pytest.raises((OSError, ValueError), match=rf"^--address (is ')?{re.escape(address)}"):
        run_on_ray(job(images, tmp_path / "store"), address=address, progress=ignore)


def descendants(parent: int) -> list[tuple[int, str]]:
    """Return the processes below a process, with their names."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, rest = path.read_text().rsplit(")", 1)
            parents[int(path.parent.name)] = int(rest.split()[1])
            names[int(path.parent.name)] = (path.parent / "cmdline").read_text()

    def is_below(process: int) -> bool:
        above = parents.get(process, 0)
        return above == parent or (above > 1 and is_below(above))

    return [(process, names[process]) for process in parents if is_below(process)]


def kill_one(run: "subprocess.Popen[bytes]", generator: np.random.Generator) -> int:
    """Kill the command or one of its workers; return the number of kills, 0 or 1."""
    workers = [process for process, name in descendants(run.pid) if "_Worker" in name]
    if not workers or run.poll() is not None:
        return 0
    victim = int(generator.choice([run.pid, *workers]))
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        return 1
    return 0


@pytest.mark.slow
def test_killed_drivers_and_workers_lose_nothing_and_write_nothing_twice(tmp_path: Path) -> None:
    """Twenty times kill -9, of the command or of one of its two workers."""
    images = write_images(tmp_path / "images", 2000)
    settings = ExtractionSettings(shard_images=50)
    extract_folder(images, tmp_path / "one", load_for_extraction(None), settings, progress=ignore)
    output = tmp_path / "two"
    command = [sys.executable, "-m", "lxmert", "extract", images, "-o", output, "--engine", "ray"]
    command += ["--actors", "2", "--shard-images", "50", "--device", "cpu"]
    generator = np.random.default_rng(4)
    kills = 0
    for _ in range(60):
        run = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
        while run.poll() is None and kills < 20:
            time.sleep(generator.uniform(0.2, 2))
            kills += kill_one(run, generator)
        if run.wait(timeout=300) in (0, 3):
            break
    assert kills == 20
    assert contents(output) == contents(tmp_path / "one")
