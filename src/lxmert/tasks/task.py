"""The contract between what is learned (a task) and how it is learned (the training loop)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from lxmert.records import Record

Batch = dict[str, Any]
"""What `collate` makes: tensors by name; lists and dicts of tensors are allowed."""


class Task(Protocol):
    """A data set, a model and the objectives that join them; knows no optimiser and no device.

    The loop draws indices, asks for `example(index, epoch)` in the order of a seeded permutation,
    possibly in worker processes, and collates them. The loss of one optimiser step is, for each
    objective, (sum over its valid targets) / (count over the whole step, all micro-batches and
    ranks), times the objective's weight, summed over the objectives.

    Attributes:
        settings_type: record whose fields are records of one table of the recipe each, such as
            `[data]` and `[model]`.
        model: what is trained.
        loss_weights: weight of each objective by name; the names are those of `counts`, `losses`.
        presets: parts of recipes by name, which a recipe may build on; a task need not have any.
        best_metric: key of `evaluate`'s result that decides which weights are best; higher wins.
    """

    settings_type: ClassVar[type[Record]]
    model: nn.Module
    loss_weights: Mapping[str, float]
    best_metric: str

    def __len__(self) -> int:
        """Return the number of training examples in one epoch."""
        ...

    def example(self, index: int, epoch: int) -> Any:
        """Return training example `index`; its randomness is seeded by (seed, epoch, example)."""
        ...

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Join examples to one batch."""
        ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """Return the number of valid targets in a batch by objective."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run `model` (the task's own, perhaps wrapped) and return the summed loss by objective."""
        ...

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        """Score the model on the validation split, on at most `limit` of its examples."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model folder that users load."""
        ...
