"""The optimisers, their parameter groups, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from lxmert.train.bert_adam import BertAdam
from lxmert.train.settings import OptimSettings


def num_steps(optim: OptimSettings, num_examples: int) -> int:
    """Return the optimiser steps of a run.

    Args:
        optim: the settings; `epochs` is rounded up to whole steps, so that every example is seen.
        num_examples: training examples in one epoch.
    """
    if optim.steps is not None:
        return optim.steps
    assert optim.epochs is not None
    return max(optim.min_steps, math.ceil(optim.epochs * num_examples / optim.batch_size))


def learning_rate(step: int, optim: OptimSettings, total_steps: int) -> float:
    """Return the learning rate of a step.

    It rises linearly over the warm-up, is `optim.lr` at its end, and would be 0 at step
    `total_steps`, behind the last one. With AdamW it rises without the wasted step at 0; with
    BertAdam it begins at 0, as in the original code.

    Args:
        step: 0 for the first step.
        optim: peak, warm-up and shape.
        total_steps: steps of the run.
    """
    warmup = optim.warmup_steps + optim.warmup_share * total_steps
    begun = 0 if optim.name == "bert-adam" else 1
    if step < warmup:
        return optim.lr * (step + begun) / (warmup + begun)
    done = (step - warmup) / (total_steps - warmup)
    if optim.schedule == "linear":
        return optim.lr * (1 - done)
    if optim.schedule == "cosine":
        return optim.lr * (1 + math.cos(math.pi * done)) / 2
    return optim.lr


def parameter_groups(
    model: nn.Module, weight_decay: float, *, decay_all: bool = False
) -> list[dict[str, object]]:
    """Return the trained parameters in two groups, with and without weight decay.

    Matrices and larger (`ndim >= 2`: linear layers, convolutions, embeddings) decay; biases and
    normalisation scales do not. Parameters that need no gradient are left out.

    Args:
        model: what is trained.
        weight_decay: of those that decay.
        decay_all: whether all of them do, as in the original code; then there is one group.
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
    """Return the optimiser that the settings name, over a model that already lies on its device."""
    is_bert_adam = optim.name == "bert-adam"
    groups = parameter_groups(model, optim.weight_decay, decay_all=is_bert_adam)
    if not groups:
        raise ValueError(
            f"{type(model).__name__} has no parameter that needs a gradient; expected at least "
            "one: unfreeze a part of the model"
        )
    if is_bert_adam:
        return BertAdam(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps)
    devices = {parameter.device.type for parameter in model.parameters()}
    # One kernel per group instead of a dozen; on CPU this is several times faster.
    fused = devices <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)
