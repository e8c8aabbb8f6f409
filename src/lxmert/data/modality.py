"""Examples without their text or without their image, to train and evaluate on one modality."""

from typing import Literal

from lxmert.schema import FloatArray, IntArray

Modality = Literal["both", "text", "image"]
"""What a model sees: `text` leaves out all regions, `image` all words but `[CLS]` and `[SEP]`."""


def keep_text(input_ids: IntArray, modality: Modality) -> IntArray:
    """Return the token ids of a text, `[length]`; with `image`, only the first and the last."""
    return input_ids[[0, -1]] if modality == "image" else input_ids


def keep_regions(rows: FloatArray, modality: Modality) -> FloatArray:
    """Return the features or boxes of an image, `[regions, dim]`; with `text`, none of them."""
    return rows[:0] if modality == "text" else rows
