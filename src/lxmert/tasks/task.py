"""The contract between what is learned (a task) and how it is learned (the training loop)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from lxmert.records import Record

Batch = dict[str, Any]
"""The result of `collate`: tensors by name; lists and dicts of tensors are allowed."""


class Task(Protocol):
    """A data set, a model and its objectives; independent of the optimizer and the device.

    The loop requests `example(index, epoch)` in the order of a seeded permutation, possibly in
    worker processes, and collates the examples. The loss of one optimizer step is, for each
    objective, (sum over its valid targets) / (count over the step, all micro-batches and ranks),
    times the objective's weight, summed over the objectives.

    Attributes:
        settings_type: record whose fields are records of one table of the recipe each, such as
            `[data]` and `[model]`.
        model: the model to train.
        loss_weights: weight of each objective by name, with the names of `counts` and `losses`.
        presets: partial recipes by name, on which a recipe may build; optional.
        mixture: data sets that are drawn by weight; optional, absent or None: an epoch draws every
            example once. The epoch of a drawn example is then the pass over its data set.
        best_metric: key of the result of `evaluate` by which the best weights are chosen; higher
            is better.
    """

    settings_type: ClassVar[type[Record]]
    model: nn.Module
    loss_weights: Mapping[str, float]
    best_metric: str

    def __init__(self, settings: Any, *, seed: int) -> None:
        """Build the task from an instance of `settings_type`."""
        ...

    def __len__(self) -> int:
        """Return the number of training examples in one epoch."""
        ...

    def example(self, index: int, epoch: int) -> Any:
        """Return training example `index`; its randomness is seeded by (seed, epoch, example)."""
        ...

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Combine examples into one batch."""
        ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """Return the number of valid targets in a batch by objective."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run `model` (the task's, possibly wrapped) and return the summed loss by objective."""
        ...

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Score the model on the validation split, on at most `limit` of its examples."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model folder for `from_pretrained`."""
        ...
