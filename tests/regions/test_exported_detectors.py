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
from lxmert.runtimes import open_graph
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


def make_detector(preset):
    """Return a narrow detector of the published geometry with random weights and norms."""
    torch.manual_seed(8)
    names = [f"object {index}" for index in range(30)]
    config = DetectorConfig.preset(preset, object_names=names, attribute_names=["red", "tall"])
    detector = Detector(config.replace(**NARROW)).eval()
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


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_published_detector_finds_the_same_regions(exported, runtime):
    """A stem that pools incomplete windows, and RoIPool, had no graph."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    detector, folder = exported
    found = ExportedDetector(
        ExportedDetectorConfig.from_file(folder / EXTRACTOR),
        open_graph(folder / TRUNK_GRAPH, runtime),
        open_graph(folder / HEADS_GRAPH, runtime),
        fingerprint="",
        precision="fp32",
    )
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
