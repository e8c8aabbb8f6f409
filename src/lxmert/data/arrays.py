"""Pads texts and regions to the arrays that a model reads; the only path into a model.

It needs no PyTorch; `collate` returns the same as tensors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lxmert.boxes import are_valid, normalize
from lxmert.schema import FloatArray, IntArray, Regions

_ROUNDING = 1e-3
"""How far a box may exceed its image, as a share of the image's sides."""

Arrays = dict[str, npt.NDArray[Any]]
"""Inputs of a model by name."""


def text_arrays(sentences: Sequence[IntArray], *, pad_id: int, min_length: int = 0) -> Arrays:
    """Pad token ids to the longest text, or to `min_length` tokens if that is more.

    Returns:
        `input_ids` `[batch, length]`, `attention_mask` (1 = real) and `token_type_ids` (all 0).
    """
    input_ids = pad(sentences, value=pad_id, min_length=min_length)
    mask = lengths_mask([len(sentence) for sentence in sentences], input_ids.shape[1])
    return {
        "input_ids": input_ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros(input_ids.shape, np.int64),
    }


def region_arrays(features: Sequence[FloatArray], boxes: Sequence[FloatArray]) -> Arrays:
    """Pad regions to the largest number in the batch.

    Args:
        features: `[regions, dim]` for each example.
        boxes: `[regions, 4]` for each example, normalized to `[0, 1]`. Boxes of another width are
            other position encodings; they only need to be finite.

    Returns:
        `visual_feats` `[batch, regions, dim]`, `visual_pos` `[batch, regions, 4]` and
        `visual_attention_mask` (1 = real).

    Raises:
        ValueError: naming example, region and value, if a feature is not finite, or a box has its
            corners in the wrong order or lies outside of `[0, 1]`.
    """
    for index, (rows, places) in enumerate(zip(features, boxes, strict=True)):
        _check_regions(rows, places, name=f"example {index} of the batch")
    padded = pad(features)
    mask = lengths_mask([len(rows) for rows in features], padded.shape[1])
    return {
        "visual_feats": padded,
        "visual_pos": pad(boxes),
        "visual_attention_mask": mask.astype(np.int64),
    }


def image_arrays(regions: Sequence[Regions]) -> Arrays:
    """Like `region_arrays`, for the regions of images with boxes in pixels."""
    boxes = [normalize_boxes(found, name=f"image {index}") for index, found in enumerate(regions)]
    return region_arrays([found.features for found in regions], boxes)


def normalize_boxes(regions: Regions, *, name: str) -> FloatArray:
    """Return the boxes of an image normalized for the model, `[regions, 4]` in `[0, 1]`.

    Args:
        regions: regions of one image.
        name: name of the image for messages.

    Raises:
        ValueError: naming image, region and value, if a box lies outside of the image or has its
            corners in the wrong order, for example because it refers to another image size.
    """
    height, width = regions.image_size
    valid = are_valid(regions.boxes, regions.image_size, share=_ROUNDING)
    if not valid.all():
        region = int(valid.argmin())
        raise ValueError(
            f"{name}, region {region}: the box is {_format(regions.boxes[region])}; expected "
            f"0 <= x1 <= x2 <= {width} and 0 <= y1 <= y2 <= {height} in pixels of the image"
        )
    return normalize(regions.boxes, regions.image_size)


def pad(
    arrays: Sequence[npt.NDArray[Any]], *, value: float = 0, min_length: int = 0
) -> npt.NDArray[Any]:
    """Stack arrays of different lengths, padded with `value` to the longest or to `min_length`."""
    longest = max(min_length, *(len(array) for array in arrays))
    dtype = np.result_type(*(array.dtype for array in arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def lengths_mask(lengths: Sequence[int], longest: int) -> npt.NDArray[np.bool_]:
    """Return `[batch, longest]`, True for real data."""
    return np.asarray(np.arange(longest) < np.asarray(lengths)[:, None])


def _check_regions(features: FloatArray, boxes: FloatArray, *, name: str) -> None:
    """Check the values of one example; the model checks the widths."""
    if len(features) != len(boxes):
        raise ValueError(
            f"{name} has {len(features)} features and {len(boxes)} boxes; expected one box for "
            "each feature"
        )
    if not np.isfinite(features).all():
        region, column = np.argwhere(~np.isfinite(features))[0]
        raise ValueError(
            f"{name}, region {region}: the feature at {column} is {features[region, column]}; "
            "expected finite numbers: extract the regions of this image again"
        )
    if boxes.shape[-1] == 4:
        valid = are_valid(boxes, (1.0, 1.0))
        expected = "0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1, in shares of the image's sides"
    else:
        valid = np.asarray(np.isfinite(boxes).all(axis=-1))
        expected = "finite numbers"
    if not valid.all():
        region = int(valid.argmin())
        raise ValueError(
            f"{name}, region {region}: the box is {_format(boxes[region])}; expected {expected}"
        )


def _format(box: FloatArray) -> str:
    return f"[{', '.join(f'{side:g}' for side in box.tolist())}]"
