"""Which regions lie on the objects that a question asks about."""

import numpy as np
import numpy.typing as npt

from lxmert.schema import FloatArray


def lie_inside(boxes: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
    """Return `[boxes]`, whether each center lies inside any target, borders included.

    Args:
        boxes: `[boxes, 4]`.
        targets: `[targets, 4]` in the same pixels; may be empty.
    """
    return np.asarray(centers_inside(boxes, targets).any(axis=1))


def centers_inside(boxes: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
    """Return `[boxes, targets]`, whether the center of each box lies inside each target."""
    centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (targets[None, :, :2] <= centers) & (centers <= targets[None, :, 2:])
    return np.asarray(np.all(inside, axis=2))
