"""Region selection, compared with the loops of the published programs."""

import numpy as np
import pytest

from lxmert import boxes as box_arithmetic
from lxmert.regions import selection
from lxmert.regions.choosing import nms
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import suppress
from lxmert.regions.selection import Candidates, select_regions, whole_image

NAMES = [f"object {index}" for index in range(1600)]
SMALL = DetectorConfig(object_names=("cup",))
CAFFE = DetectorConfig.preset("caffe", object_names=NAMES)
DETECTRON2 = DetectorConfig.preset("detectron2", object_names=NAMES)
HF = DetectorConfig.preset("hf", object_names=NAMES)


def random_boxes(count, generator, *, side=60.0, whole=False):
    corners = generator.uniform(0, side, (count, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(4, side, (count, 2))], axis=1)
    return (np.round(boxes / 4) * 4 if whole else boxes).astype(np.float32)


def make_candidates(boxes, probabilities, shifts=None, nms=suppress):
    """Return candidates whose refined boxes are the proposals moved by `[classes]` pixels."""
    moves = np.zeros(probabilities.shape[1], np.float32) if shifts is None else shifts

    def refine(candidates, classes):
        return boxes[candidates] + moves[classes][:, None]

    return Candidates(probabilities, boxes, refine, nms)


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def nms_slowly(boxes, scores, threshold, *, drop_ties=False):
    """Run a plain NMS from best to worst; of equal boxes the first ranks higher."""
    kept = []
    overlaps = box_arithmetic.iou(boxes, boxes).astype(np.float64) if len(boxes) else boxes
    for index in np.argsort(-scores, kind="stable"):
        over = overlaps[index, kept]
        if not (over >= threshold if drop_ties else over > threshold).any():
            kept.append(int(index))
    return kept


def survivors_slowly(boxes, probabilities, config, offset):
    """Select as the Caffe script: NMS for each class, then the best by surviving score."""
    boxes = boxes + np.float32([0, 0, offset, offset])
    best = np.zeros(len(boxes), np.float32)
    for scores in probabilities.T:
        kept = nms_slowly(boxes, scores, config.nms_threshold, drop_ties=True)
        best[kept] = np.maximum(best[kept], scores[kept])
    order = np.argsort(-best, kind="stable")
    good = int((best >= config.score_threshold).sum())
    count = min(max(good, config.min_regions), config.num_regions)
    return order[:count].tolist(), best


def check_survivors(boxes, probabilities, config=CAFFE, offset=1.0):
    choice = select_regions(make_candidates(boxes, probabilities), config, offset=offset)
    expected, best = survivors_slowly(boxes, probabilities, config, offset)
    assert choice.candidates.tolist() == expected
    np.testing.assert_array_equal(choice.ranking, best[expected])
    np.testing.assert_array_equal(choice.classes, probabilities[expected].argmax(axis=1))


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 2.5, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_pruned_choice_of_survivors_is_the_slow_one(seed, sharpness):
    generator = np.random.default_rng(seed)
    logits = sharpness * generator.standard_normal((60, 41))
    check_survivors(random_boxes(60, generator), softmax(logits)[:, :-1])


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_settled_as_in_the_slow_way(seed):
    """Few distinct scores and corners: equal scores, equal overlaps and equal boxes."""
    generator = np.random.default_rng(seed)
    levels = np.float32([0.0, 0.125, 0.25, 0.5])
    probabilities = levels[generator.integers(0, len(levels), (50, 23))]
    config = CAFFE.replace(nms_threshold=[0.25, 1 / 3, 0.5][seed % 3])
    check_survivors(random_boxes(50, generator, side=16, whole=True), probabilities, config, 0.0)


def test_chain_of_boxes_that_drop_each_other_is_followed_to_its_end():
    """Box 1 drops 2, so 2 cannot drop 3, so 3 drops 4, and so on: one link per iteration."""
    left = 4.0 * np.arange(60, dtype=np.float32)
    boxes = np.stack([left, left * 0, left + 9, left * 0 + 9], axis=1)
    probabilities = np.linspace(0.9, 0.3, 60, dtype=np.float32)[:, None]
    check_survivors(boxes, probabilities, CAFFE.replace(num_regions=300), 0.0)


@pytest.mark.parametrize(
    "probabilities",
    [
        np.full((80, 30), 1 / 31, np.float32),
        np.zeros((80, 30), np.float32),
        np.eye(80, 30, dtype=np.float32),
    ],
    ids=["equal", "zero", "certain"],
)
def test_degenerate_probabilities_are_no_problem(probabilities):
    check_survivors(random_boxes(80, np.random.default_rng(1)), probabilities)


@pytest.mark.parametrize("count", [0, 1, 2, 35, 36, 37])
@pytest.mark.parametrize("config", [CAFFE, HF], ids=["caffe", "hf"])
def test_as_many_as_there_are_but_never_more_than_asked_for(count, config):
    generator = np.random.default_rng(count)
    boxes, probabilities = (
        random_boxes(count, generator),
        softmax(generator.standard_normal((count, 20))),
    )
    choice = select_regions(make_candidates(boxes, probabilities), config, offset=1.0)
    assert len(choice.candidates) == min(count, 36)
    assert len(set(choice.candidates.tolist())) == min(count, 36)


@pytest.mark.parametrize(("low", "high"), [(10, 100), (36, 36), (0, 5), (200, 200), (1, 300)])
def test_range_of_regions_is_kept(low, high):
    generator = np.random.default_rng(4)
    config = CAFFE.replace(min_regions=low, num_regions=high)
    logits = 3 * generator.standard_normal((120, 30))
    check_survivors(random_boxes(120, generator), softmax(logits), config)


