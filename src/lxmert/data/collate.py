"""Token ids and regions of several examples -> the padded inputs of the model; the only way in."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.schema import FloatArray, IntArray


def collate_inputs(
    sentences: Sequence[IntArray],
    features: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    *,
    pad_id: int,
) -> dict[str, Tensor]:
    """Join both sides of several examples to the keyword arguments of the model's forward.

    Arguments and results are those of `collate_text` and `collate_regions`.
    """
    return collate_text(sentences, pad_id=pad_id) | collate_regions(features, boxes)


def collate_text(sentences: Sequence[IntArray], *, pad_id: int) -> dict[str, Tensor]:
    """Pad token ids to the longest sentence.

    Returns:
        `input_ids` `[batch, length]`, `attention_mask` (1 = real) and `token_type_ids` (all 0).
    """
    input_ids = pad(sentences, value=pad_id)
    mask = lengths_mask([len(sentence) for sentence in sentences], input_ids.shape[1])
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "token_type_ids": torch.zeros(input_ids.shape, dtype=torch.long),
    }


def collate_regions(
    features: Sequence[FloatArray], boxes: Sequence[FloatArray]
) -> dict[str, Tensor]:
    """Pad regions to the largest number in the batch.

    Args:
        features: by example `[regions, dim]`.
        boxes: by example `[regions, 4]`, normalised to `[0, 1]`.

    Returns:
        `visual_feats` `[batch, regions, dim]`, `visual_pos` `[batch, regions, 4]` and
        `visual_attention_mask` (1 = real).
    """
    padded = pad(features)
    mask = lengths_mask([len(rows) for rows in features], padded.shape[1])
    return {
        "visual_feats": torch.from_numpy(padded),
        "visual_pos": torch.from_numpy(pad(boxes)),
        "visual_attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }


def pad(arrays: Sequence[npt.NDArray], *, value: float = 0) -> npt.NDArray:  # type: ignore[type-arg]
    """Stack arrays that differ in their first size, filled up with `value`."""
    longest = max(len(array) for array in arrays)
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def lengths_mask(lengths: Sequence[int], longest: int) -> npt.NDArray[np.bool_]:
    """Return `[batch, longest]`, True where there is real data."""
    return np.asarray(np.arange(longest) < np.asarray(lengths)[:, None])
