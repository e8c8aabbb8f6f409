"""The state of a run that the training loop shares, and what is decided and said from it."""

import math
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.optimizer import AcceleratedOptimizer  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]
from torch import nn

from lxmert.names import reason
from lxmert.tasks.task import Task
from lxmert.train.folder import CHECKPOINTS
from lxmert.train.log import RunLog
from lxmert.train.meter import Meter
from lxmert.train.optim import CONSTANT_SHARE
from lxmert.train.recipes import Recipe
from lxmert.train.sharding import Sharing
from lxmert.train.state import Progress, latest_checkpoint

_CLOCK_STEPS = 10
"""Steps between two looks at the clock, on which all processes must agree."""


@dataclass
class TrainingRun:
    """State of a run that the functions of this module share."""

    recipe: Recipe
    task: Task
    output: Path
    accelerator: Accelerator
    sharing: Sharing
    optimizer: AcceleratedOptimizer
    parameters: list[nn.Parameter]
    total_steps: int
    progress: Progress
    meter: Meter
    report: RunLog
    versions: dict[str, str | None]

    def weights(self, step: int) -> dict[str, float]:
        """Return the weight of each objective in a step; 0 before its start."""
        starts, done = self.recipe.optim.start_at, step / self.total_steps
        weights = self.task.loss_weights
        return {n: weight if done >= starts.get(n, 0) else 0.0 for n, weight in weights.items()}

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and evaluates."""
        return bool(self.accelerator.is_main_process)


def is_time_to_decay(run: TrainingRun, step: int) -> bool:
    """Return whether the constant phase of the plateau schedule ends; the same in all processes.

    It ends when validation no longer improves, or when its share of the time is over.
    """
    optim, loop, progress = run.recipe.optim, run.recipe.loop, run.progress
    if optim.schedule != "plateau" or progress.total_steps is not None:
        return False
    evaluated = loop.evaluate_every and step % loop.evaluate_every == 0
    if not evaluated and step % _CLOCK_STEPS:
        return False
    is_stale = progress.stale >= optim.patience or progress.best == 1.0
    is_late = loop.seconds is not None and progress.seconds > CONSTANT_SHARE * loop.seconds
    (is_over,) = broadcast_object_list([is_stale or is_late])
    return bool(is_over)


def shorten(run: TrainingRun) -> bool:
    """Let the learning rate fall from this step on; return whether that ends the run earlier."""
    total_steps = math.ceil(run.progress.step / CONSTANT_SHARE)
    if total_steps >= run.total_steps:
        return False
    run.total_steps = run.progress.total_steps = total_steps
    run.report.shorten(total_steps)
    return True


def failure(run: TrainingRun, problem: Exception) -> str:
    """Return the message of a failed run: its step, the reason and the last checkpoint."""
    # The message of a worker process is its traceback, whose last line is the reason.
    good = latest_checkpoint(run.output / CHECKPOINTS)
    return (
        f"stopped after step {run.progress.step} of {run.total_steps}: "
        f"{reason(problem, last=True)}; {run.meter.last or 'no losses yet'}; "
        f"the last good checkpoint is {good or 'none'}: "
        "fix the cause, and rerun the command to resume"
    )


def interruption(run: TrainingRun) -> str:
    """Return the message of an interrupted run: its step and the last checkpoint."""
    step, total = run.progress.step, run.total_steps
    checkpoint = latest_checkpoint(run.output / CHECKPOINTS)
    if checkpoint is None:
        return (
            f"stopped after step {step} of {total}; nothing is saved: the same command starts "
            "from the first step"
        )
    saved = "which is saved"
    if checkpoint.name != f"step-{step}":
        saved = f"the last saved step is {checkpoint.name.removeprefix('step-')}"
    return f"stopped after step {step} of {total}, {saved}: the same command resumes there"
