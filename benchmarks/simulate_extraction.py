"""Simulates an extraction on many devices by discrete events, and checks the simulation here.

Run `python benchmarks/simulate_extraction.py --check` to compare it with measured runs of one and
of two processes on this machine, and with `--figure docs/scale-simulated.png` for 100 million
images. Shards are read over a shared network, decoded and detected, and written to a shared disk;
some workers are slow, and all fail now and then, restart, and repeat what they had not saved.
"""

import argparse
import heapq
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cluster import make_images
from matplotlib.figure import Figure

INFINITE = float("inf")
CHECKED_SHARD = 50


@dataclass(frozen=True)
class Cluster:
    """Devices and their rates; times in seconds, sizes in bytes.

    Attributes:
        workers: number of processes, one per device.
        decode: time to decode an image, by all threads of a worker together.
        detect: time to detect the regions of an image.
        overlap: whether decoding and detection have processors of their own.
        write: bytes/s that a worker writes; infinite: only the shared disk limits.
        bandwidth: bytes/s from and to the shared disk.
        image_bytes: size of an image file.
        stored_bytes: size of an image in the store.
        start: time until a worker has loaded the extractor.
        spread: standard deviation of the time of a shard, relative to its mean.
        slow_share: share of the workers that are slow.
        slow_factor: factor by which these are slower.
        failure: mean time between two failures of a worker.
        lost: work that a failure loses at most.
        shared_queue: whether workers take the next shard when they are free, as with Ray; else
            each has every n-th shard, as with `--shard`.
    """

    workers: int
    decode: float
    detect: float
    overlap: bool
    write: float = INFINITE
    bandwidth: float = INFINITE
    image_bytes: float = 0.0
    stored_bytes: float = 0.0
    start: float = 0.0
    spread: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    failure: float = INFINITE
    lost: float = 0.0
    shared_queue: bool = True

    @property
    def image_seconds(self) -> float:
        """The time of an image on a worker of ordinary speed, without writing."""
        stages = self.decode, self.detect
        return max(stages) if self.overlap else sum(stages)


@dataclass(frozen=True)
class Outcome:
    """Result of a simulation.

    Attributes:
        seconds: time until the last shard is written.
        idle: share of the time of all workers in which they had no shard left.
        failures: number of failures.
    """

    seconds: float
    idle: float
    failures: int


class Simulation:
    """Workers that compute and write shards, in the order of time."""

    def __init__(self, cluster: Cluster, images: int, shard_images: int, seed: int) -> None:
        self.cluster = cluster
        self.generator = np.random.default_rng(seed)
        self.sizes = [min(shard_images, images - start) for start in range(0, images, shard_images)]
        slow = self.generator.random(cluster.workers) < cluster.slow_share
        self.factors = np.where(slow, cluster.slow_factor, 1.0)
        self.next_failures = [self.draw_failure() for _ in range(cluster.workers)]
        self.taken = [0] * cluster.workers
        self.network_free = self.disk_free = 0.0
        self.failures = 0

    def draw_failure(self) -> float:
        """Draw the time until a worker fails."""
        failure = self.cluster.failure
        return INFINITE if failure == INFINITE else float(self.generator.exponential(failure))

    def take(self, worker: int) -> int | None:
        """Return the size of the next shard of a worker; None if none is left."""
        cluster = self.cluster
        if cluster.shared_queue:
            number = self.taken[0]
            self.taken[0] += 1
        else:
            number = worker + cluster.workers * self.taken[worker]
            self.taken[worker] += 1
        return self.sizes[number] if number < len(self.sizes) else None

    def compute(self, worker: int, size: int, now: float) -> float:
        """Return when a worker has computed a shard, over all failures."""
        cluster = self.cluster
        spread = max(0.0, 1 + cluster.spread * float(self.generator.standard_normal()))
        self.network_free = max(self.network_free, now) + (
            size * cluster.image_bytes / cluster.bandwidth
        )
        seconds = size * cluster.image_seconds * float(self.factors[worker]) * spread
        end = max(now + seconds, self.network_free)
        begun = now
        while (failed := self.next_failures[worker]) < end:
            self.failures += 1
            end += cluster.start + min(cluster.lost, max(0.0, failed - begun))
            begun = failed + cluster.start
            self.next_failures[worker] = begun + self.draw_failure()
        return end

    def write(self, size: int, now: float) -> float:
        """Return when a computed shard is written."""
        cluster = self.cluster
        stored = size * cluster.stored_bytes
        self.disk_free = max(self.disk_free, now) + stored / cluster.bandwidth
        return max(now + stored / cluster.write, self.disk_free)

    def run(self) -> Outcome:
        """Simulate until all shards are written."""
        workers = self.cluster.workers
        # Time, number of the event for ties, worker, and the shard that it has computed.
        events: list[tuple[float, int, int, int | None]] = [
            (self.cluster.start, worker, worker, None) for worker in range(workers)
        ]
        number, ends = workers, []
        while events:
            now, _, worker, computed = heapq.heappop(events)
            number += 1
            if computed is not None:
                heapq.heappush(events, (self.write(computed, now), number, worker, None))
            elif (size := self.take(worker)) is not None:
                heapq.heappush(events, (self.compute(worker, size, now), number, worker, size))
            else:
                ends.append(now)
        return Outcome(max(ends), 1 - sum(ends) / (len(ends) * max(ends)), self.failures)


