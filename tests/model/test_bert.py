"""LXMERT started from BERT, against transformers' own BERT with the same files."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import BertConfig, BertForPreTraining, BertModel

from lxmert.model.bert import save_language_side
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.modeling import LxmertModel
from lxmert.model.pretraining import LxmertForPreTraining

from . import tiny

SIZES = {
    "vocab_size": 51,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 19,
    "type_vocab_size": 3,
    "num_hidden_layers": 4,
}
LAYERS = {"l_layers": 2, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 9, "visual_pos_dim": 5}


@pytest.fixture
def bert(tmp_path):
    model = tiny.randomize(BertForPreTraining(BertConfig(**SIZES)))
    model.save_pretrained(tmp_path)
    return model


def rewrite(folder, state, form):
    """Put other weights into a folder, in another form."""
    (folder / "model.safetensors").unlink()
    if form == "safetensors":
        save_file(
            {name: value.clone() for name, value in state.items()}, folder / "model.safetensors"
        )
    else:
        torch.save(state, folder / "pytorch_model.bin")


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_text_states_before_the_cross_layers_are_those_of_bert(bert, layers, tmp_path):
    """No way led from BERT to LXMERT, although the original starts from it by default (C8)."""
    model = LxmertModel.from_bert(tmp_path, **LAYERS | {"l_layers": layers})
    assert not model.training
    given = tiny.inputs()
    text = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    expected = bert.bert(**text, output_hidden_states=True).hidden_states[layers]
    states = model(**given, output_hidden_states=True).language_hidden_states
    assert_close(states[layers - 1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("old_names", [False, True])
def test_every_form_of_bert_gives_the_same_weights(bert, form, prefix, old_names, tmp_path):
    state = {n.replace("bert.", prefix, 1): v for n, v in bert.state_dict().items()}
    if not prefix:
        state = {name: value for name, value in state.items() if not name.startswith("cls.")}
    if old_names:
        state = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for name, value in state.items()
        }
        state["embeddings.position_ids"] = torch.arange(19)
    rewrite(tmp_path, state, form)
    own = LxmertModel.from_bert(tmp_path, **LAYERS).state_dict()
    copied = 0
    for name, value in bert.bert.state_dict().items():
        if name in own:
            assert torch.equal(own[name], value), name
            copied += 1
    assert copied == 5 + 2 * 16 + 2


def test_a_pretraining_model_takes_the_heads_of_words_too(bert, tmp_path):
    model = LxmertForPreTraining.from_bert(tmp_path, **LAYERS)
    own, theirs = model.state_dict(), bert.state_dict()
    names = [name for name in own if name.startswith("cls.")]
    assert len(names) == 8
    for name in names:
        assert torch.equal(own[name], theirs[name]), name
    assert model.cls.predictions.decoder.weight is model.lxmert.embeddings.word_embeddings.weight
    answering = LxmertForQuestionAnswering.from_bert(tmp_path, **LAYERS, num_qa_labels=7)
    assert answering.answer_head.logit_fc[-1].out_features == 7
    assert torch.equal(answering.lxmert.pooler.dense.bias, theirs["bert.pooler.dense.bias"])


def test_weights_that_bert_lacks_are_random(bert, tmp_path):
    torch.manual_seed(4)
    one = LxmertModel.from_bert(tmp_path, **LAYERS)
    other = LxmertModel.from_bert(tmp_path, **LAYERS)
    for part in ("r_layers", "x_layers", "visn_fc"):
        pairs = zip(
            getattr(one.encoder, part).parameters(),
            getattr(other.encoder, part).parameters(),
            strict=True,
        )
        weights = [(a, b) for a, b in pairs if a.dim() == 2]
        assert len(weights) >= 2
        for a, b in weights:
            assert 0.01 < a.std() < 0.03
            assert not torch.equal(a, b)


def test_the_configuration_is_that_of_bert_with_overrides(bert, tmp_path):
    config = json.loads((tmp_path / "config.json").read_text())
    changed = config | {"hidden_act": "relu", "layer_norm_eps": 1e-7, "pad_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    own = LxmertModel.from_bert(tmp_path, **LAYERS).config
    assert (own.hidden_act, own.layer_norm_eps, own.pad_token_id) == ("relu", 1e-7, 2)
    assert (own.vocab_size, own.l_layers, own.num_qa_labels) == (51, 2, 9500)
    given = tiny.config(r_layers=3)
    own = LxmertModel.from_bert(tmp_path, given, x_layers=1).config
    assert (own.r_layers, own.x_layers, own.hidden_act) == (3, 1, "gelu")
    assert given.x_layers == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 60}, r"has vocab_size 51, but the configuration has 60: set vocab_size=51"),
        ({"max_position_embeddings": 20}, "has max_position_embeddings 19, but .* has 20"),
        ({"type_vocab_size": 2}, "has type_vocab_size 3"),
        ({"hidden_size": 64}, "has hidden_size 32"),
        ({"intermediate_size": 40}, "has intermediate_size 48"),
        ({"l_layers": 5}, "has 4 layers, but the configuration has l_layers 5: set l_layers=4"),
    ],
)
def test_a_bert_of_another_size_is_refused_in_the_words_of_the_configuration(
    bert, changes, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        LxmertModel.from_bert(tmp_path, **LAYERS | changes)


def test_a_bert_that_lacks_a_weight_is_refused_unless_it_may(bert, tmp_path):
    state = bert.bert.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith("pooler.")}
    rewrite(tmp_path, state | {"lora.a": torch.zeros(1)}, "safetensors")
    with pytest.raises(ValueError, match=r"1 unknown: lora\.a; 2 missing: pooler\.dense\.bias"):
        LxmertModel.from_bert(tmp_path, **LAYERS)
    LxmertModel.from_bert(tmp_path, **LAYERS, allow=("pooler", "lora.a"))
    with pytest.raises(ValueError, match=r"cls\.predictions\.transform\.dense\.bias"):
        LxmertForPreTraining.from_bert(tmp_path, **LAYERS, allow=("pooler", "lora.a"))


def test_a_bert_without_heads_is_a_bert(tmp_path):
    saved = tiny.randomize(BertModel(BertConfig(**SIZES)))
    saved.save_pretrained(tmp_path)
    own = LxmertModel.from_bert(tmp_path, **LAYERS)
    assert torch.equal(own.pooler.dense.weight, saved.pooler.dense.weight)


def test_a_name_on_the_hub_is_read_from_its_cache(tmp_path, monkeypatch):
    """The cache of the hub's own client, as a download leaves it, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--somebody--small-bert"
    saved = tiny.randomize(BertForPreTraining(BertConfig(**SIZES)))
    saved.save_pretrained(repository / "snapshots" / ("8" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("8" * 40)
    own = LxmertModel.from_bert("somebody/small-bert", **LAYERS)
    assert torch.equal(own.pooler.dense.weight, saved.bert.pooler.dense.weight)


def test_mistakes_are_named(bert, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="no setting 'l_layer'; did you mean 'l_layers'"):
        LxmertModel.from_bert(tmp_path, l_layer=3)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        LxmertModel.from_bert(tmp_path, **LAYERS)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json of a BERT"):
        LxmertModel.from_bert(tmp_path, **LAYERS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="a BERT in 'nobody/nothing'"):
        LxmertModel.from_bert("nobody/nothing")


def test_the_language_side_of_a_model_is_a_bert(tmp_path):
    """Transformers' own BERT reads it and gives the same states; ours starts from it again."""
    ours = tiny.build("LxmertForPreTraining", x_layers=0, r_layers=0)
    folder, target = tmp_path / "ours", tmp_path / "bert"
    ours.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text(f"content of {name}")
    save_language_side(folder, target)
    given = tiny.inputs()
    text = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    theirs, info = BertForPreTraining.from_pretrained(target, output_loading_info=True)
    assert info["unexpected_keys"] == set() or info["unexpected_keys"] == []
    theirs.eval()
    expected = theirs.bert(**text).last_hidden_state
    states = ours(**given, output_hidden_states=True).language_hidden_states[-1]
    assert_close(states, expected, rtol=1e-5, atol=1e-5)
    again = LxmertForPreTraining.from_bert(target, l_layers=2, x_layers=1, r_layers=1)
    first, second = ours.state_dict(), again.state_dict()
    kept = [name for name in first if name in second and "encoder.layer." in name]
    assert len(kept) == 2 * 16
    assert all(torch.equal(first[name], second[name]) for name in kept)
    assert (target / "tokenizer.json").read_text() == "content of tokenizer.json"
