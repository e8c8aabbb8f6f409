"""What every model class keeps to, whatever it is for (style guide, rule 27)."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lxmert.model import layers, modeling, predictions

from . import tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = list(tiny.OURS)
ONE_IMAGE = [name for name in NAMES if name != tiny.PAIRS]
ANSWERS = {"LxmertModel": "pooled_output", tiny.PAIRS: "logits", tiny.MATCHING: "logits"}


def answer(name, output):
    return output[ANSWERS.get(name, "question_answering_score")]


def loss_of(name, output):
    """Return the model's own loss, or one that reads every output of the model without a head."""
    if name != "LxmertModel":
        return output.loss
    outputs = (output.language_output, output.vision_output, output.pooled_output)
    return sum((value * torch.randn(value.shape)).sum() for value in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name):
    flags = {"output_attentions": True, "output_hidden_states": True}
    output = tiny.build(name)(**tiny.inputs_for(name), **flags)
    text, regions = tiny.TEXT_LEN, tiny.REGIONS
    batch = tiny.BATCH * (2 if name == tiny.PAIRS else 1)
    expected = {
        "language_output": (batch, text, 32),
        "vision_output": (batch, regions, 32),
        "pooled_output": (batch, 32),
        "logits": (tiny.BATCH, 2),
        "language_encoder_state": (batch, text, 32),
        "vision_encoder_state": (batch, regions, 32),
        "prediction_logits": (batch, text, 51),
        "cross_relationship_score": (batch, 2),
        "question_answering_score": (batch, 13),
        "language_hidden_states": [(batch, text, 32)] * 5,
        "vision_hidden_states": [(batch, regions, 32)] * 4,
        "language_attentions": [(batch, 4, text, text)] * 2,
        "vision_attentions": [(batch, 4, regions, regions)],
        "cross_encoder_attentions": [(batch, 4, text, regions)] * 3,
        "vision_cross_attentions": [(batch, 4, regions, text)] * 3,
        "cross_language_attentions": [(batch, 4, text, text)] * 3,
        "cross_vision_attentions": [(batch, 4, regions, regions)] * 3,
    }
    assert len(output.keys()) > 8
    for key, value in output.items():
        if isinstance(value, tuple):
            assert [part.shape for part in value] == expected[key], key
            assert all(part.isfinite().all() for part in value), key
        else:
            assert value.shape == expected[key], key
            assert value.isfinite().all(), key


