"""What `from_pretrained` and the readers of folders refuse, and what they make of labels."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from transformers.utils.logging import is_progress_bar_enabled, set_tqdm_hook

from lxmert import LxmertConfig
from lxmert.model.loading import load_initial, load_model, load_original
from lxmert.model.original import to_original
from lxmert.model.pretrained import read_config

from . import tiny

QA = tiny.OURS["LxmertForQuestionAnswering"]
NAME = "lxmert.encoder.layer.0.output.dense.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.build("LxmertForQuestionAnswering").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_type_are_refused(kind, folder):
    """Bug: integers and truth values were cast, of complex numbers one half was left out."""
    change_weights(folder, lambda state: state | {NAME: state[NAME].to(kind)})
    message = f"model cannot be used.*1 of a type that no weights have: {NAME} "
    for load in (QA.from_pretrained, load_model, lambda path: load_initial(path, "answering")):
        with pytest.raises(ValueError, match=message):
            load(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_are_not_finite_are_refused(form, value, folder):
    """Bug: a model of NaN was loaded and answered NaN."""
    state = load_file(folder / "model.safetensors")
    state["answer_head.logit_fc.3.bias"][2] = value
    (folder / "model.safetensors").unlink()
    writer = save_file if form.startswith("model") else torch.save
    writer(state, folder / form, **({"metadata": {"format": "pt"}} if writer is save_file else {}))
    message = "1 with values that are no finite numbers: answer_head.logit_fc.3.bias"
    for load in (QA.from_pretrained, load_model):
        with pytest.raises(ValueError, match=message):
            load(folder)


def test_weights_of_zeros_are_refused(folder):
    change_weights(folder, lambda state: {n: torch.zeros_like(v) for n, v in state.items()})
    for load in (QA.from_pretrained, load_model):
        with pytest.raises(ValueError, match=r"of \d+ matrices nothing but zeros"):
            load(folder)


def test_a_new_answer_layer_of_zeros_is_loaded(folder):
    """New answers are initialized with zeros."""
    last = "answer_head.logit_fc.3.weight"
    change_weights(folder, lambda state: state | {last: torch.zeros_like(state[last])})
    assert not load_model(folder).answer_head.logit_fc[3].weight.any()
    assert not QA.from_pretrained(folder).answer_head.logit_fc[3].weight.any()


@pytest.mark.parametrize("part", ["../secret.safetensors", "{outside}", "a/../../x", ""])
def test_an_index_that_leaves_its_folder_is_refused(part, folder):
    """Bug: the parts of large weights were read from wherever the index said."""
    outside = folder.parent / "secret.safetensors"
    (folder / "model.safetensors").rename(outside)
    part = part.format(outside=outside)
    index = {"metadata": {}, "weight_map": {"a": part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for load in (QA.from_pretrained, load_model):
        with pytest.raises(ValueError, match="is no relative path inside"):
            load(folder)


@pytest.mark.parametrize("wrong", [5, 1.5, ["a"], {"a": 1}, b"name"])
def test_an_invalid_name_is_refused(wrong):
    """Bug: an AttributeError from deep inside of the library."""
    for ours in tiny.OURS.values():
        with pytest.raises(TypeError, match=r"from_pretrained got .*: expected a folder"):
            ours.from_pretrained(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l_layers": 10**9}, "l_layers is 1000000000, but must not be above 1000"),
        ({"x_layers": 1001}, "x_layers is 1001"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, but must not be above"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"num_images": 10**6}, "num_images is 1000000"),
        ({"hidden_size": "32"}, "expected int, got str"),
        ({"l_layers": True}, "expected int, got bool"),
        ({"initializer_range": -1}, "initializer_range is -1"),
        ({"layer_norm_eps": float("nan")}, "the number NaN"),
        ({"visual_loss_normalizer": float("inf")}, "the number Infinity"),
        ({"pad_token_id": 51}, "pad_token_id is 51, but must be one of 51 words"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"id2label": ["a"]}, "id2label is .*expected names by id"),
        ({"id2label": {"a": "b"}}, "id2label is .*expected names by id"),
        ({"id2label": {"0": 5}}, "id2label is .*expected names by id"),
        ({"dtype": "float99"}, "dtype is 'float99'"),
        ({"quantization_config": 5}, "is damaged"),
        ({"model_type": "bert"}, "has model_type 'bert'"),
        ({"model_type": ["lxmert"]}, "expected 'lxmert'"),
    ],
)
def test_a_configuration_that_no_model_has_is_one_sentence(changes, message, folder):
    """Bug: some were a hang, others a traceback, the rest a model that could not work."""
    change_config(folder, **changes)
    for load in (read_config, load_model, QA.from_pretrained):
        with pytest.raises(ValueError, match=message) as error:
            load(folder)
        assert "\n" not in str(error.value)
        assert "validator" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": ' + "9" * 999 + "}"])
def test_a_configuration_that_is_no_object_is_one_sentence(text, folder):
    (folder / "config.json").write_text(text)
    for load in (read_config, QA.from_pretrained):
        with pytest.raises(ValueError, match=r"config\.json.*copy it again"):
            load(folder)


def test_settings_of_a_script_are_checked_too():
    for changes in ({"layer_norm_eps": float("nan")}, {"initializer_range": float("inf")}):
        with pytest.raises(Exception, match="must be"):
            LxmertConfig(**changes)


@pytest.mark.parametrize("number", ["7", "1000", "1000000000", "9" * 5000])
def test_a_layer_of_an_absurd_number_is_refused(number, tmp_path):
    """Bug: a tensor of layer 10^9 made a model of so many layers, without end."""
    state = to_original("answering", tiny.build("LxmertForQuestionAnswering").state_dict())
    name = "lxrt_encoder.model.bert.encoder.layer.{}.output.dense.bias"
    state[name.format(number)] = state[name.format(0)].clone()
    torch.save(state, tmp_path / "BEST.pth")
    with pytest.raises(ValueError, match=r"BEST\.pth") as error:
        load_original(tmp_path / "BEST.pth", num_attention_heads=4)
    assert len(str(error.value)) < 9000


@pytest.mark.parametrize("number", [2, 3, 17])
def test_num_labels_is_the_number_of_answers(number, folder):
    """Bug: the head kept its answers beside the names of others."""
    names = {index: f"answer {index}" for index in range(number)}
    for given in (
        {"num_labels": number},
        {"id2label": names},
        {"num_labels": number} | {"id2label": names},
    ):
        model = QA.from_pretrained(folder, ignore_mismatched_sizes=True, **given)
        assert model.get_qa_logit_layer().out_features == number
        assert model.config.num_qa_labels == number == len(model.config.id2label)
        expected = names if "id2label" in given else {i: f"LABEL_{i}" for i in range(number)}
        assert model.config.id2label == expected
        assert model.config.label2id == {name: index for index, name in expected.items()}


def test_num_labels_of_pairs_are_classes(tmp_path):
    tiny.build(tiny.PAIRS).save_pretrained(tmp_path)
    load = tiny.OURS[tiny.PAIRS].from_pretrained
    model = load(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert (model.config.num_classes, model.config.num_qa_labels) == (3, 13)
    assert model(**tiny.inputs_for(tiny.PAIRS)).logits.shape == (3, 3)


def test_labels_that_do_not_fit_each_other_are_refused(folder):
    with pytest.raises(ValueError, match="num_labels is 3, but id2label has 2 names"):
        QA.from_pretrained(folder, num_labels=3, id2label={0: "no", 1: "yes"})
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        QA.from_pretrained(folder, num_labels=3)


def test_no_bars_are_drawn(folder, capfd):
    """Bug: "Loading weights" and "Writing model shards" in every log and notebook."""
    model = QA.from_pretrained(folder)
    model.save_pretrained(folder.parent / "again")
    load_model(folder)
    shown = capfd.readouterr()
    assert "Loading weights" not in shown.err + shown.out
    assert "Writing" not in shown.err + shown.out
    assert is_progress_bar_enabled()
    assert set_tqdm_hook(None) is None
    assert not are_progress_bars_disabled(), "those of what is fetched from the hub stay"
