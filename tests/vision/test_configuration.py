"""The configuration is a file that says everything, and refuses what it does not know."""

import json

import pytest

from lxmert.vision.configuration import DetectorConfig

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
        ({"shorter_side": 900}, "shorter_side 900 exceeds longer_side 320"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig.from_dict(CONFIG.to_dict() | change)


def test_missing_object_names_are_named():
    values = CONFIG.to_dict()
    del values["object_names"]
    with pytest.raises(ValueError, match="object_names is missing"):
        DetectorConfig.from_dict(values)
