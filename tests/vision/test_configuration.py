"""The configuration is a file that says everything, and refuses what it does not know."""

import json
from pathlib import Path

import pytest

import lxmert
from lxmert.vision.configuration import DetectorConfig
from lxmert.vision.extract import RegionExtractor

CONFIG = DetectorConfig(
    object_names=("cup", "hat"),
    attribute_groups={"color": ("red", "blue", "grey"), "size": ("small", "large")},
    stage_depths=(1, 2, 3),
    norm="frozen",
)


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
        ({"num_region": 9}, "Unknown detector setting 'num_region'; the nearest is 'num_regions'"),
        ({"model_type": "lxmert"}, "model_type is 'lxmert'; expected 'lxmert-detector'"),
        ({"object_names": []}, "object_names is empty"),
        ({"stage_widths": [8, 9]}, "'stage_widths': 2.* three of each"),
        ({"norm": "group"}, "norm is 'group'; expected 'batch' or 'frozen'"),
        ({"channel_order": "GBR"}, "channel_order is 'GBR'; expected 'RGB' or 'BGR'"),
        ({"stem_pool": "max"}, "stem_pool is 'max'; expected 'none' or 'ceil' or 'padded'"),
        ({"selection": "best"}, "selection is 'best'; expected 'agnostic' or 'survivors' or"),
        ({"min_regions": 40}, "min_regions is 40; expected 0 to num_regions, which is 36"),
        ({"shorter_side": 900}, "shorter_side 900 exceeds longer_side 320"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig.from_dict(CONFIG.to_dict() | change)


def test_settings_of_later_days_stand_in_a_file_only_if_they_were_changed():
    """Else each new setting would change the fingerprint of every detector and of its stores."""
    assert "resize" not in CONFIG.to_dict()
    changed = DetectorConfig.from_dict(CONFIG.to_dict() | {"resize": "size", "nms_ladder": [0.625]})
    assert changed.to_dict() == CONFIG.to_dict() | {"resize": "size", "nms_ladder": [0.625]}
    assert changed.nms_thresholds == (0.5, 0.625)


def test_bundled_detector_keeps_its_fingerprint():
    folder = Path(lxmert.__file__).parent / "default"
    stored = json.loads((folder / "preprocessor_config.json").read_text())["extractor"]
    assert RegionExtractor.from_pretrained(folder / "eyes").fingerprint == stored


def test_missing_object_names_are_named():
    values = CONFIG.to_dict()
    del values["object_names"]
    with pytest.raises(ValueError, match="object_names is missing"):
        DetectorConfig.from_dict(values)
