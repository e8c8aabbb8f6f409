"""The learning rate against its formula, and which parameters decay."""

import math

import pytest
import torch
from torch import nn

from lxmert.train.optim import build_optimizer, learning_rate, num_steps, parameter_groups
from lxmert.train.settings import OptimSettings


def settings(**changes):
    return OptimSettings(**({"lr": 3.0, "batch_size": 8, "steps": 9, "warmup_steps": 2} | changes))


def test_linear_schedule_step_by_step():
    rates = [learning_rate(step, settings(), 9) for step in range(9)]
    expected = [1, 2, 3, 18 / 7, 15 / 7, 12 / 7, 9 / 7, 6 / 7, 3 / 7]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_cosine_schedule_step_by_step():
    rates = [learning_rate(step, settings(schedule="cosine"), 9) for step in range(9)]
    tail = [1.5 * (1 + math.cos(math.pi * done / 7)) for done in range(7)]
    assert rates == pytest.approx([1, 2, *tail], rel=1e-12)


def test_constant_schedule_step_by_step():
    rates = [learning_rate(step, settings(schedule="constant"), 9) for step in range(9)]
    assert rates == pytest.approx([1, 2, 3, 3, 3, 3, 3, 3, 3], rel=1e-12)


def test_plateau_schedule_step_by_step():
    rates = [
        learning_rate(step, settings(schedule="plateau", warmup_steps=0), 10) for step in range(10)
    ]
    assert rates == pytest.approx([3.0] * 8 + [2.0, 1.0])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "plateau"])
def test_without_warmup_the_first_step_has_the_peak(schedule):
    assert learning_rate(0, settings(schedule=schedule, warmup_steps=0), 9) == 3.0


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 6), (2.5, 8), (0.1, 1)])
def test_epochs_are_rounded_up_to_full_steps(epochs, steps):
    optim = settings(steps=None, epochs=epochs, warmup_steps=0)
    assert num_steps(optim, num_examples=23) == steps


def test_only_matrices_decay_and_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 7))
    model[3].weight.requires_grad = False
    matrices, vectors = parameter_groups(model, 0.25)
    assert [tuple(p.shape) for p in matrices["params"]] == [(3, 4), (5, 4)]
    assert [tuple(p.shape) for p in vectors["params"]] == [(5,), (5,), (5,), (7,)]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.25, 0.0)


def test_a_model_without_trainable_parameters_is_rejected():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="Linear has no trainable parameter"):
        build_optimizer(model, settings())


def test_the_optimizer_takes_its_settings():
    optimizer = build_optimizer(nn.Linear(2, 2), settings(eps=0.5, betas=(0.25, 0.75)))
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert (group["eps"], group["betas"], group["fused"]) == (0.5, (0.25, 0.75), True)


def test_the_warm_up_may_be_a_share_of_the_run():
    by_share = settings(warmup_steps=0, warmup_share=2 / 9)
    for step in range(9):
        rate = learning_rate(step, by_share, 9)
        assert rate == pytest.approx(learning_rate(step, settings(), 9), rel=1e-12)
