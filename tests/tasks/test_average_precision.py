"""Average precision by hand, and against the rules written out one by one."""

import numpy as np
import pytest

from lxmert.tasks.average_precision import (
    THRESHOLDS,
    Found,
    PrecisionMeter,
    Truth,
    average_precision,
    match,
)


@pytest.mark.parametrize(
    ("right", "num_objects", "expected"),
    [
        ([True, True], 2, 1.0),
        ([True], 2, 51 / 101),  # precision 1 for the recalls 0 to 0.5
        ([False, True], 1, 1 / 2),
        ([True, False, True], 2, (51 * 1 + 50 * 2 / 3) / 101),
        ([False, True, True], 4, 51 * 2 / 3 / 101),  # the later, better precision counts before
        ([False, False], 3, 0.0),
        ([], 3, 0.0),
    ],
)
def test_hand_computed_curves(right, num_objects, expected):
    scores = np.linspace(0.75, 0.25, len(right))
    assert average_precision(scores, right, num_objects=num_objects) == pytest.approx(expected)
    shuffled = np.random.default_rng(3).permutation(len(right))
    right = np.array(right, dtype=bool)
    again = average_precision(scores[shuffled], right[shuffled], num_objects=num_objects)
    assert again == pytest.approx(expected)


def test_the_best_free_object_is_taken_and_an_optional_one_last():
    overlaps = [
        [0.6, 0.9, 0.0],
        [0.7, 0.95, 0.0],  # its best is gone
        [0.55, 0.8, 0.0],  # both are gone
        [0.0, 0.0, 0.8],  # optional: does not count
        [0.0, 0.0, 0.8],  # gone as well: wrong
        [0.49, 0.0, 0.0],
    ]
    right, uncounted = match(overlaps, [False, False, True], 0.5)
    assert right.tolist() == [True, True, False, False, False, False]
    assert uncounted.tolist() == [False, False, False, True, False, False]
    right, uncounted = match([[0.6, 0.9]], [False, True], 0.5)
    assert (right.tolist(), uncounted.tolist()) == ([True], [False])


def test_nothing_to_find_and_nothing_found():
    right, uncounted = match(np.zeros((2, 0)), [], 0.5)
    assert right.tolist() == uncounted.tolist() == [False, False]
    meter = PrecisionMeter(3)
    meter.add(truth([[0, 0, 9, 9]], [1]), found([], [], []))
    result = meter.result()
    assert result.shape == (len(THRESHOLDS), 3)
    assert (result[:, 1] == 0).all()
    assert np.isnan(result[:, [0, 2]]).all()


def test_a_looser_box_counts_for_the_lower_thresholds_only():
    meter = PrecisionMeter(1)
    meter.add(truth([[0, 0, 10, 10]], [0]), found([[0, 0, 10, 7]], [0], [0.3]))  # IoU 0.7
    expected = [1.0] * 5 + [0.0] * 5
    assert meter.result()[:, 0].tolist() == expected
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def truth(boxes, ids, optional=None):
    optional = [False] * len(ids) if optional is None else optional
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(ids, int), np.array(optional, bool)
    )


def found(boxes, ids, scores):
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(ids, int), np.array(scores, np.float32)
    )


def draw(generator, count, classes):
    corners = generator.integers(0, 12, (count, 2))
    sides = generator.integers(4, 14, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1), generator.integers(0, classes, count)


def plain_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def plain_average(images, object_id, threshold):
    """Write the rules out: match image by image, sort, interpolate recall by recall."""
    outcomes, total = [], 0
    for objects, regions in images:
        mine = [i for i, kind in enumerate(objects.object_ids) if kind == object_id]
        total += sum(not objects.optional[i] for i in mine)
        taken = set()
        ranked = [i for i, kind in enumerate(regions.object_ids) if kind == object_id]
        for region in sorted(ranked, key=lambda i: -regions.scores[i]):
            rivals = [
                (not objects.optional[i], plain_iou(regions.boxes[region], objects.boxes[i]), -i)
                for i in mine
                if i not in taken
                and plain_iou(regions.boxes[region], objects.boxes[i]) >= threshold
            ]
            counted, _, place = max(rivals, default=(None, 0, 0))
            if counted is not None:
                taken.add(-place)
            if counted is not False:
                outcomes.append((float(regions.scores[region]), bool(counted)))
    if total == 0:
        return float("nan")
    outcomes.sort(key=lambda outcome: -outcome[0])
    curve, hits = [], 0
    for place, (_, right) in enumerate(outcomes, start=1):
        hits += right
        curve.append((hits / total, hits / place))
    levels = [step / 100 for step in range(101)]
    return (
        sum(
            max((precision for recall, precision in curve if recall >= level - 1e-12), default=0.0)
            for level in levels
        )
        / 101
    )


def test_random_images_agree_with_the_rules_written_out():
    for seed in range(12):
        generator = np.random.default_rng(seed)
        images = []
        for _ in range(5):
            boxes, ids = draw(generator, generator.integers(0, 6), 3)
            objects = truth(boxes, ids, generator.random(len(ids)) < 0.2)
            extra, extra_ids = draw(generator, generator.integers(0, 8), 3)
            near = boxes + generator.integers(-1, 2, boxes.shape)
            all_boxes = np.concatenate([near, near[::2], extra])
            all_ids = np.concatenate([ids, ids[::2], extra_ids])
            scores = generator.permutation(len(all_ids)) / 8 + generator.random() / 16
            images.append((objects, found(all_boxes, all_ids, scores)))
        meter = PrecisionMeter(4)
        for objects, regions in images:
            meter.add(objects, regions)
        expected = [
            [plain_average(images, object_id, threshold) for object_id in range(4)]
            for threshold in THRESHOLDS
        ]
        np.testing.assert_allclose(meter.result(), expected, atol=1e-12)
