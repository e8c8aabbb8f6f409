"""Torchvision detectors as region extractors, compared with torchvision's own detections."""

import numpy as np
import pytest
import torch
import torchvision

from lxmert import TorchvisionExtractor
from lxmert.regions.torchvision_detector import DETECTORS

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
OBJECTS = ("mug", "ball", "car")
SIZES = {"shorter_side": 64, "longer_side": 96}
OPTIONS = {"object_names": OBJECTS, "score_threshold": 0.0, "num_regions": 7, **SIZES}


def random_image(height, width, seed=0):
    coarse = np.random.default_rng(seed).uniform(0, 255, (1, 3, 5, 7))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(height, width), mode="bicubic"
    )
    return smooth[0].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def reference():
    """Return a torchvision detector with spread-out boxes and trained-like statistics."""
    torch.manual_seed(4)
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=64,
        max_size=96,
        box_score_thresh=0.0,
        box_detections_per_img=7,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.1)
    model.roi_heads.box_predictor.cls_score.weight.data.normal_(std=0.2)
    model.roi_heads.box_predictor.bbox_pred.weight.data.normal_(std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def path(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(path):
    return TorchvisionExtractor.from_torchvision(NAME, weights=path, **OPTIONS)


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (133, 47), (20, 20)])
def test_regions_are_torchvisions_detections_with_its_vectors(extractor, reference, size):
    image = random_image(*size)
    (regions,) = extractor([image])
    values = torch.from_numpy(image).permute(2, 0, 1) / 255
    with torch.no_grad():
        (expected,) = reference([values])
        resized, _ = reference.transform([values])
        ((height, width),) = resized.image_sizes
        scale = torch.tensor([width / size[1], height / size[0]]).repeat(2)
        pooled = reference.roi_heads.box_roi_pool(
            reference.backbone(resized.tensors), [expected["boxes"] * scale], resized.image_sizes
        )
        vectors = reference.roi_heads.box_head(pooled)
    assert regions.found
    assert len(regions) == 7
    np.testing.assert_allclose(regions.boxes, expected["boxes"], atol=1e-3)
    np.testing.assert_array_equal(regions.object_ids, expected["labels"] - 1)
    np.testing.assert_allclose(regions.object_scores, expected["scores"], atol=1e-6)
    np.testing.assert_allclose(regions.features, vectors, atol=1e-4)
    assert (np.diff(regions.object_scores) <= 0).all()
    assert regions.features.shape == (7, extractor.feature_dim) == (7, 1024)


def test_the_whole_image_stands_in_where_nothing_is_found(path):
    extractor = TorchvisionExtractor.from_torchvision(
        NAME, weights=path, **OPTIONS | {"score_threshold": 0.9999}
    )
    (regions,) = extractor([random_image(50, 90)])
    assert not regions.found
    assert regions.boxes.tolist() == [[0, 0, 90, 50]]
    assert regions.features.shape == (1, 1024)
    assert 0 <= regions.object_ids[0] < 3
    assert 0 < regions.object_scores[0] < 1


def test_a_strip_that_resizing_would_leave_without_a_pixel_is_seen(extractor):
    """Torchvision fails on this image: 96 / 2000 of a pixel rounds to none."""
    for size in ((1, 2000), (2000, 1)):
        (regions,) = extractor([random_image(*size)])
        assert regions.image_size == size
        assert (regions.boxes <= np.float32([size[1], size[0]] * 2)).all()


def test_without_names_the_classes_are_cocos():
    extractor = TorchvisionExtractor.from_torchvision(NAME, **SIZES)
    assert len(extractor.object_names) == 90
    assert extractor.object_names[0] == "person"
    assert extractor.object_names[17] == "dog"
    assert extractor.config.score_threshold == 0.05
    assert extractor.config.num_regions == 36


def test_weights_of_other_classes_ask_for_their_names(path):
    with pytest.raises(ValueError, match=r"with 90 classes beside .*object_names=\[\.\.\.\]"):
        TorchvisionExtractor.from_torchvision(NAME, weights=path)


def test_a_detector_without_vectors_is_refused():
    for name in ("ssd300_vgg16", "bogus", "resnet50"):
        with pytest.raises(ValueError, match=f"the detector is '{name}'; expected a torchvision"):
            TorchvisionExtractor.from_torchvision(name)
    with pytest.raises(ValueError, match="num_regions: got 0"):
        TorchvisionExtractor.from_torchvision(NAME, num_regions=0)


def test_recomfixed_weights_are_fetched_and_checked(reference, monkeypatch):
    enum = torchvision.models.detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights
    asked = {}

    def fetch(self, **options):
        asked[self] = options
        # As published: the norms were frozen, and have no counters.
        state = reference.state_dict()
        return {name: state[name] for name in state if "num_batches" not in name}

    monkeypatch.setattr(enum, "get_state_dict", fetch)
    extractor = TorchvisionExtractor.from_torchvision(NAME, weights="DEFAULT", **OPTIONS)
    assert asked == {enum.DEFAULT: {"progress": False, "check_hash": True, "weights_only": True}}
    image = random_image(50, 90)
    with torch.no_grad():
        (expected,) = reference([torch.from_numpy(image).permute(2, 0, 1) / 255])
    np.testing.assert_allclose(extractor([image])[0].boxes, expected["boxes"], atol=1e-3)


@pytest.mark.parametrize("name", DETECTORS)
def test_sizes_and_norms_are_torchvisions_for_its_own_weights(name, monkeypatch):
    """For one of its files torchvision sets the epsilon of the norms to 0."""
    seen = {}
    module = torchvision.models.detection.faster_rcnn
    builder = getattr(module, name)
    enum = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: seen)
    monkeypatch.setattr(module.FasterRCNN, "load_state_dict", lambda self, state, **options: None)
    model = builder(weights=enum.DEFAULT, weights_backbone=None)
    norms = {
        part.eps
        for part in model.modules()
        if isinstance(part, torch.nn.BatchNorm2d | torchvision.ops.FrozenBatchNorm2d)
    }
    defaults = DETECTORS[name]
    assert norms == {defaults.norm_epsilon}
    assert model.transform.min_size == (defaults.shorter_side,)
    assert model.transform.max_size == defaults.longer_side
