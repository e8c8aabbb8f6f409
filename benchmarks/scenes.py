"""How many pictures of the miniature world one core renders in a second.

Run it as `OMP_NUM_THREADS=1 python benchmarks/scenes.py`; pictures are made, not written.
"""

import statistics
import time

from lxmert.scenes.picture import make_picture

ROUNDS, PICTURES = 5, 60


def main() -> None:
    """Measure and print the median and the best of several rounds."""
    speeds = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        for index in range(PICTURES):
            make_picture("train", number * PICTURES + index, seed=1)
        speeds.append(PICTURES / (time.perf_counter() - started))
    print(f"median {statistics.median(speeds):.1f}, best {max(speeds):.1f} pictures/s")


if __name__ == "__main__":
    main()