def simulate(cluster: Cluster, images: int, shard_images: int, seed: int = 7) -> Outcome:
    """Simulate an extraction."""
    return Simulation(cluster, images, shard_images, seed).run()


def run_processes(images: Path, output: Path, shares: int) -> float:
    """Extract with several processes; return the processor time of the one that used most."""
    lines = "from lxmert.cli.main import main; main()"
    command = [sys.executable, "-c", lines, "extract", str(images), "-o", str(output)]
    command += ["--shard-images", str(CHECKED_SHARD), "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for share in range(shares):
        subprocess.Popen(
            [*command, "--shard", f"{share}/{shares}"], env=environment, stdout=subprocess.DEVNULL
        )
    times = []
    for _ in range(shares):
        _, status, used = os.wait3(0)
        assert status == 0
        times.append(used.ru_utime + used.ru_stime)
    return max(times)


def check(count: int, rounds: int) -> None:
    """Print measured and simulated processor times of one and of two processes.

    The time of an image and of a start are those of two short runs with one process. Processor
    time does not depend on what else runs; decoding and detection then add up.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, number in (("few", 1), ("some", CHECKED_SHARD), ("all", count)):
            make_images(folder / name, number)
        for number in range(rounds):
            start = run_processes(folder / "few", folder / f"few{number}", 1)
            some = run_processes(folder / "some", folder / f"some{number}", 1)
            seconds = (some - start) / (CHECKED_SHARD - 1)
            one = Cluster(1, seconds, 0.0, overlap=False, start=start, shared_queue=False)
            for workers in (1, 2):
                measured = run_processes(folder / "all", folder / f"all{number}-{workers}", workers)
                cluster = replace(one, workers=workers)
                simulated = simulate(cluster, count, CHECKED_SHARD).seconds
                print(f"processes: {workers}, measured {measured:.1f} s, simulated "
                      f"{simulated:.1f} s ({simulated / measured:.2f})", flush=True)  # fmt: skip


IMAGES, SHARD = 100_000_000, 1024

GIVEN = Cluster(
    workers=64,
    decode=1 / 620 / 2,  # measured on one core, docs/scale.md; two cores per device
    detect=1 / 100,
    overlap=True,
    bandwidth=10e9,
    image_bytes=157e3,
    stored_bytes=148_673,
    start=60,
    spread=0.05,
    slow_share=0.05,
    slow_factor=2,
    failure=24 * 3600,
    lost=30,
)
"""The cluster of the documentation: all but the decoding rate and the sizes is assumed."""


def draw(path: Path) -> None:
    """Draw hours and efficiency by the number of devices, and print a table."""
    ideal = replace(GIVEN, bandwidth=INFINITE, start=0, spread=0, slow_share=0, failure=INFINITE)
    cases = {
        "nothing but detection": ideal,
        "shared queue (Ray)": GIVEN,
        "fixed shares (--shard)": replace(GIVEN, shared_queue=False),
    }
    numbers = [1, 4, 16, 64, 256, 1024]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    base = ideal.image_seconds * IMAGES / 3600
    for (name, cluster), style in zip(cases.items(), ("k:", "o-", "s--"), strict=True):
        outcomes = [simulate(replace(cluster, workers=n), IMAGES, SHARD) for n in numbers]
        hours = [outcome.seconds / 3600 for outcome in outcomes]
        left.plot(numbers, hours, style, label=name)
        shares = [100 * base / n / hour for n, hour in zip(numbers, hours, strict=True)]
        right.plot(numbers, shares, style, label=name)
        for n, hour, share, outcome in zip(numbers, hours, shares, outcomes, strict=True):
            print(f"{name}: {n:5} devices {hour:9.2f} h, {share:5.1f}% of the ideal rate, "
                  f"idle {outcome.idle:.1%}, {outcome.failures} failures")  # fmt: skip
    left.set(title="100 million images", ylabel="hours", yscale="log")
    right.set(title="Rate, relative to that of detection alone", ylabel="%", ylim=(0, 105))
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, [f"{n:,}" for n in numbers])
        axis.set_xlabel("devices with 100 images/s each (assumed)")
        axis.grid(alpha=0.3)
    left.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Check the simulation, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with runs on this machine")
    parser.add_argument("--images", type=int, default=400, help="images of the check")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="file for the figure of 100 million images")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.images, arguments.rounds)
    if arguments.figure is not None:
        draw(arguments.figure)


if __name__ == "__main__":
    main()
