"""Removal schedules of words or regions, and the area under a perturbation curve."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lxmert.schema import FloatArray

SHARES = (0.0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Removed fractions of the words or regions."""

DIRECTIONS = ("positive", "negative")
"""Whether the most or the least relevant are removed first."""

_ROUNDING = 1e-9


def area_under(shares: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return the area under a curve by the trapezoid rule, times 100.

    Args:
        shares: removed fractions from 0 to 1, in ascending order.
        accuracies: in `[0, 1]`, at each fraction.
    """
    return 100 * float(np.trapezoid(accuracies, shares))


def number_kept(total: int, share: float) -> int:
    """Return how many of `total` are left if a fraction, rounded up, is removed.

    This follows the published code except for its rounding error with products such as
    `(1 - 0.8) * 5`.
    """
    return math.floor((1 - share) * total + _ROUNDING)


def rank(relevance: FloatArray, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Order positions by descending relevance, with ties in random order.

    Otherwise, methods that assign zero to most regions would inherit the detector's order.
    """
    return np.lexsort((generator.random(len(relevance)), -relevance))


def keep(
    relevance: FloatArray, removable: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return what is kept of one example in each direction and at each removed fraction.

    Args:
        relevance: `[length]`.
        removable: `[length]`, True for positions that may be removed.
        generator: breaks ties.

    Returns:
        `[directions, shares, length]`, True for removable positions that are kept.
    """
    places = np.flatnonzero(removable)
    order = places[rank(relevance[places], generator)]
    kept = np.zeros((len(DIRECTIONS), len(SHARES), len(relevance)), dtype=bool)
    for index, share in enumerate(SHARES):
        count = number_kept(len(order), share)
        kept[0, index, order[len(order) - count :]] = True
        kept[1, index, order[:count]] = True
    return kept
