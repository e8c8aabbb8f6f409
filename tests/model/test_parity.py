"""Ours against transformers' own classes: the same files, outputs, losses and gradients."""

import json

import pytest
import torch
from torch.testing import assert_close

from . import tiny

EXACT = {"rtol": 1e-9, "atol": 1e-9}
DOUBLE = {"dtype": torch.float64}
NEVER_TRAINED = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
HEADS = ("LxmertForPreTraining", "LxmertForQuestionAnswering")


def assert_same_fields(ours, theirs):
    """Compare all fields that the reference has."""
    assert theirs.keys()
    for name, expected in theirs.items():
        near = EXACT
        if name == "loss":  # summed in float32 by the reference's pretraining model
            near = {"rtol": 1e-6, "atol": 0, "check_dtype": False}
        assert_close(ours[name], expected, **near, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.long
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", tiny.MODELS)
def test_every_output_field_and_loss_is_equal(name, masked, attention, tmp_path):
    ours, theirs = tiny.pair_through_files(name, tmp_path, attention=attention)
    given = tiny.inputs(masked=masked, **DOUBLE) | tiny.labels_for(name)
    flags = {"output_attentions": True, "output_hidden_states": True}
    expected = theirs(**given, **flags)
    assert len(expected.keys()) >= 7
    assert_same_fields(ours(**given, **flags), expected)
    assert_same_fields(ours(**given), theirs(**given))


@pytest.mark.parametrize("name", tiny.MODELS)
def test_tuple_form_is_equal(name):
    ours, theirs = tiny.pair(name)
    given = tiny.inputs(**DOUBLE) | tiny.labels_for(name)
    for flags in ({}, {"output_hidden_states": True}, {"output_attentions": True}):
        expected = theirs(**given, **flags, return_dict=False)
        near = {"rtol": 1e-6, "atol": 1e-9, "check_dtype": False}
        assert_close(ours(**given, **flags, return_dict=False), expected, **near)
        assert_close(ours(**given, **flags).to_tuple(), expected, **near)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_arguments_have_the_documented_positions(name):
    ours, theirs = tiny.pair(name)
    given = tiny.inputs(**DOUBLE)
    order = ("input_ids", "visual_feats", "visual_pos", "attention_mask", "visual_attention_mask")
    positional = [*(given[key] for key in order), given["token_type_ids"], None]
    assert_same_fields(ours(*positional), theirs(*positional))


@pytest.mark.parametrize("name", tiny.MODELS)
def test_embedded_text_is_equal(name):
    ours, theirs = tiny.pair(name)
    given = tiny.inputs(**DOUBLE)
    given["inputs_embeds"] = torch.randn(tiny.BATCH, tiny.TEXT_LEN, 32, dtype=torch.float64)
    del given["input_ids"], given["token_type_ids"]
    assert_same_fields(ours(**given), theirs(**given))


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("labels", {"mask_lm"}),
        ("matched_label", {"matched"}),
        ("ans", {"qa"}),
        ("obj_labels", {"obj", "attr", "feat"}),
    ],
)
def test_each_loss_alone_is_equal(label, names):
    ours, theirs = tiny.pair("LxmertForPreTraining")
    given = tiny.inputs(**DOUBLE) | {label: tiny.labels()[label]}
    output, expected = ours(**given), theirs(**given)
    assert output.losses.keys() == names
    near = {"rtol": 1e-6, "atol": 0, "check_dtype": False}
    assert_close(sum(output.losses.values()), expected.loss, **near)
    assert_close(output.loss, expected.loss, **near)


