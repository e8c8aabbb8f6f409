"""The detector's extractor: coordinates, batches, files, and messages about invalid input."""

import json
import weakref

import numpy as np
import pytest
import torch
from test_detector import CONFIG, make_detector

from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.padding import pad_batch
from lxmert.regions.preprocess import prepare


@pytest.fixture(scope="module")
def extractor():
    return DetectorExtractor(make_detector())


def random_image(height=64, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(first, second, tolerance=1e-4):
    assert first.image_size == second.image_size
    assert first.found == second.found
    for name in ("object_ids", "attribute_ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name in ("boxes", "features", "object_scores", "attribute_scores"):
        np.testing.assert_allclose(
            getattr(first, name), getattr(second, name), atol=tolerance, rtol=tolerance
        )


def test_regions_have_the_types_of_the_schema(extractor):
    (regions,) = extractor([random_image(90, 70)])
    count = len(regions)
    assert 0 < count <= CONFIG.num_regions
    assert regions.boxes.shape == (count, 4)
    assert regions.features.shape == (count, CONFIG.feature_dim)
    assert regions.attribute_ids.shape == regions.attribute_scores.shape == (count, 2)
    assert regions.object_ids.shape == regions.object_scores.shape == (count,)
    assert {regions.object_ids.dtype, regions.attribute_ids.dtype} == {np.dtype(np.int64)}
    for values in (regions.boxes, regions.features, regions.object_scores):
        assert values.dtype == np.float32
    assert regions.image_size == (90, 70)
    assert regions.found


def test_batch_of_one_is_batch_of_many_whatever_the_sizes(extractor):
    sizes = [(64, 64), (50, 90), (64, 64), (200, 100), (100, 180), (64, 64)]
    images = [random_image(*size, seed=index) for index, size in enumerate(sizes)]
    together = extractor(images)
    assert [regions.image_size for regions in together] == sizes
    for image, regions in zip(images, together, strict=True):
        assert_same(extractor([image])[0], regions)


@pytest.mark.parametrize("size", [(128, 128), (50, 90), (33, 47), (301, 407)])
def test_boxes_are_in_pixels_of_the_original(extractor, size):
    image = random_image(*size, seed=2)
    prepared = prepare(image, CONFIG)
    with torch.inference_mode():
        (found,) = extractor.detector.detect(*pad_batch([prepared]))
    (regions,) = extractor([image])
    np.testing.assert_allclose(
        regions.boxes * prepared.scale,
        found.boxes.clamp(max=max(prepared.scaled_size)),
        atol=1.0,  # rounding of the size may cut at the border
    )
    inner = (found.boxes[:, 2:] < torch.tensor(prepared.scaled_size).flip(0) - 1).all(dim=1)
    assert inner.any()
    np.testing.assert_allclose(
        (regions.boxes * prepared.scale)[inner], found.boxes[inner], rtol=1e-5
    )
    assert (regions.boxes[:, 2:] <= np.array([size[1], size[0]])).all()


@pytest.mark.parametrize("size", [(64, 64), (120, 90)])
def test_given_boxes_are_described_as_if_they_had_been_found(extractor, size):
    images = [random_image(*size, seed=index) for index in range(3)]
    found = extractor(images)
    given = extractor(images, boxes=[regions.boxes for regions in found])
    for one, other in zip(found, given, strict=True):
        assert_same(one, other, tolerance=1e-3)


def test_given_boxes_keep_order_and_count(extractor):
    boxes = np.array([[9, 9, 40, 50], [1, 2, 30, 40], [9, 9, 40, 50]], dtype=np.float32)
    (regions,) = extractor([random_image()], boxes=[boxes.tolist()])
    np.testing.assert_array_equal(regions.boxes, boxes)
    np.testing.assert_allclose(regions.features[0], regions.features[2], atol=1e-6)
    assert np.abs(regions.features[0] - regions.features[1]).max() > 0.01
    assert regions.found


def test_where_nothing_is_found_the_whole_image_stands_in():
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"score_threshold": 0.9999})
    (regions,) = DetectorExtractor(make_detector(config))([random_image(41, 67)])
    assert not regions.found
    assert regions.boxes.tolist() == [[0.0, 0.0, 67.0, 41.0]]
    assert regions.features.shape == (1, CONFIG.feature_dim)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (500, 2)])
def test_tiny_and_thin_images_are_no_problem(extractor, size):
    (regions,) = extractor([random_image(*size)])
    assert len(regions) >= 1
    assert np.isfinite(regions.features).all()


def test_no_images_give_no_regions(extractor):
    assert extractor([]) == []
    assert list(extractor.stream([])) == []