@pytest.mark.parametrize("most_pairs", [0, 50, 10**9])
def test_examining_all_pairs_or_the_best_is_the_same(most_pairs, monkeypatch):
    monkeypatch.setattr(selection, "MOST_PAIRS", most_pairs)
    generator = np.random.default_rng(5)
    levels = np.float32([0.0, 0.125, 0.25, 0.5])
    probabilities = levels[generator.integers(0, len(levels), (40, 20))]
    boxes = random_boxes(40, generator, side=16, whole=True)
    check_survivors(boxes, probabilities, offset=0.0)


def test_refined_boxes_may_take_the_place_of_proposals():
    generator = np.random.default_rng(6)
    boxes = random_boxes(40, generator)
    probabilities = generator.permutation(40).astype(np.float32)[:, None] / 41
    config = CAFFE.replace(nms_boxes="refined", num_regions=40)
    moved = make_candidates(boxes, probabilities, np.float32([3.25]))
    choice = select_regions(moved, config, offset=1.0)
    expected, _ = survivors_slowly(boxes + np.float32(3.25), probabilities, config, 1.0)
    assert choice.candidates.tolist() == expected


def agnostic_slowly(boxes, probabilities, config):
    scores = probabilities.max(axis=1)
    good = np.nonzero(scores >= config.score_threshold)[0]
    for threshold in (config.nms_threshold, *config.nms_ladder):
        kept = good[nms_slowly(boxes[good], scores[good], threshold)].tolist()
        if len(kept) >= config.min_regions:
            break
    if config.fill_up:
        rest = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in kept]
        kept += rest[: max(0, config.min_regions - len(kept))]
    return kept[: config.num_regions]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crowding", [20.0, 60.0])
def test_one_nms_with_a_ladder_is_the_slow_one(seed, crowding):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(90, generator, side=crowding)
    probabilities = softmax(2 * generator.standard_normal((90, 12)))
    for config in (HF, SMALL.replace(score_threshold=0.25, num_regions=9)):
        choice = select_regions(make_candidates(boxes, probabilities), config)
        assert choice.candidates.tolist() == agnostic_slowly(boxes, probabilities, config)
        assert choice.classes.tolist() == probabilities.argmax(1)[choice.candidates].tolist()


def per_class_slowly(boxes, probabilities, shifts, config):
    for threshold in (config.nms_threshold, *config.nms_ladder):
        found = []
        for index, scores in enumerate(probabilities.T):
            good = np.nonzero(scores >= config.score_threshold)[0]
            kept = nms_slowly(boxes[good] + shifts[index], scores[good], threshold)
            found += [(-scores[good[k]], int(good[k]), index) for k in kept]
        found = sorted(found)[: config.num_regions]
        if len(found) >= config.min_regions:
            break
    return [(candidate, label) for _, candidate, label in found]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [2.0, 5.0])
def test_one_nms_for_each_class_is_the_slow_one(seed, sharpness):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(70, generator, side=30)
    probabilities = softmax(sharpness * generator.standard_normal((70, 9)))
    shifts = generator.uniform(-5, 5, 9).astype(np.float32)
    choice = select_regions(make_candidates(boxes, probabilities, shifts), DETECTRON2)
    pairs = list(zip(choice.candidates.tolist(), choice.classes.tolist(), strict=True))
    assert pairs == per_class_slowly(boxes, probabilities, shifts, DETECTRON2)


@pytest.mark.parametrize("config", [CAFFE, DETECTRON2, HF, SMALL])
@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("seed", range(3))
def test_suppression_without_torch_selects_the_same(config, count, seed):
    generator = np.random.default_rng(seed)
    boxes = random_boxes(count, generator)
    probabilities = softmax(3 * generator.standard_normal((count, 9)))
    shifts = generator.uniform(-5, 5, 9).astype(np.float32)
    ours, torchvision = (
        select_regions(make_candidates(boxes, probabilities, shifts, each), config, offset=1.25)
        for each in (nms, suppress)
    )
    for one, other in zip(ours, torchvision, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_candidate_may_be_chosen_as_two_classes():
    probabilities = np.float32([[0.45, 0.5]])
    boxes = np.float32([[0, 0, 9, 9]])
    choice = select_regions(make_candidates(boxes, probabilities), DETECTRON2)
    assert choice.candidates.tolist() == [0, 0]
    assert choice.classes.tolist() == [1, 0]
    assert choice.ranking.tolist() == pytest.approx([0.5, 0.45])


def test_nothing_good_enough_gives_nothing_unless_places_must_be_filled():
    probabilities, boxes = np.float32([[0.05]]), np.float32([[0.0, 0.0, 5.0, 5.0]])
    for config, count in ((SMALL, 0), (DETECTRON2, 0), (CAFFE, 1), (HF, 1)):
        choice = select_regions(make_candidates(boxes, probabilities), config)
        assert len(choice.candidates) == count


def test_pruned_choice_looks_at_few_of_all_pairs_of_region_and_class(monkeypatch):
    """Fails if the pruning is lost; the benchmark measures how much time it saves."""
    generator = np.random.default_rng(7)
    boxes = random_boxes(300, generator, side=300)
    probabilities = softmax(2.5 * generator.standard_normal((300, 1601)))[:, :-1]
    candidates = make_candidates(boxes, np.ascontiguousarray(probabilities))
    looked_at = []
    keep = selection._keep_pairs

    def count(candidates, config, pairs, *rest):
        looked_at.append(len(pairs[0]))
        return keep(candidates, config, pairs, *rest)

    monkeypatch.setattr(selection, "_keep_pairs", count)
    select_regions(candidates, CAFFE, offset=1.0)
    assert 0 < sum(looked_at) < 300 * 1600 / 20


def test_whole_image_is_width_by_height():
    assert whole_image((3, 8)) == (0.0, 0.0, 8.0, 3.0)