@pytest.mark.parametrize("name", HEADS)
def test_every_gradient_is_equal(name):
    """Only rows 0 of positions and segments differ: the reference never trains them (A3)."""
    ours, theirs = tiny.pair(name)
    given = tiny.inputs(**DOUBLE) | tiny.labels_for(name)
    ours(**given).loss.backward()
    theirs(**given).loss.backward()
    expected = dict(theirs.named_parameters())
    assert len(expected) > 100
    for key, parameter in ours.named_parameters():
        gradient, wanted = parameter.grad, expected[key].grad
        if key.endswith(NEVER_TRAINED):
            assert gradient[0].abs().max() > 1e-3
            assert wanted[0].abs().max() == 0
            gradient, wanted = gradient[1:], wanted[1:]
        assert (gradient is None) == (wanted is None), key
        if wanted is not None:
            assert_close(gradient, wanted, **EXACT, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", tiny.MODELS)
def test_saved_models_load_in_the_reference(name, tmp_path):
    _, reference_class = tiny.MODELS[name]
    ours = tiny.build(name)
    ours.save_pretrained(tmp_path)
    theirs, info = reference_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = tiny.inputs() | tiny.labels_for(name)
    expected = theirs.eval()(**given)
    for key, value in expected.items():
        assert_close(ours(**given)[key], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_parameter_names_and_shapes_are_equal(name):
    ours, theirs = tiny.build(name), tiny.build_reference(name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    # Names of the published file, spelled out: a rename on both sides must not go unseen.
    prefix = "" if name == "LxmertModel" else "lxmert."
    for key in (
        "embeddings.LayerNorm.bias",
        "encoder.visn_fc.box_layer_norm.weight",
        "encoder.layer.1.attention.self.query.weight",
        "encoder.r_layers.0.output.LayerNorm.weight",
        "encoder.x_layers.2.visual_attention.att.key.bias",
        "encoder.x_layers.0.visn_self_att.output.dense.weight",
        "encoder.x_layers.1.lang_inter.dense.weight",
        "pooler.dense.weight",
    ):
        assert prefix + key in shapes


def test_published_file_with_the_tied_weight_twice_loads(tmp_path):
    """The published `.bin` holds the word decoder beside the embedding that it shares."""
    theirs = tiny.build_reference("LxmertForPreTraining")
    state = theirs.state_dict()
    assert "cls.predictions.decoder.weight" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    theirs.config.save_pretrained(tmp_path)
    ours_class, _ = tiny.MODELS["LxmertForPreTraining"]
    ours, info = ours_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    decoder = ours.cls.predictions.decoder.weight
    assert decoder is ours.lxmert.embeddings.word_embeddings.weight
    given = tiny.inputs()
    expected = theirs(**given).prediction_logits
    assert_close(ours.eval()(**given).prediction_logits, expected, rtol=1e-5, atol=1e-5)


def test_pretraining_weights_load_below_another_head(tmp_path):
    tiny.build("LxmertForPreTraining").save_pretrained(tmp_path)
    ours_class, _ = tiny.MODELS["LxmertForQuestionAnswering"]
    expected = tiny.build("LxmertForPreTraining").state_dict()
    loaded = ours_class.from_pretrained(tmp_path).state_dict()
    assert len(loaded) > 100
    for key, value in loaded.items():
        assert_close(value, expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("layers", [(0, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_other_depths_are_equal(layers):
    l_layers, x_layers, r_layers = layers
    depth = {"l_layers": l_layers, "x_layers": x_layers, "r_layers": r_layers}
    ours, theirs = tiny.pair("LxmertModel", **depth)
    given = tiny.inputs(**DOUBLE) | {"output_hidden_states": True, "output_attentions": True}
    assert_same_fields(ours(**given), theirs(**given))


@pytest.mark.parametrize("task", ["task_qa", "task_matched", "task_mask_lm", "task_obj_predict"])
def test_disabled_objectives_are_equal(task):
    ours, theirs = tiny.pair("LxmertForPreTraining", **{task: False})
    given = tiny.inputs(**DOUBLE) | tiny.labels()
    expected = dict(theirs(**given))
    if task == "task_qa":  # the reference has a number of the pooled vector there
        del expected["question_answering_score"]
    assert_same_fields(ours(**given), expected)


@pytest.mark.parametrize("loss", ["visual_obj_loss", "visual_attr_loss", "visual_feat_loss"])
def test_switched_off_region_losses_are_equal(loss):
    ours, theirs = tiny.pair("LxmertForPreTraining", **{loss: False})
    given = tiny.inputs(**DOUBLE) | tiny.labels()
    assert_same_fields(ours(**given), theirs(**given))


def test_other_activation_is_equal():
    ours, theirs = tiny.pair("LxmertForPreTraining", hidden_act="relu")
    given = tiny.inputs(**DOUBLE) | tiny.labels()
    assert_same_fields(ours(**given), theirs(**given))


def test_configuration_files_are_equal(tmp_path):
    tiny.build_reference("LxmertForPreTraining").config.save_pretrained(tmp_path)
    theirs = json.loads((tmp_path / "config.json").read_text())
    tiny.config().save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "config.json").read_text())
    assert ours.pop("layer_norm_eps") == 1e-12
    assert (ours.pop("num_images"), ours.pop("num_classes")) == (2, 2)
    assert ours.pop("visual_loss_masked_only") is False
    assert ours.pop("visual_feat_distance") == "smooth_l1"
    theirs.pop("dtype", None)
    assert ours == theirs
