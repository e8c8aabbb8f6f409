"""What goes wrong on a cluster is named with worker, shard and cause within a minute."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from lxmert.cluster import ray_engine
from lxmert.cluster.ray_engine import run_on_ray
from lxmert.cluster.shards import Job, Receipt, worker_name

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'lxmert[cluster]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow


@dataclass
class Writer:
    """A worker's part of a job that goes wrong as told."""

    identity: str
    fault: str

    def write(self, unit: int, part: str) -> Receipt:
        if self.fault == "memory":
            raise MemoryError
        if self.fault == "disk":
            raise OSError(28, "No space left on device", part)
        return Receipt(unit, worker_name(), 1)


def load(fault: str, device: str) -> Writer:
    if fault == "weights":
        raise FileNotFoundError("no model.safetensors on this machine")
    return Writer(str(os.getpid()) if fault == "identity" else device, fault)


def job(fault: str) -> Job:
    return Job(partial(load, fault), {unit: f"/store/part-{unit}" for unit in range(6)}, 6)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start two machines: one with two CPUs, one with a GPU only."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    machines = cluster_utils.Cluster()
    small = {"object_store_memory": 100 << 20}
    machines.add_node(num_cpus=2, num_gpus=0, **small)
    machines.add_node(num_cpus=0, num_gpus=1, **small)
    ray.init(address=machines.address, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no file of the workers
    yield
    ray.shutdown()
    machines.shutdown()


def run(fault: str, device: str = "cpu") -> list[Receipt]:
    return run_on_ray(job(fault), actors=2, device=device, progress=lambda done, total: None)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "disk",
            r"missing: 6 shards of 6; shard \d on \S+:\d+: .*No space left on device: '/store",
        ),
        ("memory", r"missing: 6 shards of 6; shard \d on \S+:\d+: MemoryError; shard"),
        ("weights", r"worker \S+:\d+ cannot load the model: no model.safetensors on this machine"),
        ("identity", r"the workers have different models \(\S+:\d+: \d+, \S+:\d+: \d+\): copy"),
    ],
)
def test_faults_of_workers_are_named(cluster: None, fault: str, message: str) -> None:
    with pytest.raises((OSError, ValueError), match=message):
        run(fault)


def test_other_versions_are_named(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_versions", lambda: {"torch": "1.2"})
    with pytest.raises(ValueError, match=r"worker \S+:\d+ has torch 2\S+, this machine has 1.2: "):
        run("none")


def test_an_actor_that_cannot_get_its_gpu_is_named(cluster: None) -> None:
    """CPU and GPU are free, but not on one machine: Ray itself would wait without end."""
    with pytest.raises(
        OSError, match="1 actor of 1 did not get one CPU and one GPU on one machine"
    ):
        run_on_ray(job("none"), actors=1, device="cuda", progress=lambda done, total: None)


def test_devices_are_free_again_afterwards(cluster: None) -> None:
    assert [receipt.shard for receipt in run("none")] == [*range(6)]
