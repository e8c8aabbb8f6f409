"""Token ids and regions of several examples -> the padded inputs of the model; the only way in."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.boxes import are_valid, normalize
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray, Regions

_ROUNDING = 1e-3
"""How far a box may stick out of its image, as a share of its sides: nobody's mistake."""


def collate_inputs(
    sentences: Sequence[IntArray],
    features: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    *,
    pad_id: int,
) -> dict[str, Tensor]:
    """Join both sides of several examples to the keyword arguments of the model's forward.

    Arguments, results and errors are those of `collate_text` and `collate_regions`.
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
        boxes: by example `[regions, 4]`, normalised to `[0, 1]`; other widths are places of
            another kind, of which nothing is checked but that they are finite.

    Returns:
        `visual_feats` `[batch, regions, dim]`, `visual_pos` `[batch, regions, 4]` and
        `visual_attention_mask` (1 = real).

    Raises:
        ValueError: naming example, region and value, if a feature is not finite, or a box is
            turned inside out or outside of `[0, 1]`.
    """
    for index, (rows, places) in enumerate(zip(features, boxes, strict=True)):
        _check_regions(rows, places, name=f"example {index} of the batch")
    padded = pad(features)
    mask = lengths_mask([len(rows) for rows in features], padded.shape[1])
    return {
        "visual_feats": torch.from_numpy(padded),
        "visual_pos": torch.from_numpy(pad(boxes)),
        "visual_attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }


def normalize_boxes(regions: Regions, *, name: str) -> FloatArray:
    """Return the boxes of an image as the model reads them, `[regions, 4]` in `[0, 1]`.

    Args:
        regions: of one image.
        name: of the image, for the message.

    Raises:
        ValueError: naming image, region and value, if a box lies outside of the image or is
            turned inside out: pixels of another size of it, say, or another order of the corners.
    """
    height, width = regions.image_size
    valid = are_valid(regions.boxes, regions.image_size, share=_ROUNDING)
    if not valid.all():
        region = int(valid.argmin())
        raise ValueError(
            f"{name}, region {region}: the box is {_write(regions.boxes[region])}; expected "
            f"0 <= x1 <= x2 <= {width} and 0 <= y1 <= y2 <= {height} in pixels of the image"
        )
    return normalize(regions.boxes, regions.image_size)


def check_labels(labels: Tensor, count: int, *, name: str) -> None:
    """Refuse labels that name no class, which the loss would turn into an error far from here.

    Args:
        labels: class ids of any shape, `IGNORE_INDEX` where there is none; or scores by class.
        count: number of classes.
        name: what the labels are, for the message.

    Raises:
        ValueError: naming the first one that is out of range, and where it is.
    """
    if labels.is_floating_point():
        wrong = ~((labels >= 0) & (labels <= 1))
        expected = "scores in [0, 1]"
    else:
        wrong = ((labels < 0) & (labels != IGNORE_INDEX)) | (labels >= count)
        expected = f"0 to {count - 1}, or {IGNORE_INDEX} where there is none"
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"the label of {name} at {place} in the batch is {labels[tuple(place)].item()}; "
            f"expected {expected}: check the data set and the model's number of classes"
        )


def pad(arrays: Sequence[npt.NDArray], *, value: float = 0) -> npt.NDArray:  # type: ignore[type-arg]
    """Stack arrays that differ in their first size, filled up with `value`."""
    longest = max(len(array) for array in arrays)
    dtype = np.result_type(*(array.dtype for array in arrays))
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def lengths_mask(lengths: Sequence[int], longest: int) -> npt.NDArray[np.bool_]:
    """Return `[batch, longest]`, True where there is real data."""
    return np.asarray(np.arange(longest) < np.asarray(lengths)[:, None])


def _check_regions(features: FloatArray, boxes: FloatArray, *, name: str) -> None:
    """Check the values of one example; widths are left to the model."""
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
        valid = np.isfinite(boxes).all(axis=-1)
        expected = "finite numbers"
    if not valid.all():
        region = int(valid.argmin())
        raise ValueError(
            f"{name}, region {region}: the box is {_write(boxes[region])}; expected {expected}"
        )


def _write(box: FloatArray) -> str:
    return f"[{', '.join(f'{side:g}' for side in box.tolist())}]"
