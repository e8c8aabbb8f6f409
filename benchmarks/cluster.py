"""Compares extraction on Ray with the plain path on the same images.

Run it as `python benchmarks/cluster.py --images 300`. Rounds are interleaved; the time of a Ray run
is that of the shards of an actor on average, and the time around them is its start-up. An actor
computes with one thread. With `OMP_NUM_THREADS=1` and `--actors 1`, the plain path has one, too.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lxmert.cluster.extraction import Loading, extraction_job, join_shards
from lxmert.cluster.ray_engine import run_on_ray
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_folder,
    find_images,
    load_for_extraction,
)

SETTINGS = ExtractionSettings(shard_images=100)


def ignore(done: int, total: int) -> None:
    """Show no progress."""


def make_images(folder: Path, count: int) -> None:
    """Write images of noise, 160 x 120 pixels."""
    folder.mkdir()
    generator = np.random.default_rng(3)
    for number in range(count):
        pixels = generator.integers(256, size=(120, 160, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--actors", type=int, help="default: one for each CPU")
    arguments = parser.parse_args()
    count = arguments.images
    ratios, starts = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_images(folder / "images", count)
        extractor = load_for_extraction(None)
        for number in range(arguments.rounds):
            started = time.perf_counter()
            output = folder / f"plain{number}"
            extract_folder(folder / "images", output, extractor, SETTINGS, progress=ignore)
            plain = time.perf_counter() - started
            started = time.perf_counter()
            output = folder / f"ray{number}"
            job = extraction_job(folder / "images", output, Loading(), SETTINGS)
            receipts = run_on_ray(job, actors=arguments.actors, device="cpu", progress=ignore)
            join_shards(output, find_images(folder / "images"), SETTINGS.shard_images)
            workers = len({receipt.worker for receipt in receipts})
            shards = sum(receipt.seconds for receipt in receipts) / workers
            starts.append(time.perf_counter() - started - shards)
            ratios.append(plain / shards)
            print(f"plain {count / plain:.1f} images/s, on Ray {count / shards:.1f} images/s "
                  f"from {workers} actors, start-up {starts[-1]:.1f} s", flush=True)  # fmt: skip
    print(f"rate on Ray: {statistics.median(ratios):.2f} of the plain path")


if __name__ == "__main__":
    main()
