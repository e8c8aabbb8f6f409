"""Losses against language priors: pure functions, `(sum, count)` as in `objectives`.

All of them compare the model with what the question alone suggests, and train the model itself
only; its logits are used unchanged for prediction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.model.objectives import Terms, answering, answering_losses
from lxmert.schema import IGNORE_INDEX


def learned_mixin(
    logits: Tensor, prior: Tensor, gate: Tensor, targets: Tensor, *, smoothing: Tensor | float
) -> tuple[Terms, Terms]:
    """Sum the loss of the model together with the prior (LMH), and the entropy of the prior.

    With class ids, the trained distribution is `softmax(logits + gate * log b)` for the smoothed
    prior b; with scores, each answer is a distribution over yes and no, `sigmoid(logits + gate *
    (log b - log (1 - prior + smoothing)))`. The entropy is that of the gated prior alone; it is
    summed over the examples, with scores as the mean over the answers.

    Args:
        logits: `[batch, answers]`.
        prior: `[batch, answers]` in `[0, 1]`, the scores that the question suggests.
        gate: `[batch]`, at least 0: how much the prior counts.
        targets: as for `objectives.answering`.
        smoothing: added to the prior, above 0.

    Source: Clark, Yatskar & Zettlemoyer 2019, Don't Take the Easy Way Out, "Learned-Mixin +H"; for
    scores, its code for VQA-CP.
    """
    soft = targets.shape == logits.shape
    strength = gate.float()[:, None]
    shift = (prior + smoothing).log() * strength
    if soft:
        shift = shift - (1 - prior + smoothing).log() * strength
        shares = shift.sigmoid()
        entropies = -(shares * functional.logsigmoid(shift)) - (1 - shares) * (
            functional.logsigmoid(-shift)
        )
        entropy = entropies.mean(dim=-1)
        labeled = (targets != IGNORE_INDEX).all(dim=-1)
    else:
        log_shares = shift.log_softmax(dim=-1)
        entropy = -(log_shares.exp() * log_shares).sum(dim=-1)
        labeled = targets >= 0
    terms = answering(logits.float() + shift, targets)
    return terms, (torch.where(labeled, entropy, 0).sum(), labeled.sum())


def language_prior_feedback(
    logits: Tensor, question_logits: Tensor, targets: Tensor, *, focus: float
) -> Terms:
    """Sum the losses, each weighted by `(1 - p) ** focus` (LPF).

    p is the probability that the question alone gives to the right answer; with scores, to the one
    with the highest score. Examples that the question decides count little.

    Args:
        logits: `[batch, answers]`.
        question_logits: `[batch, answers]` of a branch that sees the question only.
        targets: as for `objectives.answering`.
        focus: exponent, at least 0; 0 changes nothing.

    Source: Liang, Hu & Zhu 2021, LPF: A Language-Prior Feedback Objective Function; the paper has
    one right answer.
    """
    soft = targets.shape == logits.shape
    best = targets.argmax(dim=-1) if soft else targets.clamp(min=0)
    known = question_logits.float().softmax(dim=-1).gather(-1, best[:, None])[:, 0]
    losses, labeled = answering_losses(logits, targets)
    return (losses * (1 - known) ** focus).sum(), labeled.sum()


def rubi(logits: Tensor, question_logits: Tensor, targets: Tensor) -> Terms:
    """Sum the loss of the logits times the sigmoid of those of the question alone (RUBi).

    Args:
        logits: `[batch, answers]`.
        question_logits: `[batch, answers]` of a branch that sees the question only.
        targets: as for `objectives.answering`.

    Source: Cadene et al. 2019, RUBi: Reducing Unimodal Biases.
    """
    return answering(logits.float() * question_logits.float().sigmoid(), targets)


class QuestionBranch(nn.Module):
    """Scores answers from the question alone; its gradient stops at the encoded question.

    Source: Cadene et al. 2019, RUBi: a multi-layer perceptron, whose output masks the logits, and a
    linear classifier after it.
    """

    def __init__(self, hidden_size: int, num_answers: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_answers),
        )
        self.answers = nn.Linear(num_answers, num_answers)

    def forward(self, states: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the masking logits and the answer logits, each `[batch, answers]`.

        Args:
            states: `[batch, text_len, hidden]` of the language encoder.
            attention_mask: `[batch, text_len]`, 1 for real words.
        """
        weights = attention_mask[..., None].to(states.dtype)
        # [batch, text_len, hidden] -> [batch, hidden]
        question = (states.detach() * weights).sum(dim=1) / weights.sum(dim=1)
        mask = self.mask(question)
        return mask, self.answers(mask)
