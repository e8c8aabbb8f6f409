"""The original code's optimizer against its rule in plain numpy, and what it is not."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy import toy_recipe, toy_task, train_toy

from lxmert.train.bert_adam import BertAdam
from lxmert.train.optim import build_optimizer, learning_rate
from lxmert.train.settings import OptimSettings

SETTINGS = OptimSettings(
    name="bert-adam", lr=0.1, batch_size=8, steps=40, warmup_share=0.1, weight_decay=0.01
)


def written_rule(start, gradients, rates, *, beta1=0.9, beta2=0.999, eps=1e-6, decay=0.01):
    """Source: the facts of the original system, section 2.5."""
    weight, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for gradient, rate in zip(gradients, rates, strict=True):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        weight = weight - rate * (mean / (np.sqrt(square) + eps) + decay * weight)
    return weight


def model_of(generator):
    """A matrix, a bias and a scale, all of which decay."""
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(size=tuple(parameter.shape))))
    return model


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_written_rule(seed):
    generator = np.random.default_rng(seed)
    model = model_of(generator)
    starts = [parameter.detach().numpy().copy() for parameter in model.parameters()]
    gradients = [generator.normal(size=(40, *start.shape)) * 3 for start in starts]
    optimizer = build_optimizer(model, SETTINGS)
    rates = []
    for step in range(40):
        rates.append(learning_rate(step, SETTINGS, 40))
        for parameter, given in zip(model.parameters(), gradients, strict=True):
            parameter.grad = torch.from_numpy(given[step])
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
    for parameter, start, given in zip(model.parameters(), starts, gradients, strict=True):
        expected = written_rule(start, given, rates)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-10)


def test_the_learning_rate_is_the_written_one():
    """Progress is counted from 0: x / w before the warm-up's share w, then (1 - x) / (1 - w)."""
    share = 0.15
    optim = OptimSettings(name="bert-adam", lr=3.0, batch_size=8, steps=23, warmup_share=share)
    for step in range(23):
        progress = step / 23
        expected = progress / share if progress < share else (1 - progress) / (1 - share)
        assert learning_rate(step, optim, 23) == pytest.approx(3 * expected, rel=1e-12)


def test_the_first_update_changes_nothing_and_the_second_does(tmp_path):
    options = ["optim.name=bert-adam", "optim.warmup_steps=", "optim.warmup_share=0.25"]
    start = toy_task(toy_recipe(tmp_path)).model.state_dict()
    for steps, moved in ((1, False), (2, True)):
        # A run of one step has a warm-up of a quarter of it, in which the rate begins at 0.
        train_toy(tmp_path / str(steps), *options, f"optim.steps={steps}")
        after = load_file(tmp_path / str(steps) / "run" / "model.safetensors")
        assert torch.equal(after["body.weight"], start["body.weight"]) != moved


def test_biases_decay_too_and_idle_parameters_are_left_alone():
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, SETTINGS)
    assert isinstance(optimizer, BertAdam)
    assert len(optimizer.param_groups) == 1
    bias, weight = model.bias.detach().clone(), model.weight.detach().clone()
    model.bias.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(model.bias.detach(), bias * (1 - 0.1 * 0.01))
    assert torch.equal(model.weight, weight)


def test_its_first_updates_are_larger_than_those_of_adamw():
    """No correction of the bias: 0.1 g over the root of 0.001 g squared."""
    model = nn.Linear(1, 1, bias=False).double()
    before = model.weight.item()
    optimizer = BertAdam(model.parameters(), lr=1e-3, eps=1e-12, weight_decay=0.0)
    model.weight.grad = torch.full((1, 1), 7.25).double()
    optimizer.step()
    assert before - model.weight.item() == pytest.approx(1e-3 * 0.1 / 0.001**0.5, rel=1e-9)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    options = ["optim.name=bert-adam", "loop.checkpoint_every=7"]
    train_toy(tmp_path / "whole", *options)
    train_toy(tmp_path / "cut", *options)
    run = tmp_path / "cut" / "run"
    for path in ("finished.json", "model.safetensors"):
        (run / path).unlink()
    (run / "checkpoints" / "step-20" / "manifest.json").unlink()
    train_toy(tmp_path / "cut", *options)
    one, other = (load_file(tmp_path / n / "run/model.safetensors") for n in ("whole", "cut"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
