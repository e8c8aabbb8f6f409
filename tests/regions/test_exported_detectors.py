"""The published detector's geometry in exported graphs, compared with the PyTorch detector."""

import numpy as np
import pytest
import torch

from lxmert.exported import EXTRACTOR, HEADS_GRAPH, TRUNK_GRAPH
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.exported import ExportedDetector, ExportedDetectorConfig
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.inference import make_fast
from lxmert.runtimes import open_graph, supports
from lxmert.workflows.graphs import export_detector

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytestmark = pytest.mark.slow

NARROW = {
    "stem_width": 8,
    "stage_inner_widths": (8, 8, 8),
    "stage_widths": (16, 16, 16),
    "stage_depths": (1, 2, 1),
    "head_depth": 2,
    "head_inner_width": 8,
    "feature_dim": 24,
    "shorter_side": 101,
    "longer_side": 170,
    "proposals": 40,
    "num_regions": 12,
    "min_regions": 5,
}
PRESETS = ("caffe", "detectron2", "hf")


def make_detector(preset, **settings):
    """Return a narrow detector of the published geometry with random weights and norms."""
    torch.manual_seed(8)
    names = [f"object {index}" for index in range(30)]
    config = DetectorConfig.preset(preset, object_names=names, attribute_names=["red", "tall"])
    detector = Detector(config.replace(**NARROW | settings)).eval()
    for module in detector.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return detector


@pytest.fixture(scope="module", params=PRESETS)
def exported(request, tmp_path_factory):
    """A detector, and the folder of its graphs."""
    detector = make_detector(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    export_detector(make_fast(detector, "fp32"), folder)
    return detector, folder


def open_detector(folder, runtime, precision="fp32"):
    return ExportedDetector(
        ExportedDetectorConfig.from_file(folder / EXTRACTOR),
        open_graph(folder / TRUNK_GRAPH, runtime, precision=precision),
        open_graph(folder / HEADS_GRAPH, runtime, precision=precision),
        fingerprint="",
        precision=precision,
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_published_detector_finds_the_same_regions(exported, runtime):
    """A stem that pools incomplete windows, and RoIPool, had no graph."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    detector, folder = exported
    found = open_detector(folder, runtime)
    generator = np.random.default_rng(3)
    # Sides of every remainder by 4, so that the last windows are complete and incomplete.
    images = [
        generator.integers(0, 256, (60 + extra, 75 - extra, 3), dtype=np.uint8)
        for extra in range(4)
    ]
    for one, other in zip(DetectorExtractor(detector)(images), found(images), strict=True):
        assert len(one) >= 5
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.01)
        np.testing.assert_array_equal(other.object_ids, one.object_ids)
        scale = np.abs(one.features).max()
        np.testing.assert_allclose(other.features, one.features, atol=1e-5 * scale)


@pytest.mark.parametrize("pooling", ["pool", "align"])
def test_bfloat16_keeps_the_places_of_boxes(tmp_path, pooling):
    """OpenVINO rounded the corners of boxes to 8 bits: to multiples of 4 beyond 512 pixels."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    if not supports("openvino", "bf16"):
        pytest.skip("this processor does not compute bfloat16")
    detector = make_detector("caffe", pooling=pooling, shorter_side=505, longer_side=850)
    export_detector(make_fast(detector, "fp32"), tmp_path)
    generator = np.random.default_rng(4)
    image = generator.integers(0, 256, (505, 850, 3), dtype=np.uint8)
    corners = generator.uniform(0, (800, 450), (60, 2))
    boxes = np.hstack([corners, corners + generator.uniform(8, 40, (60, 2))]).astype(np.float32)
    expected = DetectorExtractor(detector)([image], boxes=[boxes])[0].features
    found = open_detector(tmp_path, "openvino", "bf16").features(image, boxes)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    assert ((expected * found).sum(axis=1) / norms).min() > 0.9999
