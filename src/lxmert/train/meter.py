"""The losses of the steps since the last log line, kept on the device until they are read.

Reading waits for the device, so the loop reads only when it logs, evaluates or saves.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor

from lxmert.train.processes import sum_over_ranks

Row = list[float]
"""One step: its gradient norm, then the loss sums, then the counts, objective by objective."""


class Meter:
    """Collects loss sums and counts, and stops the run at the first NaN or infinite loss.

    Attributes:
        rows: the steps since the last log line that were already read.
        last: the losses of the last step that was read, as text; empty before the first.
    """

    def __init__(
        self,
        names: Sequence[str],
        accelerator: Accelerator,
        *,
        rows: Sequence[Row] = (),
    ) -> None:
        """Restore the rows of an interrupted run.

        Args:
            names: the objectives, in the order of sums and counts.
            accelerator: that of the run.
            rows: `rows` of the interrupted run.
        """
        self.names = names
        self.accelerator = accelerator
        self.rows = list(rows)
        self.last = ""
        self._unread: list[tuple[Tensor, Tensor, Sequence[float]]] = []

    def add(self, sums: Tensor, norm: Tensor, counts: Sequence[float]) -> None:
        """Add one step.

        Args:
            sums: `[objectives]`, loss sums of this process.
            norm: `[]`, gradient norm of the step over all processes.
            counts: valid targets over all processes, by objective.
        """
        self._unread.append((sums, norm, counts))

    def read(self, step: int) -> None:
        """Read the losses from the device; every process must call this at the same step.

        Args:
            step: number of completed steps.

        Raises:
            FloatingPointError: the loss or gradient of a step is NaN or infinite.
        """
        if not self._unread:
            return
        sums = sum_over_ranks(torch.stack([row[0] for row in self._unread]), self.accelerator)
        norms = torch.stack([row[1] for row in self._unread]).tolist()
        first = step - len(norms) + 1
        for i, (norm, values) in enumerate(zip(norms, sums.tolist(), strict=True)):
            row = [norm, *values, *self._unread[i][2]]
            self._check(row, first + i)
            self.rows.append(row)
        self.last = f"step {step} had losses {self._terms(row)}"
        self._unread.clear()

    def summary(self, weights: Mapping[str, float]) -> dict[str, object]:
        """Return the means over the rows that were read, and clear them.

        Args:
            weights: current weight of each objective, by name.

        Returns:
            `loss`: the weighted sum of the objectives; `losses`: each objective's mean over its
            targets, unweighted, without the objectives that have no target; `gradient_norm`: mean
            over the steps, absent if it is finite in none.
        """
        losses = _means(self.rows, self.names)
        norms = [row[0] for row in self.rows if math.isfinite(row[0])]
        self.rows.clear()
        total = math.fsum(weights[name] * loss for name, loss in losses.items())
        norm = {"gradient_norm": math.fsum(norms) / len(norms)} if norms else {}
        return {"loss": total, "losses": losses, **norm}

    def _check(self, row: Row, step: int) -> None:
        """Raise if a number is not finite; fp16 skips steps with an infinite gradient."""
        losses = _means([row], self.names)
        gradient = 0.0 if self.accelerator.scaler is not None else row[0]
        if all(map(math.isfinite, (gradient, *losses.values()))):
            return
        raise FloatingPointError(
            f"step {step} has losses {self._terms(row)} and a gradient of norm {row[0]:.6g}; "
            "expected finite numbers: lower optim.lr or set optim.clip_norm, and train into "
            "another folder"
        )

    def _terms(self, row: Row) -> str:
        """Return the losses of a step as text, each objective with its name."""
        losses = _means([row], self.names)
        return ", ".join(f"{name} {loss:.6g}" for name, loss in losses.items())


def _means(rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Return the mean loss over the targets of all rows, by objective."""
    means = {}
    for i, name in enumerate(names, start=1):
        counted = [row for row in rows if row[i + len(names)]]
        count = math.fsum(row[i + len(names)] for row in counted)
        if count:
            # Not fsum, which raises for infinities that the caller reports.
            means[name] = sum(row[i] for row in counted) / count
    return means
