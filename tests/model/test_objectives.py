"""Objectives against one loop over targets, on random problems."""

import math

import pytest
import torch
from torch.testing import assert_close

from lxmert.model import objectives

SEEDS = range(6)


def random_problem(seed, classes=5, shape=(3, 4)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, classes, generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, shape, generator=generator)
    dropped = torch.rand(shape, generator=generator)
    labels[dropped < 0.2] = -1
    labels[dropped > 0.7] = -100
    return logits, labels, torch.rand(shape, generator=generator) * (dropped < 0.9)


def surprise(scores, label):
    """Return the negative log probability of a class."""
    return math.log(sum(math.exp(score) for score in scores)) - scores[label]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("objective", [objectives.masked_language_modeling, objectives.matching])
def test_cross_entropies(objective, seed):
    logits, labels, _ = random_problem(seed)
    expected = [
        surprise(scores, label)
        for scores, label in zip(
            logits.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True
        )
        if label >= 0
    ]
    assert 0 < len(expected) < labels.numel()
    total, count = objective(logits, labels)
    assert count == len(expected)
    assert_close(total.item(), sum(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_region_classification(seed):
    logits, labels, weights = random_problem(seed)
    expected, number = 0.0, 0
    for row, region in torch.cartesian_prod(torch.arange(3), torch.arange(4)):
        label, weight = labels[row, region].item(), weights[row, region].item()
        if label >= 0:
            expected += weight * surprise(logits[row, region].tolist(), label)
            number += weight > 0
    total, count = objectives.region_classification(logits, labels, weights)
    assert count == number
    assert_close(total.item(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("distance", ["smooth_l1", "l2"])
def test_feature_regression(seed, distance):
    predictions, _, weights = random_problem(seed)
    targets = predictions.detach() + 2 * torch.randn(3, 4, 5)
    expected = 0.0
    for row, region in torch.cartesian_prod(torch.arange(3), torch.arange(4)):
        differences = (predictions - targets)[row, region].tolist()
        distances = [d * d for d in differences]
        if distance == "smooth_l1":
            distances = [0.5 * d * d if abs(d) < 1 else abs(d) - 0.5 for d in differences]
        expected += weights[row, region].item() * sum(distances) / 5
    total, count = objectives.feature_regression(predictions, targets, weights, distance=distance)
    assert count == sum(weight > 0 for weight in weights.flatten().tolist())
    assert_close(total.item(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_answering_with_ids(seed):
    logits, labels, _ = random_problem(seed, shape=(6,))
    labels[0] = 3
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    expected = [surprise(scores, label) for scores, label in rows if label >= 0]
    for shape in (labels, labels[:, None], labels.int()):
        total, count = objectives.answering(logits, shape)
        assert count == len(expected)
        assert_close(total.item(), sum(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_answering_with_scores(seed):
    logits, _, _ = random_problem(seed, shape=(4,))
    targets = torch.rand(4, 5)
    targets[1] = -100
    targets[2] = 0
    expected = 0.0
    for row in (0, 2, 3):
        for score, target in zip(logits[row].tolist(), targets[row].tolist(), strict=True):
            chance = 1 / (1 + math.exp(-score))
            expected -= target * math.log(chance) + (1 - target) * math.log(1 - chance)
    total, count = objectives.answering(logits, targets)
    assert count == 3
    assert_close(total.item(), expected, rtol=1e-5, atol=1e-5)


def test_soft_answering_is_the_published_mean_times_answers():
    logits, targets = torch.randn(4, 7), torch.rand(4, 7)
    published = torch.nn.BCEWithLogitsLoss()(logits, targets) * 7
    total, count = objectives.answering(logits, targets)
    assert_close(total / count, published)


def test_one_hot_integers_are_scores():
    logits, hot = torch.randn(2, 3), torch.tensor([[0, 1, 0], [1, 0, 0]])
    assert_close(objectives.answering(logits, hot), objectives.answering(logits, hot.float()))


def test_answers_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 7\).*ids of shape \(4,\)"):
        objectives.answering(torch.randn(4, 7), torch.rand(4, 6))


def test_labels_beyond_the_classes_are_refused():
    for wrong in (5, -8):
        with pytest.raises(ValueError, match=f"class id {wrong} for 5 classes: expected 0 to 4"):
            objectives.matching(torch.randn(1, 5), torch.tensor([wrong]))


def test_weights_are_not_spread_over_regions():
    """One weight for all regions would broadcast, and the mean over weights be wrong."""
    logits, labels, _ = random_problem(8)
    with pytest.raises(RuntimeError):
        objectives.region_classification(logits, labels, torch.tensor([3.25]))
    with pytest.raises(RuntimeError):
        objectives.feature_regression(logits, logits, torch.tensor([3.25]))


def problem_without_targets():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    nothing, weights = torch.full((2, 3), -100), torch.zeros(2, 3)
    pooled = torch.randn(2, 5, requires_grad=True)
    return [
        (logits, objectives.masked_language_modeling(logits, nothing)),
        (logits, objectives.region_classification(logits, nothing, weights + 1)),
        (logits, objectives.feature_regression(logits, torch.randn(2, 3, 5), weights)),
        (pooled, objectives.answering(pooled, nothing[:, 0])),
        (pooled, objectives.answering(pooled, torch.full((2, 5), -100.0))),
    ]


def test_without_targets_the_sum_is_zero_and_has_a_gradient():
    """A2: the mean over no target was NaN."""
    problems = problem_without_targets()
    assert len(problems) == 5
    for logits, (total, count) in problems:
        assert (total.item(), count.item()) == (0.0, 0)
        (gradient,) = torch.autograd.grad(total, logits)
        assert (gradient == 0).all()


def test_half_precision_is_summed_in_single():
    """A6: cross-entropies were computed in the type of the logits."""
    logits, labels, weights = random_problem(8)
    half = logits.detach().bfloat16()
    for total, exact in (
        (
            objectives.matching(half, labels),
            objectives.matching(half.float(), labels),
        ),
        (
            objectives.feature_regression(half, half * 3, weights),
            objectives.feature_regression(half.float(), (half * 3).float(), weights),
        ),
        (
            objectives.answering(half[0], weights[0][:, None].expand(4, 5)),
            objectives.answering(half[0].float(), weights[0][:, None].expand(4, 5)),
        ),
    ):
        assert total[0].dtype == torch.float32
        assert_close(total, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_of_parts_equal_the_full_sum(seed):
    """What gradient accumulation relies on."""
    logits, labels, weights = random_problem(seed)
    whole = objectives.region_classification(logits, labels, weights)
    parts = [
        objectives.region_classification(logits[row], labels[row], weights[row])
        for row in (slice(0, 1), slice(1, 3))
    ]
    assert_close(sum(part[0] for part in parts), whole[0])
    assert sum(part[1] for part in parts) == whole[1]


def test_class_ids_that_are_no_integers_are_refused():
    """Ids of a float column were cut down to integers without a word."""
    with pytest.raises(ValueError, match=r"dtype torch.float32.*expected integers"):
        objectives.answering(torch.zeros(2, 6), torch.tensor([1.0, 2.75]))
