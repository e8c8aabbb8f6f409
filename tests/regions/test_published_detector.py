"""A small version of the published detector: region selection, exact batches, the fast copy."""

import base64
import csv
import sys

import numpy as np
import pytest
import torch
from conftest import ASSETS

from lxmert import boxes as box_arithmetic
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.inference import computing, make_fast
from lxmert.regions.padding import pad_batch
from lxmert.regions.preprocess import prepare

ROWS = ASSETS / "train2014_obj36_boxes.tsv"
OBJECTS = [f"object {index}" for index in range(30)]
PRESETS = ("caffe", "detectron2", "hf")

# The published geometry with fewer blocks and channels, and images of a third of the side; what
# is not listed is the preset's own.
SMALLER = {
    "stem_width": 16,
    "stage_depths": (1, 2, 2),
    "stage_inner_widths": (8, 16, 16),
    "stage_widths": (32, 48, 64),
    "proposal_width": 32,
    "head_inner_width": 32,
    "feature_dim": 96,
    "embedding_dim": 8,
    "attribute_dim": 24,
    "shorter_side": 208,
    "longer_side": 336,
    "anchor_sizes": (24.0, 48.0, 96.0, 160.0),
}


def make_config(name="caffe", **settings):
    config = DetectorConfig.preset(
        name, object_names=OBJECTS, attribute_names=("red", "old", "wet")
    )
    return config.replace(**(SMALLER | settings))


def make_detector(name="caffe", seed=0, **settings):
    """Return random weights with spread-out boxes and scores and trained-like statistics."""
    torch.manual_seed(seed)
    detector = Detector(make_config(name, **settings)).eval()
    for module in detector.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(std=0.25)
            module.bias.data.normal_(std=0.25)
    head = detector.proposal_generator.rpn_head
    head.objectness_logits.weight.data.normal_(std=0.1)
    head.anchor_deltas.weight.data.normal_(std=0.01)
    predictor = detector.roi_heads.box_predictor
    predictor.cls_score.weight.data.normal_(std=0.03)
    predictor.bbox_pred.weight.data.normal_(std=0.1)
    predictor.attr_score.weight.data.normal_(std=0.05)
    return detector


