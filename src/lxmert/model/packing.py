"""Packed batches without padding, for dense layers.

Attention runs on padded batches: a packed batch is unpacked before and packed after it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lxmert.model.tracing import is_traced


class Packing(NamedTuple):
    """Which positions of a padded batch are real.

    Attributes:
        rows: `[tokens]`, ascending indices of the real positions among `batch * length`.
        firsts: `[batch]`, index in `rows` of the first token of each sequence.
        size: batch and length.
    """

    rows: Tensor
    firsts: Tensor
    size: tuple[int, int]

    def pack(self, padded: Tensor) -> Tensor:
        """Convert `[batch, length, width]` to `[tokens, width]`."""
        return padded.flatten(0, 1)[self.rows]

    def unpack(self, packed: Tensor) -> Tensor:
        """Convert `[tokens, width]` to `[batch, length, width]`, 0 at padding."""
        batch_size, length = self.size
        padded = packed.new_zeros(batch_size * length, packed.shape[-1])
        padded = padded.index_copy(0, self.rows, packed)
        return padded.view(batch_size, length, -1)


def find_packing(mask: Tensor | None) -> Packing | None:
    """Find the real positions of a batch, if removing the others is faster.

    Args:
        mask: `[batch, length]`, 1 for a real position; None and other shapes are not packed.

    Returns:
        None also in a trace (sizes must not depend on values), on other devices than the CPU
        (reading values synchronizes), without padding, or if a first position is hidden.
    """
    if mask is None or mask.dim() != 2 or mask.device.type != "cpu" or is_traced(mask):
        return None
    real = mask.bool()
    if bool(real.all()) or not bool(real[:, :1].all()):
        return None
    counts = real.sum(dim=1)
    return Packing(
        rows=torch.nonzero(real.flatten()).flatten(),
        firsts=counts.cumsum(0) - counts,
        size=(mask.shape[0], mask.shape[1]),
    )
