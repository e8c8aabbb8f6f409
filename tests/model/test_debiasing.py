"""Losses against language priors, by their published formulas on numbers worked out by hand."""

import math

import pytest
import torch

from lxmert.model.debiasing import QuestionBranch, language_prior_feedback, learned_mixin, rubi

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])
PRIOR = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
GATE = torch.tensor([1.25, 0.5])
QUESTION = torch.tensor([[2.0, 0.0, -1.0], [0.3, -0.2, 1.0]])
IDS = torch.tensor([2, 0])
SCORES = torch.tensor([[0.3, 0.0, 0.9], [1.0, 0.6, 0.0]])


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_learned_mixin_with_one_right_answer() -> None:
    """softmax(log p + g log b): the product of experts, and the entropy of the gated prior."""
    (loss, number), (entropy, counted) = learned_mixin(LOGITS, PRIOR, GATE, IDS, smoothing=0.05)
    expected_loss = expected_entropy = 0.0
    for row, right in enumerate(IDS.tolist()):
        model = softmax(LOGITS[row].tolist())
        gate = GATE[row].item()
        powers = [(b + 0.05) ** gate for b in PRIOR[row].tolist()]
        product = [p * power for p, power in zip(model, powers, strict=True)]
        expected_loss -= math.log(product[right] / sum(product))
        shares = [power / sum(powers) for power in powers]
        expected_entropy -= sum(share * math.log(share) for share in shares)
    assert loss.item() == pytest.approx(expected_loss, abs=1e-5)
    assert entropy.item() == pytest.approx(expected_entropy, abs=1e-5)
    assert number.item() == counted.item() == 2


def test_learned_mixin_with_scores() -> None:
    """Each answer is a distribution over yes and no, as in the code for VQA-CP."""
    (loss, _), (entropy, _) = learned_mixin(LOGITS, PRIOR, GATE, SCORES, smoothing=0.27)
    expected_loss = expected_entropy = 0.0
    for row in range(2):
        entropies = []
        for answer in range(3):
            p, b, gate = sigmoid(LOGITS[row, answer].item()), PRIOR[row, answer].item(), GATE[row]
            yes, no = (b + 0.27) ** gate.item(), (1 - b + 0.27) ** gate.item()
            together = p * yes / (p * yes + (1 - p) * no)
            score = SCORES[row, answer].item()
            expected_loss -= score * math.log(together) + (1 - score) * math.log(1 - together)
            alone = yes / (yes + no)
            entropies.append(-alone * math.log(alone) - (1 - alone) * math.log(1 - alone))
        expected_entropy += sum(entropies) / 3
    assert loss.item() == pytest.approx(expected_loss, abs=1e-5)
    assert entropy.item() == pytest.approx(expected_entropy, abs=1e-5)


def test_language_prior_feedback() -> None:
    loss, number = language_prior_feedback(LOGITS, QUESTION, IDS, focus=2.0)
    expected = 0.0
    for row, right in enumerate(IDS.tolist()):
        known = softmax(QUESTION[row].tolist())[right]
        expected -= (1 - known) ** 2 * math.log(softmax(LOGITS[row].tolist())[right])
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert number.item() == 2
    plain, _ = language_prior_feedback(LOGITS, QUESTION, IDS, focus=0.0)
    torch.testing.assert_close(
        plain, torch.nn.functional.cross_entropy(LOGITS, IDS, reduction="sum")
    )
    soft, _ = language_prior_feedback(LOGITS, QUESTION, SCORES, focus=2.0)
    expected = 0.0
    for row, best in enumerate((2, 0)):
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            LOGITS[row], SCORES[row], reduction="sum"
        )
        expected += (1 - softmax(QUESTION[row].tolist())[best]) ** 2 * losses.item()
    assert soft.item() == pytest.approx(expected, abs=1e-5)


def test_rubi_masks_the_logits() -> None:
    loss, _ = rubi(LOGITS, QUESTION, IDS)
    expected = 0.0
    for row, right in enumerate(IDS.tolist()):
        pairs = zip(LOGITS[row].tolist(), QUESTION[row].tolist(), strict=True)
        expected -= math.log(softmax([logit * sigmoid(mask) for logit, mask in pairs])[right])
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_unlabeled_questions_do_not_count() -> None:
    ids, scores = torch.tensor([-100, 0]), SCORES.clone()
    scores[0] = -100
    for targets in (ids, scores):
        (loss, number), (entropy, counted) = learned_mixin(
            LOGITS, PRIOR, GATE, targets, smoothing=0.1
        )
        own = learned_mixin(LOGITS[1:], PRIOR[1:], GATE[1:], targets[1:], smoothing=0.1)
        torch.testing.assert_close((loss, entropy), (own[0][0], own[1][0]))
        assert number.item() == counted.item() == 1
        lpf, number = language_prior_feedback(LOGITS, QUESTION, targets, focus=2.0)
        own_lpf, _ = language_prior_feedback(LOGITS[1:], QUESTION[1:], targets[1:], focus=2.0)
        torch.testing.assert_close(lpf, own_lpf)
        assert number.item() == 1


def test_the_question_branch_does_not_train_the_question() -> None:
    states = torch.randn(2, 4, 6, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    branch = QuestionBranch(6, 3)
    masking, answers = branch(states, mask)
    assert masking.shape == answers.shape == (2, 3)
    (masking.sum() + answers.sum()).backward()
    assert states.grad is None
    assert all(parameter.grad is not None for parameter in branch.parameters())
    with torch.no_grad():
        padded = states.clone()
        padded[1, 2:] = 9.25
        torch.testing.assert_close(branch(padded, mask)[0], masking)
