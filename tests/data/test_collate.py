"""Padding, spelled out in full."""

import numpy as np
import pytest
import torch

from lxmert.data.collate import collate_regions, collate_text, lengths_mask, pad


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
