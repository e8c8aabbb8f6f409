"""Joins prepared images of different sizes in one padded batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lxmert.regions.preprocess import Prepared


def pad_batch(images: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Batch images, padded with 0 at the bottom and on the right.

    Returns:
        `[batch, 3, height, width]` in channels-last layout, and `[batch, 2]` sizes without
        padding, (height, width).
    """
    sizes = torch.tensor([image.scaled_size for image in images])
    height, width = sizes.amax(dim=0).tolist()
    batch = torch.zeros(len(images), 3, height, width).contiguous(memory_format=torch.channels_last)
    for values, image in zip(batch, images, strict=True):
        values[:, : image.scaled_size[0], : image.scaled_size[1]] = torch.from_numpy(
            image.pixel_values
        )
    return batch, sizes
