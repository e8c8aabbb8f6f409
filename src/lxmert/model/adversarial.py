"""Adversarial perturbations in embedding space (VILLA): pure functions of tensors.

Source: Gan et al. 2020, Large-Scale Adversarial Training for Vision-and-Language Representation
Learning.
"""

import torch
from torch import Tensor


def ascend(
    perturbation: Tensor, gradient: Tensor, *, step_size: float, max_norm: float | None
) -> Tensor:
    """Take one step of projected gradient ascent, for each example on its own.

    The step has the direction of the gradient and the length `step_size`; the result is then
    projected onto the ball of radius `max_norm`. Norms are Frobenius norms of an example.

    Args:
        perturbation: `[batch, length, dim]`.
        gradient: `[batch, length, dim]` of the loss with respect to it.
        step_size: length of the step.
        max_norm: radius; None: no projection.

    Source: Gan et al. 2020, algorithm 1; Zhu et al. 2020 (FreeLB) for the norms.
    """
    moved = perturbation + step_size * gradient / _norms(gradient).clamp(min=1e-12)
    if max_norm is None:
        return moved
    return moved * (max_norm / _norms(moved).clamp(min=max_norm))


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(p, q) + KL(q, p) of two distributions, summed over the batch, `[]`.

    Args:
        first: logits `[batch, classes]` of p.
        second: logits `[batch, classes]` of q.

    Source: Gan et al. 2020, the regularizer between clean and perturbed predictions.
    """
    log_p, log_q = first.float().log_softmax(dim=-1), second.float().log_softmax(dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


def _norms(rows: Tensor) -> Tensor:
    """Return the norm of each example, `[batch, 1, 1]`."""
    norms: Tensor = torch.linalg.vector_norm(rows.float(), dim=(1, 2), keepdim=True)
    return norms.to(rows.dtype)
