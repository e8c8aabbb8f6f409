"""Masking of words and regions in pretraining: pure functions of an explicit generator.

Source: paper section 3.1; rates and the 80/10/10 rule as in the original code, which masks regions
by the same rule as words.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert.schema import IGNORE_INDEX, FloatArray, IntArray

SHARES = MASK_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Shares of the chosen positions that are masked and replaced; the rest stays unchanged."""


class MaskedWords(NamedTuple):
    """Masked token ids `[length]`, and labels: the true id of chosen positions, else ignored."""

    input_ids: IntArray
    labels: IntArray


class MaskedRegions(NamedTuple):
    """Masked features `[regions, dim]`, and which regions were chosen `[regions]`."""

    features: FloatArray
    chosen: npt.NDArray[np.bool_]


def mask_words(
    input_ids: IntArray,
    generator: np.random.Generator,
    *,
    rate: float,
    mask_id: int,
    vocabulary_size: int,
) -> MaskedWords:
    """Mask words of a text `[CLS] ... [SEP]`; its first and last token are never chosen.

    Args:
        input_ids: `[length]` token ids.
        generator: source of randomness; the same state gives the same masks.
        rate: share of positions to choose.
        mask_id: id of `[MASK]`.
        vocabulary_size: random tokens are drawn uniformly from all smaller ids.
    """
    draws = generator.random((2, len(input_ids)))
    chosen = draws[0] < rate
    chosen[0] = chosen[-1] = False
    replaced = chosen & (draws[1] >= MASK_SHARE) & (draws[1] < MASK_SHARE + RANDOM_SHARE)
    masked = np.where(chosen & (draws[1] < MASK_SHARE), mask_id, input_ids)
    if replaced.any():
        masked[replaced] = generator.integers(vocabulary_size, size=int(replaced.sum()))
    return MaskedWords(masked, np.where(chosen, input_ids, IGNORE_INDEX))


def mask_regions(
    features: FloatArray,
    generator: np.random.Generator,
    *,
    rate: float,
    others: Callable[[], FloatArray],
    shares: tuple[float, float] = SHARES,
) -> MaskedRegions:
    """Mask region features: zeros, a feature of another image, or no change. Boxes stay as is.

    Args:
        features: `[regions, dim]`.
        generator: source of randomness; the same state gives the same masks.
        rate: share of regions to choose.
        others: returns features of another image, `[any, dim]`, from which replacements are drawn;
            called only if needed.
        shares: shares of the chosen regions that are zeroed and that are replaced.
    """
    draws = generator.random((2, len(features)))
    chosen = draws[0] < rate
    masked = features
    if chosen.any():
        masked = features.copy()
        masked[chosen & (draws[1] < shares[0])] = 0
        replaced = chosen & (draws[1] >= shares[0]) & (draws[1] < sum(shares))
        if replaced.any():
            given = others()
            masked[replaced] = given[generator.integers(len(given), size=int(replaced.sum()))]
    return MaskedRegions(masked, chosen)
