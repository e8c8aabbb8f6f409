"""Throughput of the renderer: images of the miniature world per second on one core.

Run it as `OMP_NUM_THREADS=1 python benchmarks/scenes.py`; images are rendered, not written.
"""

import statistics
import time

from lxmert.lab.scenes.image import make_image

ROUNDS, IMAGES = 5, 60


def main() -> None:
    """Measure and print the median and the best of several rounds."""
    speeds = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        for index in range(IMAGES):
            make_image("train", number * IMAGES + index, seed=1)
        speeds.append(IMAGES / (time.perf_counter() - started))
    print(f"median {statistics.median(speeds):.1f}, best {max(speeds):.1f} images/s")


if __name__ == "__main__":
    main()
