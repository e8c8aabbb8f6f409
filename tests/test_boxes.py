"""Box arithmetic against brute force on pixels, with random boxes."""

import numpy as np
import pytest

from lxmert import boxes


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    corners = generator.integers(0, 30, size=(count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def paint(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box.astype(int)
    canvas = np.zeros((30, 30), dtype=bool)
    canvas[y1:y2, x1:x2] = True
    return canvas


@pytest.mark.parametrize("seed", range(6))
def test_iou_counts_pixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = random_boxes(generator, 6), random_boxes(generator, 5)
    found = boxes.iou(first, second)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            union = (paint(one) | paint(other)).sum()
            expected = (paint(one) & paint(other)).sum() / union if union else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_area_counts_pixels(seed: int) -> None:
    some = random_boxes(np.random.default_rng(seed), 20)
    assert boxes.area(some).tolist() == [paint(box).sum() for box in some]
    assert boxes.area(np.array([[5.0, 5.0, 3.0, 9.0]])).tolist() == [0.0]


def test_xywh_boxes_become_corners() -> None:
    assert boxes.from_xywh([[3, 4, 10, 20]]).tolist() == [[3, 4, 13, 24]]
    assert boxes.from_xywh([]).shape == (0, 4)


def test_normalized_boxes_lie_in_the_unit_square() -> None:
    found = boxes.normalize(np.array([[-2.0, 0, 60, 101]], np.float32), (100, 50))
    np.testing.assert_allclose(found, [[0, 0, 1, 1]])
    half = boxes.normalize(np.array([[10.0, 20, 25, 50]], np.float32), (100, 50))
    np.testing.assert_allclose(half, [[0.2, 0.2, 0.5, 0.5]], rtol=1e-6)


def test_clipped_boxes_keep_what_is_inside() -> None:
    found = boxes.clip(np.array([[-5.0, 3, 80, 7]], np.float32), (6, 40))
    assert found.tolist() == [[0, 3, 40, 6]]


def test_valid_boxes_lie_in_their_image_and_have_ordered_corners() -> None:
    found = [
        [0, 0, 8, 6],
        [1, 2, 1, 4],
        [3, 1, 2, 5],
        [0, 0, 8.5, 6],
        [-0.5, 0, 2, 2],
        [0, 0, 3, 0],
    ]
    array = np.array([*found, [np.nan, 0, 1, 1]], dtype=np.float32)
    size = (6, 8)
    assert boxes.are_valid(array, size).tolist() == [True, True, False, False, False, True, False]
    strict = boxes.are_valid(array, size, allow_empty=False)
    assert strict.tolist() == [True, False, False, False, False, False, False]
    for tolerance in ({"pixels": 0.5}, {"share": 0.1}):
        near = boxes.are_valid(array, size, **tolerance)
        assert near.tolist() == [True, True, False, True, True, True, False]
    assert boxes.are_valid(array).tolist() == [True, True, False, True, False, True, False]
