"""The losses of LXMERT: pure functions of logits and targets.

Each returns `(sum, count)`: the loss summed over the labeled targets, in float32 even for half
precision logits, and their number. The caller divides and weights the losses, possibly after adding
both numbers over micro-batches and devices. Without labeled targets, the sum is 0 and still has a
gradient.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lxmert.model.tracing import is_traced
from lxmert.schema import IGNORE_INDEX

Terms = tuple[Tensor, Tensor]
"""Summed loss and number of targets, both scalars."""


def mean(terms: Terms) -> Tensor:
    """Divide a sum by its count; 0 with a gradient if the count is 0."""
    loss_sum, count = terms
    return loss_sum / count.clamp(min=1)


def classification(logits: Tensor, labels: Tensor) -> Terms:
    """Sum the cross-entropy of labeled targets.

    Args:
        logits: `[..., classes]`.
        labels: `[...]` class ids; -100, or -1 as in the original files, is not counted.
    """
    losses, labeled = _cross_entropies(logits, labels)
    return losses.sum(), labeled.sum()


def masked_language_modeling(logits: Tensor, labels: Tensor) -> Terms:
    """Sum the cross-entropy of masked words (paper, section 3.1.1).

    Args:
        logits: `[batch, text_len, vocab_size]`.
        labels: `[batch, text_len]` word pieces; -100 or -1 if not masked.
    """
    return classification(logits, labels)


def matching(logits: Tensor, labels: Tensor) -> Terms:
    """Sum the cross-entropy of image-text matching (paper, section 3.1.3).

    Args:
        logits: `[batch, 2]`; index 1 is a match.
        labels: `[batch]`, 1 for a match, else 0; -100 or -1 is not counted.
    """
    return classification(logits, labels)


def region_classification(logits: Tensor, labels: Tensor, weights: Tensor) -> Terms:
    """Sum the weighted cross-entropy of objects or attributes of regions (paper, section 3.1.2).

    The count is the number of targets with a positive weight; the published code divides by the
    number of all regions, `labels.numel()`.

    Args:
        logits: `[batch, regions, classes]`.
        labels: `[batch, regions]` class ids; -100 or -1 is not counted.
        weights: `[batch, regions]`; the detector's confidence in the published code, 0 for
            regions that are not predicted.
    """
    losses, labeled = _cross_entropies(logits, labels)
    weights = weights.reshape(losses.shape).to(losses.dtype)
    return (losses * weights).sum(), (labeled & (weights > 0)).sum()


def feature_regression(
    predictions: Tensor, targets: Tensor, weights: Tensor, *, distance: str = "smooth_l1"
) -> Terms:
    """Sum the distance of predicted and true region features (paper, section 3.1.2).

    The count is the number of regions with a positive weight; the published code divides by
    `weights.numel()`.

    Args:
        predictions: `[batch, regions, feature_dim]`.
        targets: `[batch, regions, feature_dim]`, the features before masking.
        weights: `[batch, regions]`; 1 if the feature was masked, else 0.
        distance: key of `DISTANCES`; averaged over the feature dimension.
    """
    predictions = _precise(predictions)
    targets = targets.reshape(predictions.shape).to(predictions.dtype)
    distances = DISTANCES[distance](predictions, targets, reduction="none")
    # [batch, regions, feature_dim] -> [batch * regions]
    losses = distances.mean(dim=-1).reshape(-1)
    weights = weights.reshape(losses.shape).to(losses.dtype)
    return (losses * weights).sum(), (weights > 0).sum()


DISTANCES: dict[str, Callable[..., Tensor]] = {
    "smooth_l1": functional.smooth_l1_loss,
    "l2": functional.mse_loss,
}
"""Feature distances by name: of the published code, and of the paper."""


def answering(logits: Tensor, targets: Tensor) -> Terms:
    """Sum the loss of answers (paper, section 3.1.3; soft scores as in fine-tuning).

    Class ids give the cross-entropy of pretraining. Scores give the binary cross-entropy summed
    over the answers: the mean times the number of answers, as published.

    Args:
        logits: `[batch, answers]`.
        targets: `[batch]` answer ids, -100 and -1 are not counted; or `[batch, answers]` scores
            in `[0, 1]`, rows of -100 are not counted.

    Raises:
        ValueError: if the targets have neither of the two shapes.
    """
    losses, labeled = answering_losses(logits, targets)
    return losses.sum(), labeled.sum()


def answering_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each question, and which are labeled, both `[batch]`; see `answering`."""
    if targets.shape == logits.shape:
        return _soft_answering(logits, targets)
    if targets.numel() != logits.shape[0]:
        raise ValueError(
            f"answers of shape {tuple(targets.shape)} for scores of shape {tuple(logits.shape)}: "
            f"expected ids of shape {(logits.shape[0],)} or scores of shape {tuple(logits.shape)}"
        )
    return _cross_entropies(logits, targets)


def _soft_answering(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy of each row, both arguments `[batch, answers]`."""
    logits = _precise(logits)
    targets = targets.to(logits.dtype)
    labeled = (targets != IGNORE_INDEX).all(dim=-1)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return torch.where(labeled, losses.sum(dim=-1), 0), labeled


def _cross_entropies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each target, 0 if not labeled, and which are labeled; both flat."""
    if labels.is_floating_point():
        raise ValueError(
            f"class ids of dtype {labels.dtype} for scores of shape {tuple(logits.shape)}: "
            "expected integers, such as labels.long()"
        )
    labels = labels.reshape(-1).long()
    labels = torch.where(labels == -1, IGNORE_INDEX, labels)
    _check_classes(labels, logits.shape[-1])
    losses = functional.cross_entropy(
        _precise(logits.reshape(-1, logits.shape[-1])),
        labels,
        reduction="none",
        ignore_index=IGNORE_INDEX,
    )
    return losses, labels != IGNORE_INDEX


def _check_classes(labels: Tensor, number: int) -> None:
    """Reject invalid class ids; on a CPU only, where reading values is cheap."""
    if labels.device.type != "cpu" or is_traced(labels):
        return
    wrong = labels[(labels != IGNORE_INDEX) & ((labels < 0) | (labels >= number))]
    if wrong.numel():
        raise ValueError(
            f"class id {int(wrong[0])} for {number} classes: expected 0 to {number - 1}, or "
            f"{IGNORE_INDEX} for no label"
        )


def _precise(logits: Tensor) -> Tensor:
    """Cast half precision to float32, so that sums over many answers are accurate."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
