"""Recall of image-text retrieval, in both directions."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]

CUTS = (1, 5, 10)


class RetrievalScores(TypedDict):
    """Recall in `[0, 1]` by number of results looked at.

    Attributes:
        image_to_text: share of images with one of their captions among the first k captions.
        text_to_image: share of captions with their image among the first k images.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]


def score_retrieval(
    scores: Scores, image_of_caption: Sequence[int], *, cuts: Sequence[int] = CUTS
) -> RetrievalScores:
    """Rank all captions for each image, and all images for each caption.

    Of equal scores, the right one is taken to come last: a model that gives all pairs one score
    finds nothing.

    Args:
        scores: `[images, captions]`, higher is better.
        image_of_caption: `[captions]`, the row of each caption's image; every image has one.
        cuts: numbers of results to look at.

    Raises:
        ValueError: if scores are not finite, or captions and images do not fit together.
    """
    scores, owners = np.asarray(scores), np.asarray(image_of_caption, dtype=np.int64)
    _check(scores, owners)
    right = np.arange(len(scores))[:, None] == owners
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    caption_ranks = ((scores >= best) & ~right).sum(axis=1)
    own = scores[owners, np.arange(len(owners))]
    image_ranks = ((scores >= own) & ~right).sum(axis=0)
    return {
        "image_to_text": {k: float((caption_ranks < k).mean()) for k in cuts},
        "text_to_image": {k: float((image_ranks < k).mean()) for k in cuts},
    }


def _check(scores: Scores, owners: npt.NDArray[np.int64]) -> None:
    if scores.ndim != 2 or scores.shape[1:] != owners.shape or not scores.size:
        raise ValueError(
            f"scores have the shape {scores.shape} and there are images for {len(owners)} captions;"
            " expected [images, captions]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold numbers that are not finite: such pairs have no rank")
    if not np.array_equal(np.unique(owners), np.arange(len(scores))):
        raise ValueError(
            f"captions name the images {np.unique(owners).tolist()[:5]}..., expected each of "
            f"0 to {len(scores) - 1} at least once"
        )
