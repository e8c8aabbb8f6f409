"""The complete detector: losses of unusual images, gradients, batches, parameter names."""

import pytest
import torch

from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import LOSSES, Detector

CONFIG = DetectorConfig(
    object_names=("cup", "hat", "box"),
    attribute_groups={"color": ("red", "blue"), "size": ("small", "large", "huge")},
    stem_width=4,
    stage_inner_widths=(4, 8, 8),
    stage_widths=(4, 8, 8),
    head_inner_width=8,
    feature_dim=16,
    embedding_dim=3,
    attribute_dim=8,
    proposals=12,
    region_samples=8,
    anchor_samples=16,
    shorter_side=64,
    longer_side=96,
    score_threshold=0.5,
)


def make_detector(config=CONFIG, seed=0):
    """Random weights with spread-out scores and statistics, as if something had been learned."""
    torch.manual_seed(seed)
    detector = Detector(config)
    predictor = detector.roi_heads.box_predictor
    torch.nn.init.normal_(predictor.cls_score.weight, std=0.5)
    torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.5)
    torch.nn.init.normal_(detector.proposal_generator.rpn_head.objectness_logits.weight, std=0.5)
    return detector


def make_batch(num_objects=(2, 1)):
    torch.manual_seed(1)
    targets = {
        "boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(num_objects), 3, 1),
        "object_ids": torch.full((len(num_objects), 3), -1),
        "attribute_ids": torch.full((len(num_objects), 3, 2), -1),
    }
    for image, count in enumerate(num_objects):
        corners = torch.rand(count, 2) * 30
        targets["boxes"][image, :count] = torch.cat([corners, corners + 20], dim=1)
        targets["object_ids"][image, :count] = torch.randint(0, 3, (count,))
        targets["attribute_ids"][image, :count] = torch.tensor([1, 2])
    return {
        "pixel_values": torch.randn(len(num_objects), 3, 64, 64),
        "image_sizes": torch.tensor([[64, 64]] * len(num_objects)),
        "targets": targets,
    }


def test_losses_have_the_names_of_the_list():
    losses = make_detector()(**make_batch())
    assert tuple(losses) == LOSSES
    assert all(loss.shape == () and loss.isfinite() and loss > 0 for loss in losses.values())


def test_every_parameter_gets_a_gradient():
    detector = make_detector()
    sum(detector(**make_batch()).values()).backward()
    without = [name for name, value in detector.named_parameters() if value.grad is None]
    assert without == []
    assert all(value.grad.isfinite().all() for value in detector.parameters())


@pytest.mark.parametrize("num_objects", [(0,), (0, 0), (0, 2), (3, 0, 1)])
def test_images_without_objects_give_finite_losses_and_gradients(num_objects):
    detector = make_detector()
    losses = detector(**make_batch(num_objects))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(value.grad.isfinite().all() for value in detector.parameters())
    if not any(num_objects):
        assert losses["box"] == losses["rpn_box"] == losses["attribute"] == 0
        assert losses["object"] > 0  # background has to be learned from it


def test_unknown_attributes_change_no_other_loss():
    detector, batch = make_detector(), make_batch()
    torch.manual_seed(3)
    known = detector(**batch)
    batch["targets"]["attribute_ids"][..., 1] = -1
    torch.manual_seed(3)
    unknown = detector(**batch)
    assert unknown["attribute"] < known["attribute"]
    for name in LOSSES[:-1]:
        torch.testing.assert_close(unknown[name], known[name])


def test_same_seed_gives_the_same_losses():
    detector, batch = make_detector(), make_batch()
    results = []
    for _ in range(2):
        torch.manual_seed(8)
        results.append(torch.stack(list(detector(**batch).values())))
    assert torch.equal(*results)


def test_detector_without_attributes_has_no_attribute_head():
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"attribute_groups": {}})
    detector, batch = make_detector(config), make_batch()
    batch["targets"]["attribute_ids"] = batch["targets"]["attribute_ids"][..., :0]
    assert tuple(detector(**batch)) == LOSSES[:-1]
    assert not any("attr" in name for name in detector.state_dict())
    found = detector.eval()(batch["pixel_values"], batch["image_sizes"])
    assert found[0].description.attribute_ids.shape == (len(found[0].boxes), 0)


