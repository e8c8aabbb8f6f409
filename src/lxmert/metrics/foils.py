"""Scores of image-text matching on captions and foils, and on Winoground's groups.

Legend: a `match score` is the probability, in `[0, 1]`, that a text describes an image.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypedDict, cast

import numpy as np
import numpy.typing as npt

from lxmert.metrics.intervals import LEVEL, Limits, cluster_sums, interval_limits

Scores = npt.NDArray[np.floating]
Judged = dict[str, npt.NDArray[np.float64]]
"""Score of each pair or group, by the name of the score."""

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
    right, wrong = _check_pairs(captions, foils)
    means = {name: float(each.mean()) for name, each in _judge_pairs(right, wrong).items()}
    return cast(FoilScores, {**means, "auroc": auroc(right, wrong)})


def foil_intervals(
    captions: Sequence[float] | Scores, foils: Sequence[float] | Scores, images: Sequence[str]
) -> dict[str, Limits]:
    """Return the limits of the 95% interval of each score of `score_foils`.

    Args:
        captions: `[pairs]` match scores of the captions.
        foils: `[pairs]` match scores of the foils of the same images.
        images: `[pairs]` image of each pair; images are resampled.
    """
    right, wrong = _check_pairs(captions, foils)
    limits = {
        name: interval_limits(each, images) for name, each in _judge_pairs(right, wrong).items()
    }
    return {**limits, "auroc": _auroc_limits(right, wrong, images)}


def auroc(positives: Scores, negatives: Scores) -> float:
    """Return the area under the ROC curve; a tie of two scores counts half."""
    return float(_share_below(positives, negatives).mean())


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
    means = {name: float(each.mean()) for name, each in _judge_groups(values).items()}
    return cast(GroupScores, means)


def group_intervals(scores: Scores) -> dict[str, Limits]:
    """Return the limits of the 95% interval of each score of `score_groups`."""
    judged = _judge_groups(np.asarray(scores, dtype=np.float64))
    return {name: interval_limits(each) for name, each in judged.items()}


def _check_pairs(
    captions: Sequence[float] | Scores, foils: Sequence[float] | Scores
) -> tuple[Scores, Scores]:
    right, wrong = (np.asarray(part, dtype=np.float64) for part in (captions, foils))
    if right.shape != wrong.shape or right.ndim != 1 or not len(right):
        raise ValueError(
            f"got {right.shape} scores of captions and {wrong.shape} of foils, expected pairs"
        )
    return right, wrong


def _judge_pairs(right: Scores, wrong: Scores) -> Judged:
    """Return the scores of each pair, of which VALSE's scores except AUROC are the means."""
    fits, detected = right > MATCH_THRESHOLD, wrong <= MATCH_THRESHOLD
    return {
        "pairwise_accuracy": (right > wrong).astype(np.float64),
        "accuracy": (fits.astype(np.float64) + detected) / 2,
        "caption_precision": fits.astype(np.float64),
        "foil_precision": detected.astype(np.float64),
    }


def _judge_groups(values: Scores) -> Judged:
    """Return the scores of each group, of which Winoground's scores are the means."""
    text = (values[:, 0, 0] > values[:, 1, 0]) & (values[:, 1, 1] > values[:, 0, 1])
    image = (values[:, 0, 0] > values[:, 0, 1]) & (values[:, 1, 1] > values[:, 1, 0])
    judged = {"text": text, "image": image, "group": text & image}
    return {name: each.astype(np.float64) for name, each in judged.items()}


def _share_below(values: Scores, others: Scores) -> Scores:
    """Return for each value the share of the others below it; a tie counts half."""
    ranked = np.sort(others)
    ends = (np.searchsorted(ranked, values, side=side) for side in ("left", "right"))
    return np.asarray(sum(ends) / (2 * len(others)), dtype=np.float64)


def _auroc_limits(positives: Scores, negatives: Scores, clusters: Sequence[str]) -> Limits:
    """Return the limits of the 95% interval of the AUROC, from its variance between clusters.

    Every cluster has as many positives as negatives. Source: Obuchowski 1997, Nonparametric
    analysis of clustered ROC curve data, section 2.
    """
    above = _share_below(positives, negatives)
    below = 1 - _share_below(negatives, positives)
    area = above.mean()
    shares = (above - area + below - area) / len(above)
    parts = cluster_sums(shares[:, None], clusters)[:, 0]
    if len(parts) < 2:
        return float(area), float(area)
    variance = len(parts) / (len(parts) - 1) * (parts**2).sum()
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(variance)
    return max(float(area - reach), 0.0), min(float(area + reach), 1.0)
