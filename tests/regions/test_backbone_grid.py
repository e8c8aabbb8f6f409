"""Grid features of classification networks, compared with the networks' own pooled features."""

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from lxmert import BackboneGridExtractor, load_extractor
from lxmert.regions import backbone_grid

HAS_TIMM = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")


def random_image(height=40, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return torchvision.models.mnasnet0_5(weights=None).eval()


def write(folder, state, form="pt"):
    path = folder / f"weights.{form}"
    if form == "pt":
        torch.save(state, path)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_the_mean_of_the_cells_is_what_the_network_classifies(network, form, tmp_path):
    extractor = BackboneGridExtractor.from_torchvision(
        "mnasnet0_5", weights=write(tmp_path, network.state_dict(), form), side=96
    )
    (regions,) = extractor([random_image()])
    resized = Image.fromarray(random_image()).resize((96, 96), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        expected = network(((values - mean) / deviation)[None])[0]
        logits = network.classifier(torch.from_numpy(regions.features).mean(0)[None])[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "cells", "feature_dim"),
    [
        ("mobilenet_v2", 4, 1280),
        ("mobilenet_v3_small", 4, 576),
        ("shufflenet_v2_x0_5", 4, 1024),
        ("regnet_y_400mf", 4, 440),
        ("resnet18", 4, 512),
    ],
)
def test_networks_are_cut_before_they_pool(name, cells, feature_dim):
    extractor = BackboneGridExtractor.from_torchvision(name, side=64)
    (regions,) = extractor([random_image()])
    assert regions.features.shape == (cells, feature_dim) == (cells, extractor.feature_dim)
    assert not any(
        part in extractor.network.state_dict() for part in ("fc.weight", "classifier.1.bias")
    )


def test_the_order_of_cells_is_that_of_the_map():
    class Shrink(nn.Module):
        def forward(self, pixels):
            return nn.functional.avg_pool2d(pixels, 16)

    config = backbone_grid.BackboneGridConfig(
        library="torchvision",
        model="resnet18",
        side=64,
        interpolation="bilinear",
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
    )
    image = random_image(64, 64)
    image[:] = 0
    image[16:32, 48:64] = (255, 51, 0)
    (regions,) = BackboneGridExtractor(Shrink(), config)([image])
    assert len(regions) == 16
    (marked,) = np.flatnonzero(regions.features.any(axis=1))
    assert regions.boxes[marked].tolist() == [48, 16, 64, 32]
    np.testing.assert_allclose(regions.features[marked], [1, 0.2, 0], atol=1e-6)


def test_recomfixed_weights_and_their_preprocessing_are_taken(network, monkeypatch):
    enum = torchvision.models.MNASNet0_5_Weights
    asked = {}

    def fetch(self, **options):
        asked[self] = options
        return network.state_dict()

    monkeypatch.setattr(enum, "get_state_dict", fetch)
    extractor = BackboneGridExtractor.from_torchvision("mnasnet0_5", weights="DEFAULT")
    assert asked == {
        enum.DEFAULT: {"progress": False, "check_hash": True, "weights_only": True},
    }
    assert extractor.config.side == 224
    state = extractor.network.state_dict()
    assert len(state) == len(network.state_dict()) - 2
    for name, value in state.items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_weights_of_another_network_are_refused(network, tmp_path):
    state = network.state_dict()
    first = next(iter(state))
    for bad in (
        {name: value for name, value in state.items() if name != first},
        state | {"bogus": torch.zeros(3)},
        state | {first: torch.zeros(3)},
    ):
        with pytest.raises(ValueError, match="do not fit this network"):
            BackboneGridExtractor.from_torchvision("mnasnet0_5", weights=write(tmp_path, bad))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        BackboneGridExtractor.from_torchvision("mnasnet0_5", weights=tmp_path / "nothing.pt")


def test_weights_of_a_classifier_of_other_classes_do(network, tmp_path):
    state = network.state_dict() | {"classifier.1.weight": torch.zeros(3, 1280)}
    del state["classifier.1.bias"]
    BackboneGridExtractor.from_torchvision("mnasnet0_5", weights=write(tmp_path, state))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bogus", "the network is 'bogus'"),
        ("inception_v3", "the network is 'inception_v3'"),
        ("fasterrcnn_resnet50_fpn", "expected a classification network"),
    ],
)
def test_what_has_no_map_to_pool_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        BackboneGridExtractor.from_torchvision(name)


def test_a_network_without_pooling_is_refused():
    with pytest.raises(ValueError, match="'vit' does not pool a feature map"):
        backbone_grid._cut(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "vit")


@pytest.mark.parametrize(
    "change", [{"library": "bogus"}, {"interpolation": "nearest"}, {"side": 0}, {"bogus": -8}]
)
def test_a_bad_configuration_is_refused(change, tmp_path):
    BackboneGridExtractor.from_torchvision("mnasnet0_5", side=64).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=re.escape(next(iter(change)))):
        load_extractor(tmp_path)


@needs_timm
@pytest.mark.parametrize(
    ("name", "cells", "feature_dim"),
    [("test_resnet.r160_in1k", 25, 96), ("test_vit.r160_in1k", 100, 64)],
)
def test_networks_of_timm_give_their_last_map(name, cells, feature_dim, tmp_path):
    torch.manual_seed(5)
    extractor = BackboneGridExtractor.from_timm(name)
    (regions,) = extractor([random_image()])
    assert regions.features.shape == (cells, feature_dim)
    assert regions.boxes[-1].tolist() == pytest.approx([70 - 70 / cells**0.5, 40 - 40 / cells**0.5,
                                                       70, 40])  # fmt: skip
    assert extractor.config.side == 160
    extractor.save_pretrained(tmp_path)
    opened = load_extractor(tmp_path)
    assert opened.fingerprint == extractor.fingerprint
    np.testing.assert_array_equal(opened([random_image()])[0].features, regions.features)


@needs_timm
def test_a_file_of_weights_is_read_by_timm(tmp_path):
    import timm

    torch.manual_seed(5)
    network = timm.create_model("test_resnet.r160_in1k").eval()
    path = write(tmp_path, network.state_dict(), "safetensors")
    extractor = BackboneGridExtractor.from_timm("test_resnet.r160_in1k", weights=path)
    (regions,) = extractor([random_image()])
    resized = Image.fromarray(random_image()).resize((160, 160), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 127.5 - 1
    with torch.no_grad():
        expected = network.forward_features(values[None].float())[0]
    np.testing.assert_allclose(regions.features, expected.flatten(1).T, rtol=1e-4, atol=1e-5)


@needs_timm
def test_a_name_that_timm_does_not_know_is_refused():
    with pytest.raises(ValueError, match="the network is 'bogus'"):
        BackboneGridExtractor.from_timm("bogus")


def test_without_timm_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(backbone_grid, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install lxmert\[timm\]"):
        BackboneGridExtractor.from_timm("test_resnet.r160_in1k")
