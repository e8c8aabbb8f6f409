"""The data that crosses modules: regions of an image, an example of a dataset, an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

IGNORE_INDEX = -100
"""Label of positions without a loss: unmasked words, questions without an answer."""


REGION_ARRAYS = (
    "boxes",
    "features",
    "object_ids",
    "object_scores",
    "attribute_ids",
    "attribute_scores",
)
"""Fields of `Regions` with one row per region."""


@dataclass(frozen=True, repr=False)
class Regions:
    """The regions of one image: boxes with features, classes and confidences.

    Attributes:
        boxes: `[regions, 4]` float32, `(x1, y1, x2, y2)` in absolute pixels of the image as stored.
        features: `[regions, feature_dim]` float32, pooled region features.
        image_size: `(height, width)` in pixels.
        object_ids: `[regions]`, 0-based object class, without background.
        object_scores: `[regions]`, confidence of that class in `[0, 1]`.
        attribute_ids: `[regions, groups]`, the best attribute of each group (color, size, ...),
            0-based in the list of all attributes; the published detector has one group.
        attribute_scores: `[regions, groups]`, its confidence in `[0, 1]`.
        found: False if nothing was found; the only region is then the entire image.
    """

    boxes: FloatArray
    features: FloatArray
    image_size: tuple[int, int]
    object_ids: IntArray
    object_scores: FloatArray
    attribute_ids: IntArray
    attribute_scores: FloatArray
    found: bool = True

    @classmethod
    def of_columns(
        cls,
        columns: Mapping[str, npt.ArrayLike],
        *,
        image_size: tuple[int, int],
        found: bool = True,
    ) -> "Regions":
        """Copy the fields of `REGION_ARRAYS`, given in any data types."""
        arrays: dict[str, npt.NDArray[Any]] = {
            name: np.array(columns[name], np.int64 if name.endswith("_ids") else np.float32)
            for name in REGION_ARRAYS
        }
        return cls(**arrays, image_size=image_size, found=found)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: IntArray) -> "Regions":
        """Return some of the regions, by their indices."""
        return replace(self, **{name: getattr(self, name)[rows] for name in REGION_ARRAYS})

    def __repr__(self) -> str:
        """Return one line without the arrays."""
        height, width = self.image_size
        nothing = "" if self.found else ", nothing found"
        return (
            f"Regions({len(self)} of {width} x {height} pixels, features of width "
            f"{self.features.shape[-1]}{nothing})"
        )


@dataclass(frozen=True)
class Failure:
    """An image that has no regions.

    Attributes:
        image_id: the image, or its position in the file if the id is unknown.
        reason: one sentence: what was found, what was expected.
    """

    image_id: str
    reason: str


@dataclass(frozen=True)
class Example:
    """One text about one image (two for pair tasks), with its labels.

    Attributes:
        example_id: unique in its dataset; seeds the example's masks.
        text: a question or a caption.
        image_ids: keys of the region store; relative paths below the image folder.
        answers: acceptable answers with their scores in `[0, 1]`; empty for a caption.
        question_type: question type, by which accuracy is reported; empty if unknown.
    """

    example_id: str
    text: str
    image_ids: tuple[str, ...]
    answers: Mapping[str, float] = field(default_factory=dict)
    question_type: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer with its probability in `[0, 1]`."""

    answer: str
    score: float
