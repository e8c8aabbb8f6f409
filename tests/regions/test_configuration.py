"""The detector configuration file: complete, and strict about unknown settings."""

import json
import math
import re
from pathlib import Path

import pytest

import lxmert
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.regions.backbone_grid import BackboneGridConfig
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import load_extractor
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.regions.torchvision_detector import TorchvisionConfig

DEFAULT = Path(lxmert.__file__).parent / "default"

CONFIG = DetectorConfig(
    object_names=("cup", "hat"),
    attribute_groups={"color": ("red", "blue", "grey"), "size": ("small", "large")},
    stage_depths=(1, 2, 3),
    norm="frozen",
)


def bundled_detector():
    return DetectorExtractor.from_pretrained(DEFAULT / "extractor")


def grid():
    return GridExtractor(GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=4)))


def test_json_gives_the_configuration_back():
    text = json.dumps(CONFIG.to_dict())
    assert DetectorConfig.from_dict(json.loads(text)) == CONFIG


def test_defaults_stand_in_for_keys_that_the_file_leaves_out():
    config = DetectorConfig.from_dict({"model_type": "lxmert-detector", "object_names": ["cup"]})
    assert config == DetectorConfig(object_names=("cup",))


def test_derived_values():
    assert CONFIG.attribute_names == ("red", "blue", "grey", "small", "large")
    assert CONFIG.group_sizes == (3, 2)
    assert CONFIG.stride == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_region": 9}, "unknown key 'num_region' \\(did you mean 'num_regions'\\?\\)"),
        ({"model_type": "lxmert"}, "model_type: got \"lxmert\", expected 'lxmert-detector'"),
        ({"object_names": []}, "object_names: got \\[\\], expected at least 1 item"),
        ({"stage_widths": [8, 9]}, "stage_widths: got .*expected at least 3 items"),
        ({"norm": "group"}, "norm: got \"group\", expected 'batch' or 'frozen'"),
        ({"channel_order": "GBR"}, "channel_order: got \"GBR\", expected 'RGB' or 'BGR'"),
        ({"stem_pool": "max"}, "stem_pool: got \"max\", expected 'none', 'ceil' or 'padded'"),
        ({"selection": "best"}, "selection: got \"best\", expected 'agnostic', 'survivors' or"),
        ({"min_regions": 40}, "min_regions: got 40, expected at most num_regions, which is 36"),
        ({"shorter_side": 900}, "shorter_side: 900 exceeds longer_side 320"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig.from_dict(CONFIG.to_dict() | change)


def test_settings_of_later_days_stand_in_a_file_only_if_they_were_changed():
    """Otherwise each new setting would change the fingerprint of every detector and its stores."""
    assert "resize" not in CONFIG.to_dict()
    changed = DetectorConfig.from_dict(CONFIG.to_dict() | {"resize": "size", "nms_ladder": [0.625]})
    assert changed.to_dict() == CONFIG.to_dict() | {"resize": "size", "nms_ladder": [0.625]}
    assert changed.nms_thresholds == (0.5, 0.625)


def test_bundled_detector_keeps_its_fingerprint():
    stored = json.loads((DEFAULT / "preprocessor_config.json").read_text())["fingerprint"]
    assert bundled_detector().fingerprint == stored


def test_missing_object_names_are_named():
    values = CONFIG.to_dict()
    del values["object_names"]
    with pytest.raises(ValueError, match="object_names is missing"):
        DetectorConfig.from_dict(values)


@pytest.mark.parametrize(
    "change",
    [
        {"shorter_side": "160"},
        {"shorter_side": 0},
        {"shorter_side": -1},
        {"feature_dim": 1e9},
        {"feature_dim": 10**9},
        {"stage_depths": 1e9},
        {"stage_depths": [1, 1, 10**9]},
        {"attribute_groups": ["red"]},
        {"attribute_groups": {"color": []}},
        {"object_names": [3, 5]},
        {"object_names": "cup"},
        {"model_type": ["lxmert-detector"]},
        {"num_regions": 0},
        {"num_regions": True},
        {"proposals": 0},
        {"anchor_offset": math.nan},
        {"side_offset": math.inf},
        {"anchor_sizes": []},
        {"pixel_std": [1.0, 0.0, 1.0]},
        {"nms_threshold": None},
    ],
)
def test_absurd_values_are_refused(change):
    """Bug: these values ended in a traceback of torch or in meaningless regions."""
    (key,) = change
    with pytest.raises(ValueError, match=f"^{key}"):
        DetectorConfig.from_dict(CONFIG.to_dict() | change)


@pytest.mark.parametrize("extractor", [bundled_detector, grid], ids=["detector", "grid"])
def test_sizes_that_the_weights_do_not_have_take_no_memory(tmp_path, extractor):
    """Bug: widths within their ranges could describe networks of hundreds of GB."""
    extractor().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    wide = "widths" if "widths" in values else "stage_widths"
    path.write_text(json.dumps(values | {wide: [65_536] * len(values[wide])}))
    with pytest.raises(ValueError, match=r"config\.json describes a network of \d+ KiB, but"):
        load_extractor(tmp_path)


@pytest.mark.parametrize("kind", [["lxmert-grid"], {"a": 1}, None, 7, "lxmert"])
def test_other_model_types_are_refused(tmp_path, kind):
    """Bug: a list as model_type raised a TypeError."""
    grid().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind}))
    with pytest.raises(ValueError, match="expected a region extractor, one of"):
        load_extractor(tmp_path)


