"""Which example comes when: a pure function of (seed, batch size, position in the run)."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lxmert.schema import IntArray
from lxmert.tasks.task import Batch, Task
from lxmert.train.stopping import leave_group

Draw = tuple[int, int]
"""Index of an example, and the epoch in which it is drawn."""


@dataclass(frozen=True)
class Share:
    """The part of every global batch that one process works on.

    The run is one endless stream: the permutation of epoch 0, then that of epoch 1, and so on.
    Step `s` takes the `batch_size` draws from `s * batch_size` on, so the last incomplete batch of
    an epoch is filled up from the next epoch: no example is dropped and none is drawn twice.

    Attributes:
        num_examples: training examples in one epoch.
        seed: of the permutations.
        batch_size: examples of one optimiser step.
        micro_batches: parts into which this process cuts its share.
        rank: number of this process.
        num_ranks: processes; `batch_size` is a multiple of `micro_batches * num_ranks`.
    """

    num_examples: int
    seed: int
    batch_size: int
    micro_batches: int
    rank: int
    num_ranks: int


class StepBatches(Sampler[list[Draw]]):
    """Yields the draws of one micro-batch after the other, from any step on, loading nothing."""

    def __init__(self, share: Share, *, first_step: int, last_step: int) -> None:
        """Args as in `Share`; steps `first_step` to `last_step - 1` are drawn."""
        self.share = share
        self.first_step = first_step
        self.last_step = last_step

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.share.micro_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        share = self.share
        size = share.batch_size // (share.micro_batches * share.num_ranks)
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in range(self.first_step, self.last_step):
            start = step * share.batch_size + share.rank * share.micro_batches * size
            for part in range(share.micro_batches):
                draws = []
                for position in range(start + part * size, start + (part + 1) * size):
                    if position // share.num_examples != epoch:
                        epoch = position // share.num_examples
                        order = permutation(share.num_examples, share.seed, epoch)
                    draws.append((int(order[position % share.num_examples]), epoch))
                yield draws


def permutation(num_examples: int, seed: int, epoch: int) -> IntArray:
    """Return the order of the examples in one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def load_batches(
    task: Task, batches: StepBatches, *, workers: int, pin_memory: bool
) -> "DataLoader[Any]":
    """Return a loader of collated micro-batches, equal for any number of workers.

    Args:
        task: gives examples and collates them.
        batches: which examples.
        workers: processes that prepare batches; 0: the calling process does.
        pin_memory: whether to prepare the copy to a GPU.
    """
    # Forked workers share the task's memory; elsewhere the task must survive pickling.
    fork = workers > 0 and sys.platform == "linux"
    return DataLoader(
        _Draws(task),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=task.collate,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if fork else None,
        # Its own generator: the default one would advance the stream that dropout uses.
        generator=torch.Generator().manual_seed(batches.share.seed),
        worker_init_fn=leave_group,
    )


def split(stream: Iterator[Batch], parts: int) -> list[Batch]:
    """Return the next micro-batches of one optimiser step."""
    return [next(stream) for _ in range(parts)]


class _Draws(Dataset[Any]):
    """A task as a data set whose keys are draws."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, draw: Draw) -> Any:
        return self.task.example(*draw)