def test_stream_keeps_order_and_names_and_reads_lazily(extractor):
    photos = {
        f"p{index}": random_image(64, 64 + 32 * (index % 2), seed=index) for index in range(5)
    }
    drawn = []

    def images():
        for name, image in photos.items():
            drawn.append(name)
            yield name, image

    stream = extractor.stream(images(), batch_size=2)
    name, regions = next(stream)
    assert name == "p0"
    assert drawn == ["p0", "p1"]
    results = [(name, regions), *stream]
    assert [name for name, _ in results] == list(photos)
    for name, regions in results:
        assert_same(regions, extractor([photos[name]])[0])


def test_saved_extractor_sees_the_same(extractor, tmp_path):
    extractor.save_pretrained(tmp_path / "extractor")
    assert sorted(path.name for path in (tmp_path / "extractor").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = DetectorExtractor.from_pretrained(tmp_path / "extractor")
    assert loaded.fingerprint == extractor.fingerprint
    assert loaded.object_names == ("cup", "hat", "box")
    assert loaded.attribute_names == ("red", "blue", "small", "large", "huge")
    assert_same(loaded([random_image()])[0], extractor([random_image()])[0], tolerance=0)


def test_a_released_detector_is_read_again(tmp_path):
    """A detector that was changed for inference, as those of published weights are."""
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"norm": "frozen"})
    DetectorExtractor(make_detector(config)).save_pretrained(tmp_path)
    loaded = DetectorExtractor.from_pretrained(tmp_path)
    expected, first = loaded([random_image()])[0], weakref.ref(loaded._fast)
    loaded.release()
    assert first() is None
    assert loaded.object_names == CONFIG.object_names
    assert_same(loaded.to("cpu")([random_image()])[0], expected, tolerance=0)


def test_a_detector_without_a_folder_is_not_released(extractor):
    extractor.release()
    assert len(extractor([random_image()])) == 1


def test_fingerprint_tells_weights_and_settings_apart(extractor):
    fingerprint = extractor.fingerprint
    assert fingerprint == DetectorExtractor(make_detector()).fingerprint
    assert fingerprint != DetectorExtractor(make_detector(seed=1)).fingerprint
    config = DetectorConfig.from_dict(CONFIG.to_dict() | {"nms_threshold": 0.375})
    assert fingerprint != DetectorExtractor(make_detector(config)).fingerprint


def test_half_precision_finds_about_the_same(extractor):
    half = DetectorExtractor(extractor.detector, precision="bf16")
    boxes = [np.array([[9.0, 9.0, 40.0, 50.0]])]
    full, rough = (each([random_image()], boxes=boxes)[0].features for each in (extractor, half))
    assert 0 < np.abs(full - rough).max() < 0.05 * np.abs(full).max()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(extractor, tmp_path, name):
    extractor.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}; expected a region extractor"):
        DetectorExtractor.from_pretrained(tmp_path)


def test_weights_of_another_configuration_are_refused(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"feature_dim": 24}))
    with pytest.raises(ValueError, match=r"do not fit the config.json next to them"):
        DetectorExtractor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "boxes",
    [
        [[0, 0, 65, 10]],  # beyond the right border
        [[-1, 0, 10, 10]],
        [[5, 5, 5, 10]],  # no width
        [[0, 0, 10]],
        [],
        [[0, 0, np.nan, 10]],
    ],
)
def test_wrong_boxes_are_refused(extractor, boxes):
    with pytest.raises(ValueError, match=r"expected \[boxes, 4\] with 0 <= x1 < x2 <= 64"):
        extractor([random_image()], boxes=[boxes])


def test_wrong_calls_are_refused(extractor):
    with pytest.raises(ValueError, match=r"got one str; .*extractor\(\[image\]\)\[0\]"):
        extractor("image.png")
    with pytest.raises(ValueError, match="got 2 images and boxes for 1"):
        extractor([random_image(), random_image()], boxes=[np.ones((1, 4))])


def test_detector_is_ready_to_look(extractor):
    assert not extractor.detector.training
    assert isinstance(extractor.detector, Detector)


def test_a_folded_detector_from_a_folder_is_read_again(tmp_path):
    """Bug: the published detector was kept twice in memory, before and after folding."""
    config = CONFIG.replace(norm="frozen")
    made = DetectorExtractor(Detector(config))
    made.save_pretrained(tmp_path / "first")
    loaded = DetectorExtractor.from_pretrained(tmp_path / "first")
    image = random_image()
    assert_same(made([image])[0], loaded([image])[0])
    assert loaded.fingerprint == made.fingerprint
    loaded.save_pretrained(tmp_path / "second")
    for name, value in made.detector.state_dict().items():
        assert torch.equal(value, loaded.detector.state_dict()[name]), name
    assert DetectorExtractor.from_pretrained(tmp_path / "second").fingerprint == made.fingerprint