def random_image(height, width, seed=0):
    """Return images of smooth blobs; noise would look the same everywhere."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (1, 3, 7, 9))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(height, width), mode="bicubic"
    )
    return smooth[0].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


def read_rows():
    csv.field_size_limit(sys.maxsize)
    with ROWS.open() as file:
        for row in csv.reader(file, delimiter="\t"):
            boxes = np.frombuffer(base64.b64decode(row[8]), np.float32).reshape(-1, 4)
            objects = np.frombuffer(base64.b64decode(row[4]), np.float32)
            yield (int(row[1]), int(row[2])), boxes, objects


def check_shape_of_rows(image_size, boxes, config):
    """The original returns unrefined proposals of the resized image."""
    prepared = prepare(np.zeros((*image_size, 3), np.uint8), config)
    height, width = prepared.scaled_size
    scaled = boxes * np.float32(prepared.scale)
    assert scaled.min() >= 0
    assert scaled[:, 2].max() <= width - 1 + 1e-3
    assert scaled[:, 3].max() <= height - 1 + 1e-3
    sides = scaled[:, 2:] - scaled[:, :2] + 1
    assert sides.min() >= 16 * prepared.scale - 1e-3  # 16 pixels of the original
    extended = scaled + np.float32([0, 0, 1, 1])
    overlaps = box_arithmetic.iou(extended, extended)[~np.eye(len(boxes), dtype=bool)]
    assert overlaps.max() < 0.7
    return scaled[:, 2].max() > width - 1 - 1e-3 or scaled[:, 3].max() > height - 1 - 1e-3


def test_rows_of_the_original_have_the_shape_that_is_asked_of_ours():
    rows = list(read_rows())
    assert len(rows) == 10
    config = DetectorConfig.preset("caffe", object_names=OBJECTS)
    at_the_edge = [check_shape_of_rows(size, boxes, config) for size, boxes, _ in rows]
    assert all(at_the_edge)
    # Rows are in the order of the score by which they survived, which is not the one they carry.
    descending = [(np.diff(scores) <= 0).mean() for _, _, scores in rows]
    assert 0.5 < min(descending) < max(descending) < 1.0


def test_ours_have_the_shape_of_the_rows_of_the_original():
    extractor = DetectorExtractor(make_detector())
    touched = []
    for seed, size in enumerate([(480, 640), (407, 640), (500, 333)]):
        (regions,) = extractor([random_image(*size, seed=seed)])
        assert len(regions) == 36
        config = extractor.detector.config
        touched.append(check_shape_of_rows(size, regions.boxes, config))
        assert regions.features.shape == (36, 96)
        assert (regions.features >= 0).all()
        assert regions.attribute_ids.shape == (36, 1)
    assert any(touched)


def test_regions_are_ordered_by_the_score_by_which_they_survived():
    detector = make_detector()
    prepared = prepare(random_image(300, 420), detector.config)
    with torch.inference_mode():
        (found,) = detector.detect(
            *pad_batch([prepared]),
            scales=torch.tensor([prepared.scale]),
            num_regions=(150, 150),  # so many that some were dropped as their best class
        )
    assert (found.ranking.diff() <= 0).all()
    assert (found.ranking <= found.description.object_scores).all()
    assert (found.ranking < found.description.object_scores).any()
    assert (found.description.object_scores.diff() > 0).any()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_finds_regions(name):
    (regions,) = DetectorExtractor(make_detector(name, score_threshold=0.01))(
        [random_image(240, 300)]
    )
    assert regions.found
    assert 0 < len(regions) <= 36
    assert np.isfinite(regions.features).all()
    assert (regions.boxes >= 0).all()
    assert (regions.boxes <= np.float32([300, 240, 300, 240])).all()


def test_ports_hand_over_refined_boxes_with_the_feature_of_the_proposal():
    detector = make_detector("hf")
    prepared = prepare(random_image(240, 300), detector.config)
    arguments = pad_batch([prepared])
    with torch.inference_mode():
        (refined,) = detector.detect(*arguments)
        detector.config = detector.config.replace(output_boxes="proposal")
        (proposals,) = detector.detect(*arguments)
        (again,) = detector.describe(arguments[0], [proposals.boxes])
    assert torch.equal(refined.description.features, proposals.description.features)
    torch.testing.assert_close(again.features, proposals.description.features)
    assert (refined.boxes - proposals.boxes).abs().max() > 1.0


def test_attribute_none_takes_part_or_not():
    """The original's softmax includes "none"; the ports exclude it."""
    counted, ignored = make_detector("caffe"), make_detector("caffe", attribute_none="ignored")
    prepared = prepare(random_image(240, 300), counted.config)
    pixels = torch.from_numpy(prepared.pixel_values)[None]
    boxes = [torch.tensor([[9.0, 9.0, 90.0, 120.0]])]
    with torch.inference_mode():
        (first,) = counted.describe(pixels, boxes)
        (second,) = ignored.describe(pixels, boxes)
        features = first.features
        heads = counted.roi_heads
        classes = heads.classify(features).argmax(dim=1)  # background included
        embedded = heads.box_predictor.cls_embedding(classes)
        hidden = heads.box_predictor.fc_attr(torch.cat([features, embedded], dim=1)).relu()
        logits = heads.box_predictor.attr_score(hidden)[0]
    assert logits.shape == (4,)
    expected = logits.softmax(dim=0)[:3].max()
    torch.testing.assert_close(first.attribute_scores[0, 0], expected)
    torch.testing.assert_close(
        second.attribute_scores[0, 0], logits[:3].softmax(dim=0).max(), atol=1e-6, rtol=1e-5
    )
    assert first.attribute_ids.tolist() == second.attribute_ids.tolist()
    assert first.attribute_scores.item() < second.attribute_scores.item() - 0.001


def test_each_class_moves_the_box_in_its_own_way():
    detector = make_detector("hf")
    predictor = detector.roi_heads.box_predictor
    features = torch.randn(4, 96)
    deltas = predictor.deltas(features)
    assert deltas.shape == (4, 30, 4)
    chosen = predictor.deltas_of(deltas, torch.tensor([0, 3]), torch.tensor([7, 29]))
    flat = predictor.bbox_pred(features)
    assert torch.equal(chosen, torch.stack([flat[0, 28:32], flat[3, 116:120]]))