def test_every_error_of_an_extractors_file_is_named(tmp_path):
    grid().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "lxmert-grid", "width": "96", "feature_dims": 8}))
    expected = (
        f"{path}: width: got \"96\", expected an integer; unknown key 'feature_dims' "
        "(did you mean 'feature_dim'?)"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_extractor(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"library": 3}, "library: got 3"),
        ({"side": 10**9}, "side: got 1000000000, expected at most"),
        ({"pixel_mean": [0.5]}, "pixel_mean: got .*expected at least 3 items"),
        ({"pixel_std": [0.5, 0.5, 0]}, r"pixel_std\[2\]: got 0, expected above 0"),
    ],
)
def test_a_bad_backbone_grid_is_refused(change, message):
    values = {"library": "timm", "model": "x", "side": 9, "interpolation": "bicubic"}
    values |= {"pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}
    assert BackboneGridConfig.from_dict(values).to_dict() == {
        "model_type": "backbone-grid",
        **values,
    }
    with pytest.raises(ValueError, match=message):
        BackboneGridConfig.from_dict(values | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "fasterrcnn"}, "the detector is 'fasterrcnn'"),
        ({"object_names": [3]}, r"object_names\[0\]: got 3, expected a text"),
        ({"shorter_side": 900}, "shorter_side: 900 exceeds longer_side 640"),
        ({"norm_epsilon": math.nan}, "norm_epsilon: got NaN, expected a finite number"),
        ({"score_threshold": 3}, "score_threshold: got 3, expected at most 1"),
    ],
)
def test_a_bad_detector_of_torchvision_is_refused(change, message):
    values = {"model": "fasterrcnn_mobilenet_v3_large_320_fpn", "object_names": ["cup"]}
    values |= {"num_regions": 9, "score_threshold": 0.05, "nms_threshold": 0.5}
    values |= {"shorter_side": 320, "longer_side": 640, "norm_epsilon": 0}
    assert TorchvisionConfig.from_dict(values).to_dict() == {
        "model_type": "torchvision-detector",
        **values,
    }
    with pytest.raises(ValueError, match=message):
        TorchvisionConfig.from_dict(values | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": None}, "fingerprint: got null, expected a text"),
        ({"max_text_length": "20"}, 'max_text_length: got "20", expected an integer'),
        ({"max_text_length": 0}, "max_text_length: got 0, expected at least 3"),
        ({"box_form": "xywh"}, "box_form: got \"xywh\", expected 'normalized_xyxy'"),
        ({"max_length": 9}, r"unknown key 'max_length' \(did you mean 'max_text_length'\?\)"),
    ],
)
def test_a_bad_preprocessor_is_refused(tmp_path, change, message):
    """Bug: a preprocessor_config.json with a wrong type failed at the first question, or never."""
    PreprocessorConfig(fingerprint="ab").save(tmp_path)
    assert PreprocessorConfig.load(tmp_path) == PreprocessorConfig(fingerprint="ab")
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {message}"):
        PreprocessorConfig.load(tmp_path)
