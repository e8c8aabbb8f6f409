"""Padding with expected values in full, and invalid values in a batch."""

import numpy as np
import pytest
import torch

from lxmert.boxes import normalize
from lxmert.data.arrays import lengths_mask, normalize_boxes, pad
from lxmert.data.collate import check_labels, collate_regions, collate_text
from lxmert.schema import Regions


def test_texts_are_padded_to_the_longest() -> None:
    batch = collate_text([np.array([8, 9]), np.array([8, 7, 6, 9])], pad_id=-8)
    assert batch["input_ids"].tolist() == [[8, 9, -8, -8], [8, 7, 6, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0] * 4, [0] * 4]


def test_regions_are_padded_to_the_most() -> None:
    features = [np.full((1, 2), 3.25, np.float32), np.full((3, 2), 4.5, np.float32)]
    boxes = [np.full((1, 4), 0.25, np.float32), np.full((3, 4), 0.75, np.float32)]
    batch = collate_regions(features, boxes)
    assert batch["visual_feats"][:, :, 0].tolist() == [[3.25, 0, 0], [4.5, 4.5, 4.5]]
    assert batch["visual_pos"][0].tolist() == [[0.25] * 4, [0.0] * 4, [0.0] * 4]
    assert batch["visual_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["visual_feats"].dtype == torch.float32


@pytest.mark.parametrize("seed", range(5))
def test_masked_rows_give_back_what_was_padded(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 6, size=7).tolist()
    lengths[0] = 5
    arrays = [generator.integers(99, size=(length, 2)) for length in lengths]
    padded, mask = pad(arrays, value=-9), lengths_mask(lengths, 5)
    for array, row, real in zip(arrays, padded, mask, strict=True):
        assert np.array_equal(row[real], array)
        assert (row[~real] == -9).all()


def some_regions(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return features and normalized boxes of three valid examples."""
    generator = np.random.default_rng(seed)
    features = [generator.normal(size=(count, 7)).astype(np.float32) for count in (2, 5, 3)]
    corners = [np.sort(generator.random((len(rows), 2, 2)), axis=1) for rows in features]
    return features, [part.reshape(-1, 4).astype(np.float32) for part in corners]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("seed", range(3))
def test_a_feature_that_is_not_finite_is_named(seed: int, value: float) -> None:
    features, boxes = some_regions(seed)
    collate_regions(features, boxes)
    features[1][4, seed] = value
    with pytest.raises(
        ValueError, match=rf"example 1 .*region 4: the feature at {seed} is {value}"
    ):
        collate_regions(features, boxes)


@pytest.mark.parametrize(
    "box",
    [
        [0.5, 0.25, 0.375, 0.75],  # x2 < x1
        [0.25, 0.75, 0.5, 0.375],  # y2 < y1
        [-0.25, 0.25, 0.5, 0.75],
        [0.25, 0.25, 0.5, 3.25],
        [0.25, np.nan, 0.5, 0.75],
    ],
)
def test_a_box_that_is_none_is_named(box: list[float]) -> None:
    features, boxes = some_regions(8)
    boxes[2][1] = box
    shown = ", ".join(f"{side:g}" for side in box)
    with pytest.raises(ValueError, match=rf"example 2 .*region 1: the box is \[{shown}\]"):
        collate_regions(features, boxes)


def test_an_empty_box_and_the_whole_image_are_boxes() -> None:
    boxes = np.array([[0.25, 0.25, 0.25, 0.25], [0, 0, 1, 1]], np.float32)
    collate_regions([np.ones((2, 3), np.float32)], [boxes])


def test_places_that_are_no_boxes_need_only_be_finite() -> None:
    places = np.array([[3.25, -8, 2, 1, 4.5]], np.float32)
    collate_regions([np.ones((1, 3), np.float32)], [places])
    places[0, 3] = np.nan
    with pytest.raises(ValueError, match="expected finite numbers"):
        collate_regions([np.ones((1, 3), np.float32)], [places])


def regions_of(boxes: list[list[float]], image_size: tuple[int, int]) -> Regions:
    count = len(boxes)
    ids, ones = np.zeros(count, np.int64), np.ones(count, np.float32)
    array = np.array(boxes, np.float32)
    features = np.ones((count, 3), np.float32)
    return Regions(array, features, image_size, ids, ones, ids[:, None], ones[:, None])


def test_boxes_in_pixels_of_another_size_of_the_image_are_refused() -> None:
    """Bug: such boxes were silently clipped, so that the model read wrong positions."""
    fine = regions_of([[3, 4, 10, 20], [0, 0, 50, 100]], (100, 50))
    np.testing.assert_array_equal(
        normalize_boxes(fine, name="image 8"), normalize(fine.boxes, (100, 50))
    )
    with pytest.raises(ValueError, match=r"image 8, region 1: .*\[0, 0, 50, 100\].*x2 <= 40"):
        normalize_boxes(regions_of([[3, 4, 10, 20], [0, 0, 50, 100]], (100, 40)), name="image 8")
    with pytest.raises(ValueError, match=r"image 8, region 0: the box is \[10, 4, 3, 20\]"):
        normalize_boxes(regions_of([[10, 4, 3, 20]], (100, 50)), name="image 8")


def test_boxes_within_rounding_of_the_border_are_cut_there() -> None:
    found = normalize_boxes(regions_of([[-0.01, 0, 50.01, 100.05]], (100, 50)), name="image 8")
    assert found.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("wrong", [7, -1, -8, 900])
def test_a_label_out_of_range_is_named_with_its_place(wrong: int) -> None:
    labels = torch.tensor([[6, -100, 0], [3, 2, 6]])
    check_labels(labels, 7, name="the object")
    labels[1, 2] = wrong
    with pytest.raises(ValueError, match=rf"the object at \[1, 2\] .* is {wrong}; expected 0 to 6"):
        check_labels(labels, 7, name="the object")


@pytest.mark.parametrize("wrong", [1.25, -0.25, float("nan")])
def test_a_score_out_of_range_is_named(wrong: float) -> None:
    scores = torch.tensor([[0.0, 0.3, 1.0]])
    check_labels(scores, 3, name="the answer")
    scores[0, 1] = wrong
    with pytest.raises(ValueError, match=r"the answer at \[0, 1\] .*expected scores in \[0, 1\]"):
        check_labels(scores, 3, name="the answer")


def test_features_and_boxes_of_unlike_numbers_are_refused():
    """Bug: padding hid the mismatch, and a box of zeros counted as real."""
    features = [np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)]
    boxes = [np.zeros((1, 4), np.float32), np.zeros((2, 4), np.float32)]
    with pytest.raises(ValueError, match="example 0 of the batch has 2 features and 1 boxes"):
        collate_regions(features, boxes)


def test_features_of_several_types_lose_nothing():
    """Bug: all arrays were cast to the type of the first one: 1e6 became infinite."""
    rows = [np.ones((1, 2), np.float16), np.full((1, 2), 1e6, np.float32)]
    boxes = [np.zeros((1, 4), np.float32)] * 2
    assert collate_regions(rows, boxes)["visual_feats"].isfinite().all()
