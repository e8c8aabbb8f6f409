"""Our models adapted by peft."""

import pytest
import torch
from torch.testing import assert_close
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lxmert.auto import register_auto_classes

from . import tiny

peft = pytest.importorskip("peft", reason="peft is not installed")

CLOSE = {"rtol": 1e-4, "atol": 5e-5}  # merging adapters rounds
NAMES = list(tiny.OURS)
QA = "LxmertForQuestionAnswering"
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LAYERS = ["query", "value"]
AUTO_CLASSES = [
    modeling_auto.AutoModel,
    modeling_auto.AutoModelForPreTraining,
    modeling_auto.AutoModelForQuestionAnswering,
    modeling_auto.AutoModelForVisualQuestionAnswering,
]


def settings(**changes):
    return peft.LoraConfig(**{"r": 3, "target_modules": LAYERS, **changes})


def loss_of(output):
    return output["loss"] if "loss" in output else output.pooled_output.square().mean()


def train(model, name, steps=2):
    """Train what wants a gradient; return the names of the parameters that moved."""
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):  # the first step only moves the matrices that start at zero
        optimizer.zero_grad()
        loss_of(model(**tiny.inputs_for(name), **tiny.labels_for(name))).backward()
        optimizer.step()
    return {k for k, p in model.named_parameters() if not torch.equal(p, before[k])}


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_adapters_alone_are_trained_saved_and_merged(name, tmp_path):
    plain, given = tiny.build(name, **NO_DROPOUT), tiny.inputs_for(name)
    model = peft.get_peft_model(tiny.build(name, **NO_DROPOUT), settings())
    assert_close(dict(model(**given)), dict(plain(**given)), rtol=0, atol=0)

    moved = train(model, name)
    # What regions read from each other in the last cross layer is unseen by the pooled heads.
    attentions = 2 + 1 + 3 * 3 - (name != "LxmertForPreTraining")
    assert all("lora_" in key for key in moved)
    assert len(moved) == attentions * len(LAYERS) * 2

    trained = model(**given)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(tiny.build(name, **NO_DROPOUT), tmp_path)
    assert_close(dict(again(**given)), dict(trained), rtol=0, atol=0)
    merged = again.merge_and_unload()
    assert type(merged) is type(plain)
    assert_close(dict(merged(**given)), dict(trained), **CLOSE)
    key = next(iter(trained))
    assert (trained[key] - plain(**given)[key]).abs().max() > 1e-3


def test_answer_head_can_be_trained_beside_adapters(tmp_path):
    plain = tiny.build(QA, **NO_DROPOUT)
    model = peft.get_peft_model(
        tiny.build(QA, **NO_DROPOUT), settings(modules_to_save=["answer_head"])
    )
    moved = train(model, QA)
    heads = {key for key in moved if "lora_" not in key}
    assert len(heads) == 6
    assert all("answer_head.modules_to_save" in key for key in heads)
    given = tiny.inputs()
    trained = model(**given)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(plain, tmp_path)
    assert_close(dict(again(**given)), dict(trained), rtol=0, atol=0)
    merged = again.merge_and_unload()
    assert_close(dict(merged(**given)), dict(trained), **CLOSE)
    assert set(merged.state_dict()) == set(tiny.build(QA).state_dict())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("LxmertModel", "FEATURE_EXTRACTION"),
        (QA, "QUESTION_ANS"),
        (QA, "SEQ_CLS"),
        (tiny.PAIRS, "SEQ_CLS"),
        (tiny.MATCHING, "SEQ_CLS"),
        ("LxmertForPreTraining", "TOKEN_CLS"),
    ],
)
def test_every_usual_task_type_trains(name, task):
    """Each task's model is wrapped in a class of peft's, which adds keywords to every call."""
    model = peft.get_peft_model(tiny.build(name), settings(task_type=task))
    assert any("lora_" in key for key in train(model, name))


@pytest.fixture
def forget_registration(monkeypatch):
    """Undo after the test what a registration changes in the process."""
    mappings = [CONFIG_MAPPING, *(auto_class._model_mapping for auto_class in AUTO_CLASSES)]
    for mapping in mappings:
        monkeypatch.setattr(mapping, "_extra_content", dict(mapping._extra_content))
    table = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    monkeypatch.delitem(table, "lxmert", raising=False)
    yield
    table.pop("lxmert", None)


@pytest.mark.usefixtures("forget_registration")
def test_default_layers_are_known_once_registered():
    """C12: peft names no layers to adapt for this type of model."""
    with pytest.raises(ValueError, match="target_modules"):
        peft.get_peft_model(tiny.build(QA), peft.LoraConfig())
    register_auto_classes()
    by_default = peft.get_peft_model(tiny.build(QA), peft.LoraConfig())
    named = peft.get_peft_model(tiny.build(QA), settings())
    assert by_default.peft_config["default"].target_modules == set(LAYERS)
    keys = [[k for k, p in m.named_parameters() if p.requires_grad] for m in (by_default, named)]
    assert keys[0] == keys[1]


def test_all_linear_layers_can_be_adapted():
    """Without any registration, `all-linear` is what peft finds by itself."""
    model = peft.get_peft_model(tiny.build(QA), settings(target_modules="all-linear"))
    adapted = [key for key, _ in model.named_parameters() if "lora_A" in key]
    assert len(adapted) > 2 * 6 + 1 * 6 + 3 * 16
    assert all("lora_" in key for key in train(model, QA))
