"""Divides a batch among threads that each compute their own images."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_LEAST = 2
"""Items of a part; for fewer, one call is as fast."""


def map_parts(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result]:
    """Return the results of `work`, called with consecutive parts of a batch at the same time.

    PyTorch divides every operation among its threads, which wait for each other after each; threads
    with images of their own do not. All parts together use as many threads as PyTorch does.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(items) // _LEAST)
    if count < 2:
        return work(items)
    bounds = [index * len(items) // count for index in range(count + 1)]
    parts = [items[start:end] for start, end in pairwise(bounds)]
    found = _pool(count, threads // count).map(work, parts)
    return [result for part in found for result in part]


@lru_cache(maxsize=4)
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Return a pool whose workers compute with so many threads each."""
    ready = Barrier(workers + 1)

    def prepare() -> None:
        torch.get_num_threads()  # initializes this thread, which the first operation would do later
        torch.set_num_threads(threads)
        ready.wait()

    pool = ThreadPoolExecutor(workers, "lxmert-regions", prepare)
    for _ in range(workers):
        pool.submit(int)
    before = torch.get_num_threads()
    ready.wait()
    torch.set_num_threads(before)  # the number of threads that are started later
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)
