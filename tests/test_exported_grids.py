"""Models with grid extractors are exported like those with detectors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import SCENE, TEXTS, run_without_torch, write_tiny_model

from lxmert import LxmertForPreTraining, LxmertPipeline, LxmertProcessor
from lxmert.data.store import RegionStore
from lxmert.exported import CELLS_GRAPH, ExportedModel
from lxmert.regions.backbone_grid import BackboneGridExtractor
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.workflows.exporting import export_folder
from lxmert.workflows.extraction import extract_folder
from lxmert.workflows.web_page import write_page

pytestmark = pytest.mark.long

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def make_grid():
    config = GridConfig(height=48, width=64, widths=(8, 8, 8), feature_dim=12)
    network = GridNetwork(config)
    for _ in range(2):  # statistics that differ from those of new norms
        network.train()(torch.randint(0, 256, (4, 48, 64, 3), dtype=torch.uint8))
    return GridExtractor(network)


def make_backbone():
    return BackboneGridExtractor.from_torchvision("resnet18", side=64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model with a grid extractor, and the export of its weights in half precision."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("grids")
    model = write_tiny_model(folder / "model", make_grid())
    rounded = LxmertForPreTraining.from_pretrained(model).half()
    shutil.copytree(model, folder / "half")
    rounded.save_pretrained(folder / "half")
    rounded.float().save_pretrained(model)
    export_folder(folder / "half", folder / "fast", runtime="onnxruntime")
    return model, folder / "fast"


def check_same(model, fast):
    """Compare regions and answers of two folders."""
    first, second = (
        LxmertPipeline.from_pretrained(folder, cache=False) for folder in (model, fast)
    )
    expected, found = first.regions(SCENE), second.regions(SCENE)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
    assert found.image_size == expected.image_size
    for text in TEXTS:
        one, other = first.ask(SCENE, text), second.ask(SCENE, text)
        assert [each.answer for each in other] == [each.answer for each in one]
        np.testing.assert_allclose(
            [each.score for each in other], [each.score for each in one], atol=1e-5
        )
    labels = [pipeline.answer(SCENE, TEXTS[0]).labels for pipeline in (first, second)]
    assert labels[0] == labels[1]
    assert labels[0][0] == "cell 1,1"


def test_a_trained_grid_answers_as_in_torch(folders):
    """Bug: the graphs of weights in half precision could not be called."""
    check_same(*folders)


@pytest.mark.slow
def test_a_backbone_grid_answers_as_in_torch_in_openvino(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    torch.manual_seed(4)
    model = write_tiny_model(tmp_path / "model", make_backbone())
    export_folder(model, tmp_path / "fast", runtime="openvino")
    check_same(model, tmp_path / "fast")


@pytest.mark.slow
def test_int8_includes_the_grid(folders, tmp_path):
    images = Path(SCENE).parent
    manifest = export_folder(
        folders[0], tmp_path / "fast8", runtime="onnxruntime", precision="int8", calibrate=images
    )
    assert "other regions" not in manifest.differences
    assert 0 < manifest.differences["features"] <= manifest.tolerances["features"]
    sizes = [(folder / CELLS_GRAPH).stat().st_size for folder in (folders[1], tmp_path / "fast8")]
    assert sizes[0] != sizes[1]


def test_stores_of_the_model_are_those_of_the_export(folders, tmp_path):
    model, fast = folders
    exported = ExportedModel(fast).extractor
    images = Path(SCENE).parent
    for name, extractor in (
        ("first", LxmertProcessor.from_pretrained(model).extractor),
        ("second", exported),
    ):
        extract_folder(images, tmp_path / name, extractor, progress=lambda done, total: None)
    first, second = (RegionStore(tmp_path / name) for name in ("first", "second"))
    assert first.header.fingerprint == second.header.fingerprint
    for name in first.image_ids:
        np.testing.assert_allclose(second[name].features, first[name].features, atol=1e-2)


def test_it_answers_without_torch(folders, tmp_path):
    code = f"""
from lxmert import LxmertPipeline
pipeline = LxmertPipeline.from_pretrained({str(folders[1])!r})
print(pipeline.ask({str(SCENE)!r}, {TEXTS[0]!r})[0].answer)
"""
    done = run_without_torch(code, tmp_path)
    expected = LxmertPipeline.from_pretrained(folders[0], cache=False).ask(SCENE, TEXTS[0])
    assert (done.stdout.strip(), done.stderr) == (expected[0].answer, "")


def test_the_page_refuses_grids(folders, tmp_path):
    with pytest.raises(ValueError, match="is a grid, but the scripts of the page compute detect"):
        write_page(folders[1], ExportedModel(folders[1]).manifest)
    assert not list(tmp_path.iterdir())


def test_other_devices_and_saving_are_refused(folders, tmp_path):
    extractor = ExportedModel(folders[1]).extractor
    assert extractor.to("cpu") is extractor
    with pytest.raises(ValueError, match="device is 'cuda', but an exported extractor computes on"):
        extractor.to("cuda")
    with pytest.raises(ValueError, match=r"cannot be saved in .*: copy the folder"):
        extractor.save_pretrained(tmp_path)