def unreached_parameters(name):
    """List what the loss of a model cannot reach: an answer never reads the last regions."""
    if name in ("LxmertModel", "LxmertForPreTraining"):
        return set()
    last = "lxmert.encoder.x_layers.2."
    attention = [f"self.{part}" for part in ("query", "key", "value")]
    modules = [f"visn_self_att.{part}" for part in [*attention, "output.dense", "output.LayerNorm"]]
    modules += ["visn_inter.dense", "visn_output.dense", "visn_output.LayerNorm"]
    return {f"{last}{module}.{kind}" for module in modules for kind in ("weight", "bias")}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_that_they_can(name, attention):
    model = tiny.build(name, attention=attention).train()
    loss_of(name, model(**tiny.inputs_for(name), **tiny.labels_for(name))).backward()
    unreached = {key for key, value in model.named_parameters() if value.grad is None}
    assert unreached == unreached_parameters(name)
    assert unreached == set(getattr(model, "_ddp_params_and_buffers_to_ignore", ()))
    for key, parameter in model.named_parameters():
        # A bias shared by all keys shifts all scores of a query alike and so changes nothing.
        if key not in unreached and not key.endswith("key.bias"):
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ONE_IMAGE)
def test_batch_of_one_is_batch_of_many(name, attention):
    model, given = tiny.build(name, attention=attention), tiny.inputs()
    many = model(**given, output_hidden_states=True)
    for row in range(tiny.BATCH):
        words = given["attention_mask"][row].sum()
        regions = given["visual_attention_mask"][row].sum()
        alone = {
            key: value[row : row + 1, : regions if key.startswith("visual") else words]
            for key, value in given.items()
        }
        one = model(**alone, output_hidden_states=True)
        assert_close(answer(name, one)[0], answer(name, many)[row], **CLOSE)
        for part, whole in zip(
            one.language_hidden_states, many.language_hidden_states, strict=True
        ):
            assert_close(part[0], whole[row, :words], **CLOSE)
        for part, whole in zip(one.vision_hidden_states, many.vision_hidden_states, strict=True):
            assert_close(part[0], whole[row, :regions], **CLOSE)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name, attention):
    model, given = tiny.build(name, attention=attention), tiny.inputs_for(name)
    expected = model(**given)
    more = {"input_ids": 8, "token_type_ids": 2, "visual_feats": 3.25, "visual_pos": -9.0}
    padded = {}
    for key, value in given.items():
        # Images of pairs have one more dimension in front of their regions.
        place = 2 if name == tiny.PAIRS and key.startswith("visual") else 1
        size = (*value.shape[:place], 4, *value.shape[place + 1 :])
        filler = torch.full(size, more.get(key, 0), dtype=value.dtype)
        padded[key] = torch.cat([value, filler], dim=place)
    assert_close(answer(name, model(**padded)), answer(name, expected), **CLOSE)


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_permuting_regions_permutes_their_states_and_keeps_the_answer(name):
    model, given = tiny.build(name), tiny.inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = model(**given, output_hidden_states=True)
    for key in ("visual_feats", "visual_pos", "visual_attention_mask"):
        given[key] = given[key][:, order]
    output = model(**given, output_hidden_states=True)
    assert_close(answer(name, output), answer(name, expected), **CLOSE)
    for part, whole in zip(output.vision_hidden_states, expected.vision_hidden_states, strict=True):
        assert_close(part, whole[:, order], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_is_identical(name, tmp_path):
    model = tiny.build(name)
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = tiny.inputs_for(name)
    expected, output = model(**given), again(**given)
    assert not again.training
    assert_close(dict(output), dict(expected), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_fused_attention_is_the_default_and_can_be_switched(name):
    """C1: asking for another attention raised or was ignored with a warning."""
    model = tiny.randomize(tiny.OURS[name](tiny.config()))
    assert model.config._attn_implementation == "sdpa"
    given = tiny.inputs_for(name) | tiny.labels_for(name)
    fused = model(**given)
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    assert_close(dict(model(**given)), dict(fused), **CLOSE)


def gradients_and_runs(name, *, checkpointing):
    """Return the gradients of a model, and how often its feed-forward layers ran."""
    model = tiny.build(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    runs = []
    for module in model.modules():
        if isinstance(module, layers.LxmertIntermediate):
            module.register_forward_hook(lambda *_: runs.append(1))
    torch.manual_seed(9)
    loss_of(name, model(**tiny.inputs_for(name), **tiny.labels_for(name))).backward()
    return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}, len(runs)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_changes_no_gradient(name):
    """C2: asking for gradient checkpointing was a ValueError."""
    plain, runs = gradients_and_runs(name, checkpointing=False)
    checkpointed, more_runs = gradients_and_runs(name, checkpointing=True)
    assert_close(checkpointed, plain, **CLOSE)
    whole = name in ("LxmertModel", "LxmertForPreTraining")
    assert runs == 2 + 1 + 3 * 2 - (not whole)
    assert more_runs > runs + 5


def test_states_are_kept_only_on_request():
    """C4: every layer's output stayed alive to the end of the forward pass."""
    model = tiny.build("LxmertModel")
    outputs, seen = [], []
    for module in model.modules():
        if isinstance(module, layers.LxmertLayer | layers.LxmertXLayer):
            module.register_forward_hook(
                lambda _module, _inputs, states: outputs.extend(weakref.ref(s) for s in states)
            )
    model.encoder.x_layers[-1].register_forward_pre_hook(
        lambda *_: seen.append(sum(output() is not None for output in outputs))
    )
    with torch.no_grad():
        for asked in (False, True):
            outputs.clear()
            model(**tiny.inputs(), output_hidden_states=asked)
    assert len(outputs) == 2 + 1 + 3 * 2
    # Before the last cross layer: what it reads, or all states of the layers before it.
    assert seen == [2, 2 + 1 + 2 * 2]


@pytest.mark.long
def test_no_tensor_is_kept_between_calls():
    model, given = tiny.build("LxmertForPreTraining"), tiny.inputs() | tiny.labels()

    def number_of_tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    before = number_of_tensors()
    output = model(**given, output_attentions=True)
    assert number_of_tensors() > before
    del output
    assert number_of_tensors() == before


def test_unsplittable_modules_exist():
    """C3: parts of one cross layer could be put on different devices."""
    known = {
        name
        for room in (layers, predictions)
        for name, thing in vars(room).items()
        if isinstance(thing, type) and issubclass(thing, nn.Module)
    }
    blocks = modeling.LxmertPreTrainedModel._no_split_modules
    assert {"LxmertLayer", "LxmertXLayer"} <= set(blocks) <= known


def test_new_models_are_initialized_as_published():
    torch.manual_seed(8)
    model = tiny.MODELS["LxmertForPreTraining"][0](tiny.config(hidden_size=64))
    assert len(list(model.parameters())) > 100
    for key, parameter in model.named_parameters():
        if key.endswith("visn_fc.visn_fc.bias"):
            # Not as published: test_masked_regions_do_not_dominate_the_gradient explains why.
            assert 0.07 < parameter.std() < 0.13, key
        elif key.endswith("box_fc.bias"):
            # Not as published: test_positions_are_visible_at_initialization explains why.
            weight = model.lxmert.encoder.visn_fc.box_fc.weight
            assert_close(parameter, -weight.sum(dim=1) / 2)
        elif key.endswith("bias"):
            assert (parameter == 0).all(), key
        elif "norm" in key.lower() or key.endswith("logit_fc.2.weight"):
            assert (parameter == 1).all(), key
        else:
            assert 0.015 < parameter.std() < 0.025, key


def test_only_missing_weights_are_initialized(tmp_path):
    tiny.build("LxmertModel").save_pretrained(tmp_path)
    head, _ = tiny.MODELS["LxmertForQuestionAnswering"]
    model = head.from_pretrained(tmp_path)
    expected = tiny.build("LxmertModel").state_dict()
    for key, value in model.lxmert.state_dict().items():
        assert_close(value, expected[key], rtol=0, atol=0)
    assert 0.01 < model.answer_head.logit_fc[0].weight.std() < 0.03


@pytest.mark.long
def test_model_compiles_to_one_graph():
    depth = {"l_layers": 1, "x_layers": 1, "r_layers": 1}
    model = tiny.build("LxmertForQuestionAnswering", attention="sdpa", **depth)
    given = tiny.inputs() | {"labels": torch.tensor([4, 0, 12])}
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert_close(dict(compiled(**given)), dict(model(**given)), **CLOSE)
