"""Loading and saving original checkpoints and Hugging Face folders, against transformers."""

import json
import random
from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lxmert.model.loading import MODELS, empty_model, load_model, load_original, save_original
from lxmert.model.original import NAMES

from . import published, tiny

REFERENCES = {
    "encoder": "LxmertModel",
    "pretraining": "LxmertForPreTraining",
    "answering": "LxmertForQuestionAnswering",
}
KINDS = [*REFERENCES, "pairs"]
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def build_reference(kind, **changes):
    if kind == "pairs":
        return published.PairsOf2019(**changes).eval()
    return tiny.build_reference(REFERENCES[kind], **changes)


def load(path, **options):
    return load_original(path, num_attention_heads=4, **options)


def assert_same_outputs(kind, ours, theirs):
    if kind == "pairs":
        given = tiny.inputs_for(tiny.PAIRS)
        assert_close(ours(**given).logits, theirs(**given), **NEAR)
        return
    given = tiny.inputs()
    expected = theirs(**given)
    assert len(expected) >= 1
    for name, value in expected.items():
        assert_close(ours(**given)[name], value, **NEAR, msg=lambda text, name=name: name + text)


VARIANTS = [
    (kind, outer, inner)
    for kind, outer, inner in product(KINDS, ("", "module."), ("", "module."))
    if not inner or kind in ("answering", "pairs")
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "outer", "inner"), VARIANTS)
def test_a_file_of_the_original_code_gives_the_outputs_of_the_reference(
    kind, outer, inner, tmp_path
):
    """There was no converter (C8). Several GPUs put `module.` in front of names, or within them."""
    theirs = build_reference(kind)
    state = published.state_of_2019(theirs, outer=outer, inner=inner)
    ours = load(published.write(tmp_path / "BEST.pth", state))
    assert type(ours) is MODELS[kind]
    assert not ours.training
    assert_same_outputs(kind, ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_back_gives_the_same_file_to_the_bit(kind, tmp_path):
    state = published.state_of_2019(build_reference(kind))
    published.write(tmp_path / "there.pth", state, zipped=True)
    save_original(load(tmp_path / "there.pth"), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == state.keys()
    for name, value in back.items():
        assert torch.equal(value, state[name]), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.pth", "there.pth"]


def test_half_precision_stays_half_precision(tmp_path):
    state = published.state_of_2019(build_reference("answering"))
    halves = {name: value.half() for name, value in state.items()}
    ours = load(published.write(tmp_path / "BEST.pth", halves))
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float16}
    save_original(ours, tmp_path / "back.pth")
    for name, value in torch.load(tmp_path / "back.pth", weights_only=True).items():
        assert torch.equal(value, halves[name]), name


def test_old_names_of_layer_norms_are_read(tmp_path):
    theirs = build_reference("pretraining")
    old = {}
    for name, value in published.state_of_2019(theirs).items():
        if "LayerNorm" in name or "layer_norm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        old[name] = value
    assert sum(name.endswith((".gamma", ".beta")) for name in old) > 20
    assert_same_outputs("pretraining", load(published.write(tmp_path / "old.pth", old)), theirs)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_any_missing_unknown_or_misshapen_weight_is_named(kind, tmp_path):
    """The original's loaders skipped what did not match, and models trained from random weights."""
    state = published.state_of_2019(build_reference(kind))
    generator = random.Random(5)
    tied = "cls.predictions.decoder.weight"
    for name in generator.sample(sorted(state.keys() - {tied}), 4):
        path = tmp_path / "BEST.pth"
        less = {key: value for key, value in state.items() if key != name}
        ours = _name_in_model(kind, name)
        with pytest.raises(ValueError, match="missing") as error:
            load(published.write(path, less))
        assert f" {ours}" in str(error.value), name
        with pytest.raises(ValueError, match="1 unknown") as error:
            load(published.write(path, state | {name + "_extra": torch.zeros(1)}))
        assert f" {name}_extra" in str(error.value)
    wrong = next(name for name in state if name.endswith("pooler.dense.bias"))
    with pytest.raises(ValueError, match=r"pooler\.dense\.bias \[3\] instead of \[32\]"):
        load(published.write(path, state | {wrong: torch.zeros(3)}))


def _name_in_model(kind, name):
    import re

    number = re.search(r"layers?\.(\d+)\.", name)
    pattern = name if number is None else re.sub(r"(layers?)\.\d+\.", r"\1.{}.", name)
    found = NAMES[kind][pattern]
    return found if number is None else found.format(number[1])


def test_a_gap_in_the_layers_is_named(tmp_path):
    state = published.state_of_2019(build_reference("pretraining"))
    gap = {name: value for name, value in state.items() if "x_layers.1." not in name}
    with pytest.raises(ValueError, match=r"lxmert\.encoder\.x_layers\.1\.lang_inter\.dense\.bias"):
        load(published.write(tmp_path / "gap.pth", gap))


def test_allowed_weights_are_random_or_ignored(tmp_path):
    state = published.state_of_2019(build_reference("pretraining"))
    parts = {n: v for n, v in state.items() if not n.startswith("cls.predictions.")}
    parts["cls.predictions.bias"] = torch.full((3,), 3.25)
    path = published.write(tmp_path / "part.pth", parts | {"step": torch.tensor(7)})
    for allow in [(), ("cls.predictions",), ("step",), ("cls.pred", "step")]:
        with pytest.raises(ValueError, match="does not fill"):
            load(path, allow=allow)
    ours = load(path, allow=("cls.predictions", "step"))
    assert ours.cls.predictions.bias.abs().max() == 0
    assert torch.equal(ours.cls.seq_relationship.weight, state["cls.seq_relationship.weight"])
    shared = ours.lxmert.embeddings.word_embeddings.weight
    assert ours.cls.predictions.decoder.weight is shared


def test_a_decoder_unlike_the_embeddings_that_it_shares_is_refused(tmp_path):
    state = published.state_of_2019(build_reference("pretraining"))
    name = "cls.predictions.decoder.weight"
    path = published.write(tmp_path / "a.pth", state | {name: state[name] + 3.25})
    with pytest.raises(ValueError, match=r"1 different from their tied weight: cls\.predictions"):
        load(path)
    ours = load(path, allow=(name,))
    assert torch.equal(ours.cls.predictions.decoder.weight, state[name])
    del state[name]
    assert load(published.write(path, state)).cls.predictions.decoder.weight.shape == (51, 32)


def test_two_models_of_the_original_code_that_it_never_had_are_refused(tmp_path):
    for model in (tiny.build(tiny.MATCHING), torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=f"no file for a {type(model).__name__}"):
            save_original(model, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b\.pth exists already"):
        save_original(tiny.build("LxmertModel"), tmp_path / "b.pth")
    assert (tmp_path / "b.pth").read_text() == "mine"


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "form"), list(product(REFERENCES, ["bin", "safetensors", "parts"]))
)
def test_a_folder_of_the_reference_loads_in_every_form(kind, form, tmp_path):
    theirs = build_reference(kind)
    if form == "bin":  # as published: with the tied weight twice
        theirs.config.save_pretrained(tmp_path)
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    else:
        theirs.save_pretrained(tmp_path, max_shard_size="5KB" if form == "parts" else "5GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 3) == (form == "parts")
    ours = load_model(tmp_path)
    assert type(ours) is MODELS[kind]
    assert_same_outputs(kind, ours, theirs)


@pytest.mark.parametrize("name", tiny.OURS)
def test_a_folder_of_ours_loads_as_the_model_that_it_holds(name, tmp_path):
    saved = tiny.build(name)
    saved.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(saved)
    expected = saved.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_an_encoder_below_a_prefix_loads(tmp_path):
    saved = tiny.build("LxmertModel")
    saved.config.save_pretrained(tmp_path)
    state = {f"lxmert.{name}": value for name, value in saved.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).pooler.dense.bias, saved.pooler.dense.bias)


def test_a_folder_that_lacks_something_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_model(tmp_path)
    tiny.build("LxmertForQuestionAnswering").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    del state["answer_head.logit_fc.2.bias"]
    save_file(state, weights)
    with pytest.raises(ValueError, match=r"1 missing: answer_head\.logit_fc\.2\.bias"):
        load_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_qa_labels": 5}))
    with pytest.raises(ValueError, match=r"logit_fc\.3\.bias \[13\] instead of \[5\]"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        load_model(tmp_path)


def test_an_outline_costs_no_memory():
    parameters = list(empty_model("pairs", tiny.config()).parameters())
    assert len(parameters) > 100
    assert all(parameter.is_meta for parameter in parameters)
