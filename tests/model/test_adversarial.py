"""The gradient step and the divergence of VILLA, and distillation, on small numbers."""

import math

import pytest
import torch
from torch.nn import functional

from lxmert.model.adversarial import ascend, symmetric_divergence
from lxmert.model.distillation import distillation


def test_a_step_has_the_length_and_direction_of_each_gradient() -> None:
    delta = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]])
    gradient = torch.tensor([[[3.0, 4.0]], [[0.0, -0.5]]])
    moved = ascend(delta, gradient, step_size=0.1, max_norm=None)
    torch.testing.assert_close(moved, torch.tensor([[[0.06, 0.08]], [[1.0, -0.1]]]))


def test_a_perturbation_is_projected_onto_the_ball() -> None:
    delta = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 3.0]]])
    gradient = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 0.0]]])
    moved = ascend(delta, gradient, step_size=1.0, max_norm=2.0)
    torch.testing.assert_close(moved[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # inside
    outside = torch.tensor([[3.0, 1.0], [0.0, 3.0]])
    torch.testing.assert_close(moved[1], outside * 2 / math.sqrt(19))
    assert moved[1].norm().item() == pytest.approx(2.0)


def test_no_gradient_moves_nothing() -> None:
    zero = torch.zeros(1, 2, 3)
    assert not ascend(zero, zero, step_size=0.5, max_norm=1.0).any()


def test_the_divergence_is_the_sum_of_both_directions() -> None:
    first, second = torch.tensor([[0.5, 1.0, -2.0]]), torch.tensor([[1.5, -1.0, 0.25]])
    expected = sum(
        functional.kl_div(b.log_softmax(-1), a.softmax(-1), reduction="sum")
        for a, b in ((first, second), (second, first))
    )
    torch.testing.assert_close(symmetric_divergence(first, second), expected)
    assert symmetric_divergence(first, first).item() == 0


def test_distillation_is_the_divergence_at_a_temperature() -> None:
    student, teacher = torch.tensor([[0.5, 1.0], [2.0, 0.0]]), torch.tensor([[1.5, -1.0], [0.0, 1]])
    expected = 9 * functional.kl_div(
        (student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="sum"
    )
    torch.testing.assert_close(distillation(student, teacher, temperature=3.0), expected)
