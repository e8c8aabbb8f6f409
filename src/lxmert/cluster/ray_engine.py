"""Extracts regions on a Ray cluster: one actor per device, which writes whole shards.

Ray only hands out the numbers of shards and collects receipts. Images and regions never pass
through its object store, and a killed process costs the images since it last saved, at most.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.cluster.extraction import Loading, Receipt, extract_shard, missing_shards
from lxmert.data.store import is_finished
from lxmert.devices import choose_device
from lxmert.names import count
from lxmert.workflows.extraction import ExtractionSettings, find_images

CONNECT_SECONDS = 10.0
"""Time in which the address of a cluster must accept a connection."""

FREE_SECONDS = 15.0
"""Time in which the devices of earlier jobs must become free."""

MOST_RESTARTS = 20
"""Restarts of an actor whose process was killed."""

MOST_FAILED = 3
"""Failed shards after which a job hands out no more."""


@dataclass(frozen=True)
class _Job:
    """What is the same for all shards of a job."""

    images: Path
    output: Path
    loading: Loading
    settings: ExtractionSettings
    device: str | None


class _Worker:
    """An actor with a region extractor."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._extractor = job.loading.load(choose_device(job.device))

    def describe(self) -> tuple[str, str]:
        """Return where this actor runs, and the fingerprint of its extractor."""
        return f"{socket.gethostname()}:{os.getpid()}", self._extractor.fingerprint

    def extract(self, unit: int, image_ids: Sequence[str]) -> Receipt:
        """Write a shard."""
        job = self._job
        return extract_shard(job.images, job.output, unit, image_ids, self._extractor, job.settings)


def extract_on_ray(
    images: Path,
    output: Path,
    loading: Loading,
    settings: ExtractionSettings,
    *,
    address: str | None = None,
    actors: int | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None],
) -> list[Receipt]:
    """Write the missing shards of a store on the devices of a Ray cluster.

    Args:
        images: image folder; all machines must see it at the same path.
        output: region store, also on a disk that all machines see.
        loading: how each actor loads the region extractor.
        settings: settings of the extraction.
        address: address of the cluster; None: one is started on this machine.
        actors: number of actors; None: one per GPU of the cluster, or else one per CPU.
        device: device of each actor; None: a GPU if the cluster has some, else the CPU.
        progress: called with the number of finished shards, and of all.

    Returns:
        The receipts of the shards that were written.

    Raises:
        FileExistsError: if the store is finished.
        ModuleNotFoundError: if Ray is not installed.
        OSError: if the address cannot be reached.
        ValueError: if the cluster has fewer free devices than actors.
        RuntimeError: if shards failed; the message names shard, worker and cause of each.
    """
    if is_finished(output):
        raise FileExistsError(f"{output} is a finished region store: name another folder")
    image_ids = find_images(images)
    size = settings.shard_images
    missing = missing_shards(output, len(image_ids), size)
    total = -(-len(image_ids) // size)
    job = _Job(images.resolve(), output.resolve(), loading, settings, device)
    parts = {unit: image_ids[unit * size : (unit + 1) * size] for unit in missing}
    with _connect(address) as ray:
        workers = _start(ray, job, actors, len(missing))
        try:
            return _run(
                ray, workers, parts, lambda done: progress(total - len(missing) + done, total)
            )
        finally:
            for worker in workers:
                ray.kill(worker)


@contextmanager
def _connect(address: str | None) -> Iterator[Any]:
    """Connect to a cluster or start one, which ends with the block; yield the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--engine ray needs Ray, which is not installed: pip install 'lxmert[cluster]'"
        ) from error
    if address is not None:
        _check_reachable(address)
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        ray.init(include_dashboard=False, object_store_memory=100 << 20, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise OSError(
                f"--address {address} is no Ray cluster of this version: {error}"
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `OSError` if nothing accepts connections at an address such as `host:6379`."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"--address is {address!r}: expected HOST:PORT, such as head:6379, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise OSError(
            f"--address {address} cannot be reached ({error}): check that `ray start --head` runs "
            "there, or leave --address out to use this machine"
        ) from error


def _start(ray: Any, job: _Job, actors: int | None, most: int) -> dict[Any, str]:
    """Start the actors; return where each of them runs.

    Raises:
        ValueError: if the cluster has fewer free devices than actors.
    """
    total = ray.cluster_resources()
    on_gpu = job.device != "cpu" and (job.device is not None or total.get("GPU", 0) >= 1)
    kind = "GPU" if on_gpu else "CPU"
    number = min(most, max(1, int(total.get(kind, 0)) if actors is None else actors))
    for name in {kind, "CPU"}:
        _await_free(ray, name, number)
    actor = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=MOST_RESTARTS)(_Worker)
    started = [actor.options(max_task_retries=MOST_RESTARTS).remote(job) for _ in range(number)]
    described = ray.get([worker.describe.remote() for worker in started])
    fingerprints = {fingerprint for _, fingerprint in described}
    if len(fingerprints) > 1:
        raise ValueError(
            f"the workers have different extractors ({', '.join(sorted(fingerprints))}): give all "
            "machines the same files"
        )
    return dict(zip(started, (place for place, _ in described), strict=True))


def _await_free(ray: Any, kind: str, number: int) -> None:
    """Wait a little until a cluster has so many free devices, which earlier jobs may still hold.

    Raises:
        ValueError: if it does not have them.
    """
    total = ray.cluster_resources().get(kind, 0)
    end = time.monotonic() + (FREE_SECONDS if total >= number else 0)
    while (free := ray.available_resources().get(kind, 0)) < number:
        if time.monotonic() >= end:
            raise ValueError(
                f"--actors is {number}, which need one {kind} each, but the cluster has {free:g} "
                f"free of {total:g}: pass a smaller number, add machines, or wait for other jobs"
            )
        time.sleep(0.1)


def _run(
    ray: Any,
    workers: dict[Any, str],
    parts: dict[int, list[str]],
    progress: Callable[[int], None],
) -> list[Receipt]:
    """Hand out shards to free actors until all are done, or too many have failed."""
    waiting, idle = list(parts), list(workers)
    running: dict[Any, tuple[int, Any]] = {}
    receipts: list[Receipt] = []
    failed: list[str] = []
    progress(0)
    while running or (waiting and len(failed) < MOST_FAILED):
        while waiting and idle and len(failed) < MOST_FAILED:
            unit, worker = waiting.pop(0), idle.pop()
            running[worker.extract.remote(unit, parts[unit])] = unit, worker
        (done,), _ = ray.wait(list(running), num_returns=1)
        unit, worker = running.pop(done)
        try:
            receipts.append(ray.get(done))
        except ray.exceptions.RayError as error:
            failed.append(f"shard {unit} on {workers[worker]}: {_cause(error)}")
        idle.append(worker)
        progress(len(receipts))
    if failed:
        left = len(parts) - len(receipts)
        raise RuntimeError(
            f"missing: {count(left, 'shard')} of {len(parts)}; {'; '.join(failed)}; fix the cause "
            "and rerun the same command, which resumes"
        )
    return sorted(receipts, key=lambda receipt: receipt.shard)


def _cause(error: Exception) -> str:
    """Return the sentence of the error that a worker raised."""
    cause = getattr(error, "cause", None) or error
    return str(cause).strip().splitlines()[0]
