"""Names of original checkpoints against the documented list; sizes inferred from shapes."""

import pytest
import torch

from lxmert.model.configuration import LxmertConfig
from lxmert.model.loading import empty_model
from lxmert.model.original import NAMES, from_original, infer_config, to_original

from . import published, tiny

FULL_SIZE = [
    ("pretraining", 9500, 228_051_752, 473),
    ("answering", 3129, 213_930_297, 455),
    ("answering", 1842, 211_952_178, 455),
    ("pairs", 9500, 210_303_746, 455),
    ("encoder", 9500, 207_936_768, 449),
]


def test_a_full_size_pretraining_file_has_the_documented_names():
    state = empty_model("pretraining", LxmertConfig()).state_dict()
    assert set(to_original("pretraining", state)) == published.pretraining_names(9, 5, 5)
    assert len(published.pretraining_names(9, 5, 5)) == 473


@pytest.mark.parametrize(("kind", "answers", "parameters", "tensors"), FULL_SIZE)
def test_full_size_files_are_recognized_with_all_of_their_sizes(kind, answers, parameters, tensors):
    config = LxmertConfig(num_qa_labels=answers)
    model = empty_model(kind, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    found = from_original(to_original(kind, model.state_dict()))
    assert (found.kind, found.unknown, len(found.state)) == (kind, (), tensors)
    assert found.config.to_dict() == config.to_dict()


def test_names_of_the_published_files_are_spelled_out():
    """A rename on both sides must not go unseen."""
    pairs = [
        ("pretraining", "bert.encoder.layer.{}.attention.self.query.weight"),
        ("pretraining", "bert.encoder.r_layers.{}.output.LayerNorm.bias"),
        ("pretraining", "bert.encoder.x_layers.{}.visual_attention.att.key.bias"),
        ("answering", "lxrt_encoder.model.bert.encoder.visn_fc.box_layer_norm.weight"),
        ("answering", "logit_fc.3.weight"),
        ("pairs", "logit_fc.0.bias"),
        ("encoder", "bert.embeddings.token_type_embeddings.weight"),
    ]
    assert [NAMES[kind].get(name) for kind, name in pairs] == [
        "lxmert.encoder.layer.{}.attention.self.query.weight",
        "lxmert.encoder.r_layers.{}.output.LayerNorm.bias",
        "lxmert.encoder.x_layers.{}.visual_attention.att.key.bias",
        "lxmert.encoder.visn_fc.box_layer_norm.weight",
        "answer_head.logit_fc.3.weight",
        "classifier.logit_fc.0.bias",
        "embeddings.token_type_embeddings.weight",
    ]


@pytest.mark.parametrize("depth", [(0, 1, 2), (3, 0, 1), (1, 2, 0), (0, 3, 0)])
@pytest.mark.parametrize("kind", ["pretraining", "answering", "pairs", "encoder"])
def test_other_sizes_are_inferred_from_the_shapes(kind, depth):
    l_layers, x_layers, r_layers = depth
    layers = {"l_layers": l_layers, "x_layers": x_layers, "r_layers": r_layers}
    config = tiny.config(**layers, num_qa_labels=17)
    found = from_original(
        to_original(kind, empty_model(kind, config).state_dict()), num_attention_heads=4
    )
    # Sizes of heads that a file has not are unknown, and the defaults.
    heads = {"num_qa_labels", "num_object_labels", "num_attr_labels"}
    known = {
        "pretraining": heads,
        "answering": {"num_qa_labels"},
        "pairs": set(),
        "encoder": set(),
    }
    defaults = LxmertConfig().to_dict()
    expected = config.to_dict() | {name: defaults[name] for name in heads - known[kind]}
    assert found.config.to_dict() == expected


@pytest.mark.parametrize(
    "switches",
    [
        {"task_qa": False},
        {
            "task_obj_predict": False,
            **dict.fromkeys(("visual_obj_loss", "visual_attr_loss", "visual_feat_loss"), False),
        },
        {"visual_obj_loss": False},
        {"visual_attr_loss": False, "visual_feat_loss": False},
    ],
)
def test_heads_that_a_pretraining_file_lacks_are_switched_off(switches):
    config = tiny.config(**switches)
    state = to_original("pretraining", empty_model("pretraining", config).state_dict())
    found = from_original(state, num_attention_heads=4).config
    names = ("task_qa", "task_obj_predict", "visual_obj_loss", "visual_attr_loss")
    for name in (*names, "visual_feat_loss"):
        assert getattr(found, name) == getattr(config, name), name


@pytest.mark.parametrize("number", [0, -1, -12])
def test_a_number_of_heads_below_one_is_refused(number):
    """`convert --heads 0` was read as if the option was left out."""
    with pytest.raises(ValueError, match=f"attention heads is {number}, expected at least 1"):
        infer_config({}, num_attention_heads=number)


def test_the_number_of_heads_is_one_for_each_64_of_the_width_unless_given():
    state = empty_model("encoder", tiny.config(hidden_size=192)).state_dict()
    assert infer_config(state).num_attention_heads == 3
    assert infer_config(state, num_attention_heads=6).num_attention_heads == 6
    narrow = empty_model("encoder", tiny.config()).state_dict()
    with pytest.raises(ValueError, match=r"width 32.*num_attention_heads=N or --heads N"):
        infer_config(narrow)


def test_one_weight_under_two_names_is_refused():
    state = to_original("encoder", empty_model("encoder", tiny.config()).state_dict())
    twice = {**state, "module.bert.pooler.dense.bias": torch.zeros(32)}
    with pytest.raises(ValueError, match=r"two tensors for bert\.pooler\.dense\.bias"):
        from_original(twice, num_attention_heads=4)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "it has no tensors"),
        ({"fc.weight": torch.zeros(3)}, "first tensor is 'fc.weight'"),
        ({"bert.encoder.layer.0.output.dense.bias": torch.zeros(3)}, r"LxmertModel\.from_bert"),
        ({"lxmert.encoder.visn_fc.box_fc.bias": torch.zeros(3)}, "Hugging Face layout"),
    ],
)
def test_other_weights_are_refused_with_a_hint(state, message):
    with pytest.raises(ValueError, match=message):
        from_original(state)


def test_a_weight_without_a_name_in_the_original_code_is_refused():
    with pytest.raises(ValueError, match=r"no name for lxmert\.extra"):
        to_original("pretraining", {"lxmert.extra": torch.zeros(1)})
