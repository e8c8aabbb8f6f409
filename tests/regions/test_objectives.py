"""The losses of two small images, worked out by hand."""

import math

import pytest
import torch

from lxmert.regions.objectives import attribute_loss, box_loss, object_loss, objectness_loss

LOG3 = math.log(3.0)  # as a logit: probability 3/4


def test_objectness_is_a_mean_within_and_a_sum_over_images():
    logits = torch.tensor([[LOG3, -LOG3, 8.0], [LOG3, 8.0, 8.0]])
    labels = torch.tensor([[1, 0, -1], [0, -1, -1]])
    loss, count = objectness_loss(logits, labels)
    assert loss.item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 4))
    assert count == 2


def test_box_loss_divides_by_all_samples_and_not_by_the_objects():
    deltas = torch.zeros(2, 4, 4)
    targets = torch.tensor([0.5, 3.0, 0.0, 0.0]).expand(2, 4, 4)
    labels = torch.tensor([[1, 0, 0, 0], [1, 1, -1, -1]])
    loss, count = box_loss(deltas, targets, labels, positive=labels == 1, beta=1.0)
    each = 0.5 * 0.5**2 + (3.0 - 0.5)
    assert loss.item() == pytest.approx(each / 4 + 2 * each / 2)
    assert count == 2


def test_box_loss_turns_linear_at_beta():
    labels = torch.ones(1, 1, dtype=torch.long)
    targets = torch.tensor([[[0.1, 0.0, 0.0, 0.0]]])
    loss, _ = box_loss(torch.zeros(1, 1, 4), targets, labels, positive=labels == 1, beta=0.05)
    assert loss.item() == pytest.approx(0.1 - 0.025)


def test_object_loss_counts_background_and_leaves_out_empty_places():
    logits = torch.tensor([[[LOG3, 0.0], [LOG3, 0.0]], [[0.0, 0.0], [9.0, -9.0]]])
    labels = torch.tensor([[0, 1], [1, -1]])
    loss, count = object_loss(logits, labels)
    assert loss.item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2 + math.log(2))
    assert count == 2


def test_attribute_groups_are_independent_questions():
    logits = torch.zeros(1, 3, 5)
    logits[0, 0, 1] = LOG3  # first group (3 attributes): 1/5, 3/5, 1/5
    logits[0, 1, 3] = LOG3  # second group (2 attributes): 3/4, 1/4
    ids = torch.tensor([[[1, -1], [0, 4], [-1, -1]]])
    loss, count = attribute_loss(logits.split((3, 2), dim=-1), ids, group_sizes=(3, 2))
    first = (-math.log(3 / 5) + math.log(3)) / 2  # two objects with known color
    assert loss.item() == pytest.approx(first + math.log(4))
    assert count == 1


def test_a_last_class_none_takes_its_share_of_the_probability():
    logits = [torch.zeros(1, 1, 4), torch.zeros(1, 1, 3)]  # groups of 3 and 2, and "none" in each
    loss, _ = attribute_loss(logits, torch.tensor([[[2, 3]]]), group_sizes=(3, 2))
    assert loss.item() == pytest.approx(math.log(4) + math.log(3))


def test_images_without_anything_known_cost_nothing():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    groups = logits.split((3, 2), dim=-1)
    loss, _ = attribute_loss(groups, torch.full((2, 3, 2), -1), group_sizes=(3, 2))
    assert loss.item() == 0
    loss.backward()
    assert (logits.grad == 0).all()
    empty = torch.full((2, 3), -1)
    assert objectness_loss(torch.randn(2, 3), empty)[0].item() == 0
    assert object_loss(torch.randn(2, 3, 4), empty)[0].item() == 0
    boxes = box_loss(
        torch.randn(2, 3, 4), torch.zeros(2, 3, 4), empty, positive=empty == 1, beta=1.0
    )
    assert boxes[0].item() == 0
