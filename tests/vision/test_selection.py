"""Choosing regions, against loops that one can read."""

import numpy as np
import pytest
import torch

from lxmert import boxes as box_arithmetic
from lxmert.vision.selection import select_regions, whole_image


def select_slowly(boxes, scores, nms_threshold, score_threshold, num_regions):
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        overlaps = [box_arithmetic.iou(boxes[[index]], boxes[[other]]).item() for other in kept]
        good = scores[index] >= score_threshold
        if good and len(kept) < num_regions and all(value <= nms_threshold for value in overlaps):
            kept.append(int(index))
    return kept


@pytest.mark.parametrize("seed", range(8))
def test_same_as_the_slow_way(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (60, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(4, 30, (60, 2))], axis=1)
    boxes, scores = boxes.astype(np.float32), generator.permutation(60).astype(np.float32) / 60
    limits = {"nms_threshold": 0.4, "score_threshold": 0.25, "num_regions": 9}
    fast = select_regions(torch.from_numpy(boxes), torch.from_numpy(scores), **limits)
    assert fast.tolist() == select_slowly(boxes, scores, **limits)


def test_nothing_good_enough_gives_nothing():
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    limits = {"nms_threshold": 0.5, "num_regions": 3}
    assert select_regions(boxes, torch.tensor([0.29]), score_threshold=0.3, **limits).tolist() == []
    none = select_regions(boxes[:0], torch.zeros(0), score_threshold=0.3, **limits)
    assert none.tolist() == []


def test_whole_image_is_width_by_height():
    assert whole_image((3, 8)) == (0.0, 0.0, 8.0, 3.0)
