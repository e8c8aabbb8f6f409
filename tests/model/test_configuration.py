import json

import pytest
from huggingface_hub.errors import (
    StrictDataclassClassValidationError,
    StrictDataclassFieldValidationError,
)
from transformers import LxmertConfig as ReferenceConfig

from lxmert.model.configuration import LxmertConfig

from . import tiny


def test_documented_defaults():
    ours, theirs = LxmertConfig().to_dict(), ReferenceConfig().to_dict()
    assert ours.pop("layer_norm_eps") == 1e-12
    assert (ours.pop("num_images"), ours.pop("num_classes")) == (2, 2)
    assert ours.pop("visual_loss_masked_only") is False
    assert ours.pop("visual_feat_distance") == "smooth_l1"
    assert ours == theirs
    assert (ours["num_qa_labels"], ours["visual_loss_normalizer"]) == (9500, 6.67)


def test_keys_of_the_hub_are_accepted_and_kept(tmp_path):
    """Published files carry keys that are no fields, and the derived `num_hidden_layers`."""
    file = {
        "architectures": ["LxmertForQuestionAnswering"],
        "hidden_size": 48,
        "layer_norm_eps": 3e-7,
        "model_type": "lxmert",
        "num_hidden_layers": {"cross_encoder": 5, "language": 9, "vision": 5},
        "use_cache": False,
        "made_up_by_somebody": [3.25],
    }
    (tmp_path / "config.json").write_text(json.dumps(file))
    config = LxmertConfig.from_pretrained(tmp_path)
    assert (config.hidden_size, config.layer_norm_eps) == (48, 3e-7)
    config.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    del file["use_cache"]  # transformers takes it for an option of text generation
    assert {key: written[key] for key in file} == file


def test_number_of_layers_is_always_current(tmp_path):
    """C9: the number of layers stayed that of the file when `l_layers` was overridden."""
    tiny.config().save_pretrained(tmp_path)
    config = LxmertConfig.from_pretrained(tmp_path, l_layers=7)
    expected = {"vision": 1, "cross_encoder": 3, "language": 7}
    assert config.num_hidden_layers == expected
    config.r_layers = 8
    assert config.num_hidden_layers == expected | {"vision": 8}
    assert config.to_dict()["num_hidden_layers"] == expected | {"vision": 8}
    assert json.loads(config.to_json_string())["num_hidden_layers"]["vision"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": -8}, "hidden_size is -8"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"x_layers": -3}, "x_layers is -3"),
        ({"hidden_size": 34}, "34 is not a multiple of num_attention_heads 4"),
        ({"hidden_act": "nope"}, "'nope' is unknown; known are .*gelu"),
        ({"visual_feat_distance": "l3"}, "'l3' is unknown; known are smooth_l1, l2"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is 1.5"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    """C10: these passed the configuration and failed, if at all, inside torch."""
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny.config(**changes)


def test_wrong_types_are_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="hidden_size"):
        LxmertConfig(hidden_size="wide")


def test_answer_vocabulary_is_kept(tmp_path):
    names = {index: f"answer {index}" for index in range(13)}
    tiny.config(id2label=names).save_pretrained(tmp_path)
    assert LxmertConfig.from_pretrained(tmp_path).id2label == names


def test_every_field_is_documented():
    fields = LxmertConfig.__annotations__.keys() - {"keys_to_ignore_at_inference"}
    assert len(fields) == 35
    missing = [field for field in fields if f"\n        {field}: " not in LxmertConfig.__doc__]
    assert missing == []


def test_settings_can_be_copied_back():
    """The derived number of layers had no setter: copying settings was an AttributeError."""
    config = tiny.config()
    config.update(config.to_dict())
    config.num_hidden_layers = {"language": 99}
    assert config.num_hidden_layers["language"] == config.l_layers
