"""Writes the shards of a job on a Ray cluster: one actor per device, which writes whole shards.

Ray only hands out shards and collects receipts. Images, regions and answers never pass through its
object store, and a killed process costs what it computed since it last saved, at most.
"""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from lxmert.cluster.shards import Job, Progress, Receipt, ShardWriter, worker_name
from lxmert.devices import choose_device
from lxmert.names import count, reason

CONNECT_SECONDS = 10.0
"""Time in which the address of a cluster must accept a connection."""

FREE_SECONDS = 15.0
"""Time in which the devices of earlier jobs must become free."""

PLACE_SECONDS = 40.0
"""Time in which each actor must get its device and start."""

MOST_RESTARTS = 20
"""Restarts of an actor whose process was killed."""

MOST_FAILED = 3
"""Failed shards after which a job hands out no more."""


Load = Callable[[str], ShardWriter]


class _Worker:
    """An actor; its model is loaded when it is needed, so that a restarted one loads it again."""

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._writer: ShardWriter | None = None

    def describe(self) -> tuple[str, dict[str, str]]:
        """Return where this actor runs, and its versions."""
        return worker_name(), _versions()

    def load(self, load: Load) -> str:
        """Load the model; return its identity."""
        return self._loaded(load).identity

    def write(self, load: Load, unit: int, part: Any) -> Receipt:
        """Write a shard."""
        return self._loaded(load).write(unit, part)

    def _loaded(self, load: Load) -> ShardWriter:
        if self._writer is None:
            self._writer = load(choose_device(self._device))
        return self._writer


def run_on_ray(
    job: Job,
    *,
    address: str | None = None,
    actors: int | None = None,
    device: str | None = None,
    progress: Progress,
) -> list[Receipt]:
    """Write the missing shards of a job on the devices of a Ray cluster.

    Args:
        job: the job; all machines must see its files at the same paths.
        address: address of the cluster; None: one is started on this machine.
        actors: number of actors; None: one per GPU of the cluster, or else one per CPU.
        device: device of each actor; None: a GPU if the cluster has some, else the CPU.
        progress: called with the number of finished shards, and of all.

    Returns:
        The receipts of the shards that were written.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        OSError: if the address cannot be reached, an actor does not start, or shards failed; the
            message names shard, worker and cause of each.
        ValueError: if the cluster has fewer free devices than actors, or workers have other
            versions or models.
    """
    done = job.total - len(job.parts)
    with _connect(address) as ray:
        started: list[Any] = []
        try:
            places = _start(ray, len(job.parts), actors, device, started)
            load = ray.put(job.load)
            _load(ray, load, places)
            return _run(
                ray, load, places, job.parts, lambda number: progress(done + number, job.total)
            )
        finally:
            for worker in started:
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


def _start(
    ray: Any, most: int, actors: int | None, device: str | None, started: list[Any]
) -> dict[Any, str]:
    """Start the actors, which are added to `started`; return where each of them runs.

    Raises:
        ValueError: if the cluster has fewer free devices than actors, or workers differ.
        OSError: if an actor does not start.
    """
    total = ray.cluster_resources()
    on_gpu = device != "cpu" and (device is not None or total.get("GPU", 0) >= 1)
    kind = "GPU" if on_gpu else "CPU"
    number = min(most, max(1, int(total.get(kind, 0)) if actors is None else actors))
    for name in sorted({kind, "CPU"}):
        _await_free(ray, name, number)
    actor = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=MOST_RESTARTS)(_Worker)
    options = actor.options(max_task_retries=MOST_RESTARTS)
    started.extend(options.remote(device) for _ in range(number))
    return _place(ray, started, kind)


def _place(ray: Any, started: list[Any], kind: str) -> dict[Any, str]:
    """Wait until every actor runs, with the versions of this process; return where.

    Raises:
        ValueError: if a worker has other versions.
        OSError: if an actor does not start in time.
    """
    asked = [worker.describe.remote() for worker in started]
    ready, waiting = ray.wait(asked, num_returns=len(asked), timeout=PLACE_SECONDS)
    if waiting:
        raise OSError(
            f"{count(len(waiting), 'actor')} of {len(asked)} did not get one CPU"
            f"{' and one GPU' if kind == 'GPU' else ''} on one machine within "
            f"{PLACE_SECONDS:.0f} s ({len(ready)} did): pass --actors {max(1, len(ready))}, or "
            "free or add machines"
        )
    places = {}
    for worker, answer in zip(started, asked, strict=True):
        try:
            place, versions = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise OSError(
                f"an actor does not start: {_cause(error)}; install lxmert on all machines"
            ) from error
        _check_versions(place, versions)
        places[worker] = place
    return places


def _check_versions(place: str, versions: Mapping[str, str]) -> None:
    """Raise `ValueError` if a worker has other versions than this process."""
    for name, own in _versions().items():
        if versions.get(name) != own:
            raise ValueError(
                f"worker {place} has {name} {versions.get(name)}, this machine has {own}: install "
                "the same version on all machines"
            )


def _versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    packages = {name: version(name) for name in ("lxmert", "torch", "numpy", "pillow")}
    return {"python": platform.python_version(), **packages}


def _load(ray: Any, load: Any, places: Mapping[Any, str]) -> None:
    """Load the model in every actor.

    Raises:
        OSError: naming the worker and the cause, if one cannot.
        ValueError: if workers have different models.
    """
    asked = {worker: worker.load.remote(load) for worker in places}
    identities = {}
    for worker, answer in asked.items():
        try:
            identities[places[worker]] = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise OSError(
                f"worker {places[worker]} cannot load the model: {_cause(error)}"
            ) from error
    if len(set(identities.values())) > 1:
        listed = ", ".join(f"{place}: {identity}" for place, identity in identities.items())
        raise ValueError(
            f"the workers have different models ({listed}): copy the same files to all"
        )


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
    load: Any,
    workers: dict[Any, str],
    parts: Mapping[int, Any],
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
            running[worker.write.remote(load, unit, parts[unit])] = unit, worker
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
        raise OSError(
            f"missing: {count(left, 'shard')} of {len(parts)}; {'; '.join(failed)}; fix the cause "
            "and rerun the same command, which resumes"
        )
    return sorted(receipts, key=lambda receipt: receipt.shard)


def _cause(error: Exception) -> str:
    """Return the sentence of the error that a worker raised."""
    return reason(getattr(error, "cause", None) or error)