@torch.inference_mode()
def test_each_image_of_a_batch_is_seen_as_if_alone():
    detector, batch = make_detector().eval(), make_batch((0,) * 5)
    together = detector(batch["pixel_values"], batch["image_sizes"])
    assert len({len(found.boxes) for found in together}) > 1  # otherwise too easy
    for image, found in enumerate(together):
        (alone,) = detector(
            batch["pixel_values"][image : image + 1], batch["image_sizes"][image : image + 1]
        )
        torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-3, rtol=1e-4)
        for name, values in vars(found.description).items():
            torch.testing.assert_close(
                values, getattr(alone.description, name), atol=1e-4, rtol=1e-4
            )


@torch.inference_mode()
def test_regions_obey_the_configuration():
    threshold = 0.95  # in the middle of what these weights give
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"score_threshold": threshold})
    detector, batch = make_detector(config).eval(), make_batch((0,) * 5)
    everything = detector.detect(**without_targets(batch), score_threshold=0.0)
    for found, ranked in zip(detector(**without_targets(batch)), everything, strict=True):
        kept = int((ranked.ranking >= threshold).sum())
        assert 0 < kept < len(ranked.boxes) <= CONFIG.proposals
        torch.testing.assert_close(found.boxes, ranked.boxes[:kept])  # the threshold only cuts
        assert (found.ranking.diff() <= 0).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= 64).all()


@torch.inference_mode()
def test_where_nothing_is_found_the_whole_image_stands_in():
    detector, batch = make_detector().eval(), make_batch((0,))
    sizes = torch.tensor([[64, 40]])
    (found,) = detector.detect(batch["pixel_values"], sizes, score_threshold=0.999)
    assert not found.found
    assert found.boxes.tolist() == [[0.0, 0.0, 40.0, 64.0]]
    assert found.ranking.tolist() == [0.0]
    assert found.description.features.shape == (1, CONFIG.feature_dim)


@torch.inference_mode()
def test_describing_the_boxes_that_were_found_says_the_same():
    detector, batch = make_detector().eval(), make_batch((0, 0))
    found = detector(**without_targets(batch))
    described = detector.describe(batch["pixel_values"], [part.boxes for part in found])
    for part, description in zip(found, described, strict=True):
        for name, values in vars(part.description).items():
            torch.testing.assert_close(values, getattr(description, name))


@torch.inference_mode()
def test_attributes_are_chosen_within_their_group():
    detector, batch = make_detector().eval(), make_batch((0, 0))
    boxes = [torch.tensor([[2.0, 2.0, 40.0, 30.0]])] * 2
    for description in detector.describe(batch["pixel_values"], boxes):
        assert description.attribute_ids[0, 0] in (0, 1)
        assert description.attribute_ids[0, 1] in (2, 3, 4)
        assert description.attribute_scores[0, 0] >= 1 / 2
        assert description.attribute_scores[0, 1] >= 1 / 3


def test_frozen_norms_are_not_trained_but_take_trained_weights():
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"norm": "frozen"})
    frozen, trained = make_detector(config), make_detector()
    assert not any("norm" in name for name, _ in frozen.named_parameters())
    with torch.no_grad():
        trained(**make_batch())  # moves the stored statistics away from 0 and 1
    frozen.load_state_dict(trained.state_dict())
    pixels = make_batch()["pixel_values"]
    torch.testing.assert_close(
        frozen.train().backbone(pixels), trained.eval().backbone(pixels), atol=1e-5, rtol=1e-4
    )


def test_half_precision_touches_convolutions_but_not_boxes_and_scores():
    detector, batch = make_detector(), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector(**batch)
        with torch.inference_mode():
            found = detector.eval()(**without_targets(batch))[0]
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    floats = (found.boxes, found.ranking, found.description.features)
    assert all(values.dtype == torch.float32 for values in floats)
    assert found.description.object_scores.dtype == torch.float32
    assert found.description.attribute_scores.dtype == torch.float32


def test_parameters_have_the_names_of_the_published_detector():
    names = set(make_detector().state_dict())
    for name in (
        "backbone.stem.conv1.weight",
        "backbone.stem.conv1.norm.running_mean",
        "backbone.res2.0.conv1.norm.weight",
        "backbone.res3.0.shortcut.weight",
        "backbone.res4.1.conv2.weight",
        "proposal_generator.rpn_head.conv.weight",
        "proposal_generator.rpn_head.objectness_logits.bias",
        "proposal_generator.rpn_head.anchor_deltas.weight",
        "roi_heads.res5.0.conv1.weight",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.box_predictor.cls_embedding.weight",
        "roi_heads.box_predictor.fc_attr.weight",
        "roi_heads.box_predictor.attr_score.bias",
    ):
        assert name in names


def without_targets(batch):
    return {name: batch[name] for name in ("pixel_values", "image_sizes")}
