"""Recall of retrieval: worked by hand, and by sorting every list."""

import numpy as np
import pytest

from lxmert.metrics.retrieval import score_retrieval


def test_recall_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.8], [0.7, 0.2, 0.1]])
    # Captions 0 and 1 are of image 0, caption 2 of image 1.
    assert score_retrieval(scores, [0, 0, 1], cuts=(1, 2, 3)) == {
        "image_to_text": {1: 0.5, 2: 0.5, 3: 1.0},
        "text_to_image": {1: pytest.approx(1 / 3), 2: 1.0, 3: 1.0},
    }


def test_any_of_several_captions_is_a_hit() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.0, 0.0, 0.7]])
    assert score_retrieval(scores, [0, 0, 1], cuts=(1,))["image_to_text"] == {1: 1.0}


def test_equal_scores_find_nothing() -> None:
    """Bug: with ties sorted by index, a constant model could have perfect recall."""
    scores = np.full((20, 20), 0.25)
    assert score_retrieval(scores, range(20)) == {
        "image_to_text": {1: 0.0, 5: 0.0, 10: 0.0},
        "text_to_image": {1: 0.0, 5: 0.0, 10: 0.0},
    }


def test_random_scores_agree_with_sorted_lists() -> None:
    draw = np.random.default_rng(11)
    for _ in range(100):
        images = int(draw.integers(1, 7))
        owners = [*range(images), *draw.integers(0, images, size=int(draw.integers(0, 9))).tolist()]
        draw.shuffle(owners)
        scores = draw.integers(0, 6, size=(images, len(owners))) / 4
        found = score_retrieval(scores, owners, cuts=(1, 3))
        for k in (1, 3):
            texts = []
            for image in range(images):
                # Sorted by score, and among equals the wrong ones first.
                order = sorted(
                    (-scores[image, j], owner == image) for j, owner in enumerate(owners)
                )
                texts.append(any(right for _, right in order[:k]))
            photos = []
            for j, owner in enumerate(owners):
                order = sorted((-scores[image, j], image == owner) for image in range(images))
                photos.append(any(right for _, right in order[:k]))
            assert found["image_to_text"][k] == pytest.approx(np.mean(texts))
            assert found["text_to_image"][k] == pytest.approx(np.mean(photos))


@pytest.mark.parametrize(
    ("scores", "owners", "message"),
    [
        ([[0.5, float("nan")]], [0, 0], "NaN or infinite"),
        ([[0.5, 0.25]], [0], "shape"),
        ([[0.5], [0.25]], [0], "expected each of 0 to 1"),
        ([[0.5, 0.25]], [0, 1], "expected each of 0 to 0"),
        ([[0.5, 0.25]], [0, -1], "expected each of 0 to 0"),
    ],
)
def test_what_has_no_rank_is_refused(
    scores: list[list[float]], owners: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_retrieval(np.array(scores), owners)
