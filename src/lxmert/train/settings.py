"""The tables `[optim]` and `[loop]`, which the recipes of all tasks share."""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
)

from lxmert.names import unknown_name
from lxmert.records import Fraction, Record


class OptimSettings(Record):
    """The table `[optim]`: how gradients change the weights."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    lr: PositiveFloat
    """Peak learning rate."""

    batch_size: PositiveInt
    """Examples per optimizer step, over all processes and micro-batches."""

    name: Literal["adamw", "bert-adam"] = "adamw"
    """The optimizer. `bert-adam` is that of the original code: no bias correction, weight decay of
    all parameters, and a learning rate that starts at 0."""

    steps: PositiveInt | None = None
    """Optimizer steps of the run; give either `steps` or `epochs`."""

    epochs: PositiveFloat | None = None
    """Passes over the training examples, rounded up to full steps; give either `epochs` or
    `steps`."""

    min_steps: NonNegativeInt = 0
    """Minimum number of steps of a run that is given in `epochs`, for small data sets."""

    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay. AdamW decays matrices only, never biases and normalization scales;
    BertAdam decays all parameters."""

    betas: Annotated[tuple[Fraction, Fraction], Strict(False)] = (0.9, 0.999)
    """Decay rates of the two moving averages."""

    eps: PositiveFloat = 1e-6
    """Added to the denominator; the default is the value of the original code."""

    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises linearly to its peak."""

    warmup_share: Fraction = 0.0
    """The same as a share of all steps; give either `warmup_share` or `warmup_steps`."""

    schedule: Literal["linear", "cosine", "constant", "plateau"] = "linear"
    """Shape of the learning rate after the warm-up: linear or cosine decay to 0, or constant.
    `plateau`: constant until validation no longer improves, at most for 70% of the steps or of
    `loop.seconds`; then linear decay to 0 over the last 30% of a run that thereby gets shorter."""

    patience: PositiveInt = 10
    """Evaluations without a better result after which the decay of `plateau` begins."""

    clip_norm: PositiveFloat | None = None
    """Maximum norm of the gradient of all weights together; absent: no clipping."""

    start_at: dict[str, Fraction] = Field(default_factory=dict)
    """Objective -> share of the run after which it is trained; before that its weight is 0.
    `{qa = 0.5}` is the paper's pretraining: no question answering in the first half."""

    def problems(self) -> Iterator[str]:
        """Yield lengths of the run or of the warm-up that contradict each other."""
        if (self.steps is None) == (self.epochs is None):
            yield (
                f"steps is {self.steps} and epochs is {self.epochs}, expected exactly one of them: "
                "remove one from the recipe, or with --set optim.epochs="
            )
        if self.warmup_share and self.warmup_steps:
            yield (
                f"warmup_share is {self.warmup_share} and warmup_steps is {self.warmup_steps}, "
                "expected only one of them: remove the other"
            )
        if self.steps is not None:
            yield from warmup_problems(self, self.steps)


class LoopSettings(Record):
    """The table `[loop]`: how steps are computed, logged and saved."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Precision of matrix products; weights stay float32. `auto`: bf16 on devices that have
    instructions for it, and fp32 on others, which emulate them slowly."""

    micro_batches: PositiveInt = 1
    """Parts into which each process splits its share of a batch, to save memory."""

    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the model: each has all of it, or (FSDP2) keeps a part of the
    weights, gradients and optimizer state, which saves memory. Both make the same updates."""

    gradient_checkpointing: bool = False
    """Whether layers are recomputed in the backward pass: slower, with less memory."""

    workers: NonNegativeInt = 0
    """Data-loading processes per rank; 0: the training process loads the examples."""

    log_every: PositiveInt = 10
    """Steps between two lines of the log."""

    checkpoint_every: PositiveInt = 500
    """Steps between two checkpoints, from which the same command resumes."""

    seconds: PositiveFloat | None = None
    """Time of all steps after which a run with the `plateau` schedule ends, approximately; absent:
    any. The step at which the decay began is saved, so that a resumed run is the same."""

    evaluate_every: PositiveInt | None = None
    """Steps between two evaluations, whose best weights are kept; absent: only at the end."""

    evaluate_limit: PositiveInt | None = None
    """Maximum number of validation examples per evaluation; absent: all."""

    def problems(self) -> Iterator[str]:
        """Yield a precision that sharded training does not have."""
        if self.parallel == "fsdp" and self.precision == "fp16":
            yield 'precision is "fp16" with parallel "fsdp", expected "bf16" or "fp32" there'


def warmup_problems(optim: OptimSettings, num_steps: int) -> Iterator[str]:
    """Yield a warm-up that does not end before the last of `num_steps` steps."""
    if optim.warmup_steps >= num_steps:
        yield (
            f"warmup_steps is {optim.warmup_steps}, expected less than the steps of the run "
            f"({num_steps}): lower it, or train longer"
        )


def batch_problems(batch_size: int, parts: int) -> Iterator[str]:
    """Yield a batch that cannot be split into equal parts.

    Args:
        batch_size: examples of one optimizer step.
        parts: micro-batches of one step, over all processes.
    """
    if batch_size % parts:
        nearest = max(parts, round(batch_size / parts) * parts)
        yield (
            f"optim.batch_size is {batch_size}, expected a multiple of {parts} "
            f"(loop.micro_batches times the number of processes): try {nearest}"
        )


def objective_problems(optim: OptimSettings, objectives: Collection[str]) -> Iterator[str]:
    """Yield the names in `start_at` that are not objectives of the task."""
    for name in optim.start_at:
        if name not in objectives:
            yield f"optim.start_at: {unknown_name(name, objectives)}"
