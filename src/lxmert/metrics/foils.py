"""Scores of image-text matching on captions and foils, and on Winoground's groups.

Legend: a `match score` is the probability, in `[0, 1]`, that a text describes an image.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]

MATCH_THRESHOLD = 0.5


class FoilScores(TypedDict):
    """VALSE's scores, fractions in `[0, 1]`.

    Attributes:
        pairwise_accuracy: share of pairs in which the caption scores higher than the foil;
            equal scores count as wrong. `acc_r` of the paper; chance is 0.5.
        accuracy: share of all texts that are judged correctly; the mean of the next two. `acc`.
        caption_precision: share of captions judged to match. `p_c`.
        foil_precision: share of foils judged not to match. `p_f`.
        auroc: probability that a random caption scores higher than a random foil.
    """

    pairwise_accuracy: float
    accuracy: float
    caption_precision: float
    foil_precision: float
    auroc: float


class GroupScores(TypedDict):
    """Winoground's scores, fractions in `[0, 1]`.

    Attributes:
        text: share of groups in which each image prefers its own text; chance is 1/4.
        image: share of groups in which each text prefers its own image; chance is 1/4.
        group: share of groups with both; chance is 1/6.
    """

    text: float
    image: float
    group: float


def score_foils(captions: Sequence[float] | Scores, foils: Sequence[float] | Scores) -> FoilScores:
    """Compute VALSE's scores of pairs of a caption and a foil.

    Args:
        captions: `[pairs]` match scores of the captions.
        foils: `[pairs]` match scores of the foils of the same images.

    Source: Parcalabescu et al. 2022 (VALSE), section 5.
    """
    right, wrong = (np.asarray(part, dtype=np.float64) for part in (captions, foils))
    if right.shape != wrong.shape or right.ndim != 1 or not len(right):
        raise ValueError(
            f"got {right.shape} scores of captions and {wrong.shape} of foils, expected pairs"
        )
    fits, detected = right > MATCH_THRESHOLD, wrong <= MATCH_THRESHOLD
    return {
        "pairwise_accuracy": float((right > wrong).mean()),
        "accuracy": float((fits.mean() + detected.mean()) / 2),
        "caption_precision": float(fits.mean()),
        "foil_precision": float(detected.mean()),
        "auroc": auroc(right, wrong),
    }


def auroc(positives: Scores, negatives: Scores) -> float:
    """Return the area under the ROC curve; a tie of two scores counts half."""
    values, places = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    up = np.bincount(places[: len(positives)], minlength=len(values))
    down = np.bincount(places[len(positives) :], minlength=len(values))
    below = np.cumsum(down) - down
    wins = (up * (below + down / 2)).sum()
    return float(wins / (len(positives) * len(negatives)))


def score_groups(scores: Scores) -> GroupScores:
    """Compute Winoground's scores.

    Args:
        scores: `[groups, 2, 2]` match scores: text by image; text i describes image i.

    Source: Thrush et al. 2022 (Winoground), equations 1 to 3; equal scores count as wrong.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 3 or values.shape[1:] != (2, 2) or not len(values):
        raise ValueError(
            f"scores have shape {list(values.shape)}, expected [groups, 2 texts, 2 images]"
        )
    text = (values[:, 0, 0] > values[:, 1, 0]) & (values[:, 1, 1] > values[:, 0, 1])
    image = (values[:, 0, 0] > values[:, 0, 1]) & (values[:, 1, 1] > values[:, 1, 0])
    return {
        "text": float(text.mean()),
        "image": float(image.mean()),
        "group": float((text & image).mean()),
    }
