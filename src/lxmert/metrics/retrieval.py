"""Recall of image-text retrieval in both directions."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]

CUTS = (1, 5, 10)


class RetrievalScores(TypedDict):
    """Recall at k in `[0, 1]`, by k.

    Attributes:
        image_to_text: fraction of images with one of their captions among the first k captions.
        text_to_image: fraction of captions with their image among the first k images.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]


def score_retrieval(
    scores: Scores, image_of_caption: Sequence[int], *, cuts: Sequence[int] = CUTS
) -> RetrievalScores:
    """Rank all captions for each image, and all images for each caption.

    Ties are resolved against the correct result, so a model with constant scores has recall 0.

    Args:
        scores: `[images, captions]`, higher is better.
        image_of_caption: `[captions]`, the row of each caption's image; every image occurs.
        cuts: values of k.

    Raises:
        ValueError: if scores are not finite or the shapes of scores and captions do not match.
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
            f"scores have shape {list(scores.shape)} for {len(owners)} captions, expected "
            "[images, captions]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores have NaN or infinite numbers, expected finite ones to rank")
    if not np.array_equal(np.unique(owners), np.arange(len(scores))):
        raise ValueError(
            f"captions name the images {np.unique(owners).tolist()[:5]}..., expected each of "
            f"0 to {len(scores) - 1} at least once"
        )