def make_batch(config):
    images = [
        prepare(random_image(*size, seed=seed), config)
        for seed, size in enumerate([(300, 400), (400, 300), (208, 336), (90, 400), (210, 210)])
    ]
    values, sizes = pad_batch(images)
    return values, sizes, torch.tensor([part.scale for part in images])


def compare_with_single(detector, batch, check):
    """Detect five images of five sizes together and one by one."""
    values, sizes, scales = batch
    together = detector.detect(values, sizes, scales=scales)
    assert len({tuple(size) for size in sizes.tolist()}) == 5
    for image, found in enumerate(together):
        height, width = sizes[image].tolist()
        (alone,) = detector.detect(
            values[image : image + 1, :, :height, :width].contiguous(),
            sizes[image : image + 1],
            scales=scales[image : image + 1],
        )
        assert found.found == alone.found
        check(found.boxes, alone.boxes)
        check(found.ranking, alone.ranking)
        for name, part in vars(found.description).items():
            check(part, getattr(alone.description, name))


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
@torch.inference_mode()
def test_padded_batches_are_single_images_bit_for_bit(name):
    detector = make_detector(name, score_threshold=0.01)

    def check(joined, alone):
        assert torch.equal(joined, alone)

    with computing("exact"):
        compare_with_single(make_fast(detector, "exact"), make_batch(detector.config), check)


@pytest.mark.long
@torch.inference_mode()
def test_padded_batches_of_the_fast_copy_are_single_images_within_rounding():
    detector = make_detector()

    def check(joined, alone):
        torch.testing.assert_close(joined, alone, atol=1e-3, rtol=1e-5)

    compare_with_single(make_fast(detector, "fp32"), make_batch(detector.config), check)


@torch.inference_mode()
def test_fast_copy_gives_the_features_of_the_detector():
    detector = make_detector()
    fast = make_fast(detector, "fp32")
    assert not any("norm" in name for name in fast.state_dict())
    assert all("norm" in name or name in fast.state_dict() for name in detector.state_dict())
    values, sizes, _ = make_batch(detector.config)
    boxes = [torch.tensor([[9.0, 9.0, 90.0, 120.0], [0.0, 0.0, 60.0, 60.0]])] * len(values)
    pairs = zip(
        detector.describe(values, boxes, sizes), fast.describe(values, boxes, sizes), strict=True
    )
    for slow, quick in pairs:
        largest = slow.features.abs().max()
        assert (slow.features - quick.features).abs().max() <= 1e-5 * largest
        assert torch.equal(slow.object_ids, quick.object_ids)


@pytest.mark.long
@torch.inference_mode()
def test_half_precision_keeps_scores_and_boxes_in_full():
    detector = make_detector()
    half = make_fast(detector, "bf16")
    assert half.backbone.stem.conv1.weight.dtype == torch.bfloat16
    assert half.proposal_generator.rpn_head.conv.weight.dtype == torch.float32
    values, sizes, scales = (part[:2] for part in make_batch(detector.config))
    for found in half.detect(values, sizes, scales=scales):
        for part in (found.boxes, found.ranking, *vars(found.description).values()):
            assert part.dtype in (torch.float32, torch.int64)
    boxes = [torch.tensor([[9.0, 9.0, 90.0, 120.0]])] * len(values)
    pairs = zip(
        detector.describe(values, boxes, sizes), half.describe(values, boxes, sizes), strict=True
    )
    for full, rough in pairs:
        similarity = torch.nn.functional.cosine_similarity(full.features, rough.features)
        assert similarity.item() > 0.999


def test_copies_leave_the_detector_as_it_was():
    detector = make_detector()
    before = {name: values.clone() for name, values in detector.state_dict().items()}
    extractor = DetectorExtractor(detector)
    fingerprint = extractor.fingerprint
    for precision in ("fp32", "bf16", "exact"):
        other = DetectorExtractor(detector, precision=precision)
        assert other.fingerprint == fingerprint
    for name, values in detector.state_dict().items():
        assert torch.equal(values, before[name])
    with pytest.raises(ValueError, match="precision is 'fp16'; expected 'exact', 'fp32' or 'bf16'"):
        DetectorExtractor(detector, precision="fp16")


