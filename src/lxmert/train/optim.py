"""The optimizers, their parameter groups, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from lxmert.train.bert_adam import BertAdam
from lxmert.train.settings import OptimSettings

CONSTANT_SHARE = 0.7
"""Share of the steps before the decay of the schedule `plateau`."""


def num_steps(optim: OptimSettings, num_examples: int) -> int:
    """Return the number of optimizer steps of a run.

    Args:
        optim: the settings; `epochs` is rounded up to full steps, so that every example is used.
        num_examples: training examples in one epoch.
    """
    if optim.steps is not None:
        return optim.steps
    assert optim.epochs is not None
    return max(optim.min_steps, math.ceil(optim.epochs * num_examples / optim.batch_size))


def learning_rate(step: int, optim: OptimSettings, total_steps: int) -> float:
    """Return the learning rate of a step.

    It rises linearly over the warm-up to `optim.lr`, and decays to 0 at step `total_steps`, one
    after the last. It starts at 0 with BertAdam, as in the original code, and above 0 with AdamW.

    Args:
        step: 0 for the first step.
        optim: peak, warm-up and schedule.
        total_steps: steps of the run.
    """
    warmup = optim.warmup_steps + optim.warmup_share * total_steps
    first = 0 if optim.name == "bert-adam" else 1
    if step < warmup:
        return optim.lr * (step + first) / (warmup + first)
    done = (step - warmup) / (total_steps - warmup)
    if optim.schedule == "linear":
        return optim.lr * (1 - done)
    if optim.schedule == "cosine":
        return optim.lr * (1 + math.cos(math.pi * done)) / 2
    if optim.schedule == "plateau":
        return optim.lr * min(1.0, (1 - step / total_steps) / (1 - CONSTANT_SHARE))
    return optim.lr


def parameter_groups(
    model: nn.Module, weight_decay: float, *, decay_all: bool = False
) -> list[dict[str, object]]:
    """Return the trained parameters in two groups, with and without weight decay.

    Parameters with `ndim >= 2` (linear layers, convolutions, embeddings) decay; biases and
    normalization scales do not. Parameters without gradient are not returned.

    Args:
        model: the model to train.
        weight_decay: weight decay of the first group.
        decay_all: whether all parameters decay, as in the original code; then there is one group.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if decay_all and trained:
        return [{"params": trained, "weight_decay": weight_decay}]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, optim: OptimSettings) -> torch.optim.Optimizer:
    """Return the optimizer of the settings for a model that is already on its device."""
    is_bert_adam = optim.name == "bert-adam"
    groups = parameter_groups(model, optim.weight_decay, decay_all=is_bert_adam)
    if not groups:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter; expected at least one: unfreeze "
            "a part of the model"
        )
    if is_bert_adam:
        return BertAdam(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps)
    devices = {parameter.device.type for parameter in model.parameters()}
    # One kernel per group instead of a dozen: several times faster on CPU.
    fused = devices <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)
