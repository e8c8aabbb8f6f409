"""Collates token ids and regions into tensors, and checks labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lxmert.data.arrays import Arrays, image_arrays, region_arrays, text_arrays
from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray, Regions


def collate_inputs(
    sentences: Sequence[IntArray],
    features: Sequence[FloatArray],
    boxes: Sequence[FloatArray],
    *,
    pad_id: int,
) -> dict[str, Tensor]:
    """Collate texts and regions into keyword arguments of the model's forward.

    Arguments, results and errors are those of `text_arrays` and `region_arrays`.
    """
    return collate_text(sentences, pad_id=pad_id) | collate_regions(features, boxes)


def collate_text(
    sentences: Sequence[IntArray], *, pad_id: int, min_length: int = 0
) -> dict[str, Tensor]:
    """Pad token ids to the longest text, or to `min_length`; see `text_arrays`."""
    return to_tensors(text_arrays(sentences, pad_id=pad_id, min_length=min_length))


def collate_regions(
    features: Sequence[FloatArray], boxes: Sequence[FloatArray]
) -> dict[str, Tensor]:
    """Pad regions to the largest number in the batch; see `region_arrays`."""
    return to_tensors(region_arrays(features, boxes))


def collate_images(regions: Sequence[Regions]) -> dict[str, Tensor]:
    """Like `collate_regions`, for the regions of images with boxes in pixels."""
    return to_tensors(image_arrays(regions))


def to_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Return arrays as tensors that share their memory."""
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def check_labels(labels: Tensor, count: int, *, name: str) -> None:
    """Check labels here, where errors are clearer than in the loss.

    Args:
        labels: class ids of any shape, `IGNORE_INDEX` if there is none; or scores by class.
        count: number of classes.
        name: kind of label, for messages.

    Raises:
        ValueError: naming the first label that is out of range, and its position.
    """
    if labels.is_floating_point():
        wrong = ~((labels >= 0) & (labels <= 1))
        expected = "scores in [0, 1]"
    else:
        wrong = ((labels < 0) & (labels != IGNORE_INDEX)) | (labels >= count)
        expected = f"0 to {count - 1}, or {IGNORE_INDEX} for no label"
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"the label of {name} at {place} in the batch is {labels[tuple(place)].item()}; "
            f"expected {expected}: check the data set and the model's number of classes"
        )
