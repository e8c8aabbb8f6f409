"""The order of the examples, a pure function of (seed, batch size, step)."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lxmert.schema import IntArray
from lxmert.tasks.mixture import Mixture
from lxmert.tasks.task import Batch, Task
from lxmert.train.stopping import leave_group

Draw = tuple[int, int]
"""Index of an example, and its epoch, or the pass over its data set."""


@dataclass(frozen=True)
class RankShare:
    """The part of every global batch that one process computes.

    The examples of a run are one stream: the permutation of epoch 0, then that of epoch 1, and so
    on. Step `s` takes `batch_size` draws from `s * batch_size` on, so that the last batch of an
    epoch is completed from the next epoch: no example is dropped or drawn twice.

    Attributes:
        num_examples: training examples in one epoch.
        seed: seed of the permutations.
        batch_size: examples of one optimizer step.
        micro_batches: parts into which this process splits its share.
        rank: number of this process.
        num_ranks: number of processes; `batch_size` is a multiple of `micro_batches * num_ranks`.
        mixture: data sets that are drawn by weight; None: an epoch draws every example once.
    """

    num_examples: int
    seed: int
    batch_size: int
    micro_batches: int
    rank: int
    num_ranks: int
    mixture: Mixture | None = None


class StepBatches(Sampler[list[Draw]]):
    """Yields the draws of each micro-batch, from any step on."""

    def __init__(self, share: RankShare, *, first_step: int, last_step: int) -> None:
        """Args as in `RankShare`; steps `first_step` to `last_step - 1` are drawn."""
        self.share = share
        self.first_step = first_step
        self.last_step = last_step

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.share.micro_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        share = self.share
        size = share.batch_size // (share.micro_batches * share.num_ranks)
        epoch, order = -1, np.zeros((0, 2), dtype=np.int64)
        for step in range(self.first_step, self.last_step):
            start = step * share.batch_size + share.rank * share.micro_batches * size
            for part in range(share.micro_batches):
                draws = []
                for position in range(start + part * size, start + (part + 1) * size):
                    if position // share.num_examples != epoch:
                        epoch = position // share.num_examples
                        order = draw_epoch(share.num_examples, share.seed, epoch, share.mixture)
                    index, passed = order[position % share.num_examples].tolist()
                    draws.append((index, passed))
                yield draws


def permutation(num_examples: int, seed: int, epoch: int) -> IntArray:
    """Return the order of the examples in one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def draw_epoch(num_examples: int, seed: int, epoch: int, mixture: Mixture | None) -> IntArray:
    """Return the draws of an epoch, `[num_examples, 2]`: index and epoch of each example.

    Each data set of a mixture is an endless stream of permutations of its own, of which an epoch
    takes its quota; the epoch of an example is then the number of the permutation.
    """
    order = permutation(num_examples, seed, epoch)
    if mixture is None:
        return np.stack([order, np.full(num_examples, epoch)], axis=1)
    drawn = []
    for number, (group, quota) in enumerate(
        zip(mixture.groups, mixture.quotas(num_examples), strict=True)
    ):
        passes, places = np.divmod(np.arange(epoch * quota, (epoch + 1) * quota), len(group))
        indices = np.empty_like(passes)
        for passed in np.unique(passes).tolist():
            shuffled = np.random.default_rng([seed, passed, 1 + number]).permutation(group)
            indices[passes == passed] = shuffled[places[passes == passed]]
        drawn.append(np.stack([indices, passes], axis=1))
    return np.concatenate(drawn)[order]


def load_batches(
    task: Task, batches: StepBatches, *, workers: int, pin_memory: bool
) -> "DataLoader[Any]":
    """Return a loader of collated micro-batches, identical for any number of workers.

    Args:
        task: source of the examples and their collation.
        batches: the draws.
        workers: data-loading processes; 0: the calling process loads the examples.
        pin_memory: whether to pin batches for the copy to a GPU.
    """
    # Forked workers share the memory of the task; other platforms pickle it.
    fork = workers > 0 and sys.platform == "linux"
    return DataLoader(
        _Draws(task),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=task.collate,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if fork else None,
        # The default generator would advance the random state of dropout.
        generator=torch.Generator().manual_seed(batches.share.seed),
        worker_init_fn=leave_group,
    )


def split(stream: Iterator[Batch], parts: int) -> list[Batch]:
    """Return the next micro-batches, those of one optimizer step."""
    return [next(stream) for _ in range(parts)]


class _Draws(Dataset[Any]):
    """A task as a data set indexed by draws."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, draw: Draw) -> Any:
        return self.task.example(*draw)
