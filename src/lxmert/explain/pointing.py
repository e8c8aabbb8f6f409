"""Which regions lie on what a question asks about."""

import numpy as np
import numpy.typing as npt

from lxmert.schema import FloatArray


def lie_inside(boxes: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
    """Return `[boxes]`, whether the centre of each lies inside any target, borders included.

    Args:
        boxes: `[boxes, 4]`.
        targets: `[targets, 4]` in the same pixels; may be empty.
    """
    return np.asarray(centres_inside(boxes, targets).any(axis=1))


def centres_inside(boxes: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
    """Return `[boxes, targets]`, whether the centre of each box lies inside each target."""
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (targets[None, :, :2] <= centres) & (centres <= targets[None, :, 2:])
    return np.asarray(np.all(inside, axis=2))