def test_number_of_regions_is_chosen_at_the_call():
    extractor = DetectorExtractor(make_detector())
    image = random_image(300, 400)
    (most,) = extractor([image], num_regions=300)
    (some,) = extractor([image], num_regions=(3, 9))
    (one,) = extractor([image], num_regions=1)
    assert 36 < len(most) <= 300  # as many as there are proposals
    assert 3 <= len(some) <= 9
    np.testing.assert_array_equal(one.boxes, most.boxes[:1])
    np.testing.assert_array_equal(some.boxes, most.boxes[: len(some)])
    streamed = dict(extractor.stream([("a", image)], num_regions=5))
    assert len(streamed["a"]) == 5
    for wrong in (0, -8, 301, (9, 3), (0, 0)):
        with pytest.raises(ValueError, match=r"num_regions is .*expected a number from 1 to 300"):
            extractor([image], num_regions=wrong)


@pytest.mark.parametrize("count", [1, 35])
def test_fewer_proposals_than_regions_give_fewer_regions(count):
    (regions,) = DetectorExtractor(make_detector(proposals=count))([random_image(240, 300)])
    assert len(regions) == count
    assert regions.found


@pytest.mark.parametrize("name", PRESETS)
def test_no_proposal_gives_the_whole_image(name):
    detector = make_detector(name, proposal_min_side=1e6)
    together = DetectorExtractor(detector)([random_image(240, 300), random_image(240, 300, seed=1)])
    for regions in together:
        assert not regions.found
        assert regions.boxes.tolist() == [[0.0, 0.0, 300.0, 240.0]]
        assert regions.features.shape == (1, 96)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 3), (2, 2)])
@pytest.mark.parametrize("name", PRESETS)
def test_tiny_and_very_wide_images_are_no_problem(name, size):
    image = np.full((*size, 3), 200, np.uint8)
    (regions,) = DetectorExtractor(make_detector(name))([image])
    assert len(regions) >= 1
    assert np.isfinite(regions.features).all()


def test_given_boxes_need_no_proposals():
    extractor = DetectorExtractor(make_detector(proposal_min_side=1e6))
    boxes = np.float32([[9, 9, 120, 90], [0, 0, 300, 240], [9, 9, 120, 90]])
    (regions,) = extractor([random_image(240, 300)], boxes=[boxes])
    np.testing.assert_array_equal(regions.boxes, boxes)
    np.testing.assert_array_equal(regions.features[0], regions.features[2])


def test_chunks_of_regions_change_nothing(monkeypatch):
    detector = make_detector()
    image, boxes = random_image(240, 300), [np.float32([[9, 9, 120, 90], [0, 0, 300, 240]] * 9)]
    extractor = DetectorExtractor(detector, precision="exact")
    (together,) = extractor([image], boxes=boxes)
    monkeypatch.setattr("lxmert.regions.heads.CHUNK_BYTES", {"cpu": 1})
    (one_by_one,) = extractor([image], boxes=boxes)
    np.testing.assert_array_equal(together.features, one_by_one.features)


def test_published_geometry_is_trainable():
    detector = make_detector().train()
    targets = {
        "boxes": torch.tensor([[[20.0, 20.0, 90.0, 120.0], [0.0, 0.0, 1.0, 1.0]]] * 2),
        "object_ids": torch.tensor([[3, -1], [29, -1]]),
        "attribute_ids": torch.tensor([[[2], [-1]], [[-1], [-1]]]),
    }
    losses = detector(torch.randn(2, 3, 160, 208), torch.tensor([[160, 208], [130, 208]]), targets)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    without = [name for name, value in detector.named_parameters() if value.grad is None]
    assert without == []


@pytest.mark.slow
def test_published_geometry_at_full_size_finds_regions():
    torch.manual_seed(0)
    config = DetectorConfig.preset(
        "caffe",
        object_names=[f"object {index}" for index in range(1600)],
        attribute_names=[f"attribute {index}" for index in range(400)],
    )
    (regions,) = DetectorExtractor(Detector(config))([random_image(333, 500)], num_regions=(10, 36))
    assert 10 <= len(regions) <= 36
    assert regions.features.shape == (len(regions), 2048)
    assert np.isfinite(regions.features).all()
