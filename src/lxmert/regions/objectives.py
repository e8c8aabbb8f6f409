"""The losses of Faster R-CNN and its attribute head, each as a sum over images and a count.

Legend: `batch` images, `samples` anchors or regions per image; samples labeled -1 are empty. The
loss of an image is a mean over its samples, so that sum / count is the loss of
Ren et al., "Faster R-CNN" (2015), equation 1, with both terms divided by the number of samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

EMPTY = -1
"""Label of an empty sample, and of an attribute that is not annotated."""


def objectness_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return the objectness loss.

    Args:
        logits: `[batch, samples]`.
        labels: `[batch, samples]`, 1 object, 0 background, -1 empty.

    Returns:
        The sum over images of the mean binary cross-entropy, and the number of images.
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), labels.clamp(min=0).float(), reduction="none"
    )
    return _sum_of_means(losses, labels != EMPTY), len(logits)


def box_loss(
    deltas: Tensor, targets: Tensor, labels: Tensor, *, positive: Tensor, beta: float
) -> tuple[Tensor, int]:
    """Return the box regression loss of samples with an object.

    Args:
        deltas: `[batch, samples, 4]`, predicted.
        targets: `[batch, samples, 4]`.
        labels: `[batch, samples]`, -1 where empty; all other samples count in the divisor.
        positive: boolean `[batch, samples]`, True if the sample has an object.
        beta: threshold at which smooth L1 changes from quadratic to linear.

    Returns:
        The sum over images of the smooth L1 loss divided by the number of samples, and the number
        of images.
    """
    losses = functional.smooth_l1_loss(deltas.float(), targets, reduction="none", beta=beta).sum(-1)
    num_samples = (labels != EMPTY).sum(1).clamp(min=1)
    return ((losses * positive).sum(1) / num_samples).sum(), len(deltas)


def object_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return the classification loss.

    Args:
        logits: `[batch, samples, classes + 1]`, background last.
        labels: `[batch, samples]`, -1 where empty.

    Returns:
        The sum over images of the mean cross-entropy, and the number of images.
    """
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=EMPTY, reduction="none"
    )
    return _sum_of_means(losses.view_as(labels), labels != EMPTY), len(logits)


def attribute_loss(
    logits: Sequence[Tensor], attribute_ids: Tensor, *, group_sizes: Sequence[int]
) -> tuple[Tensor, int]:
    """Return the attribute loss, summed over groups.

    Args:
        logits: `[batch, samples, attributes]` of each group, possibly with one more for "none".
        attribute_ids: `[batch, samples, groups]`, in the list of all attributes; -1 unknown.
        group_sizes: number of attributes of each group.

    Returns:
        The sum over images and groups of the mean cross-entropy, and the number of images.
    """
    total = attribute_ids.new_zeros((), dtype=torch.float32)
    start = 0
    for group, (values, size) in enumerate(zip(logits, group_sizes, strict=True)):
        ids = attribute_ids[..., group]
        known = ids != EMPTY
        losses = functional.cross_entropy(
            values.float().flatten(0, 1),
            torch.where(known, ids - start, EMPTY).flatten(),
            ignore_index=EMPTY,
            reduction="none",
        )
        total = total + _sum_of_means(losses.view_as(ids), known)
        start += size
    return total, len(attribute_ids)


def _sum_of_means(losses: Tensor, mask: Tensor) -> Tensor:
    """Average `[batch, samples]` over the masked samples of each image, then sum over images."""
    return ((losses * mask).sum(1) / mask.sum(1).clamp(min=1)).sum()
