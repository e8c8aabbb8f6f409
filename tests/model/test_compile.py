"""Our models under torch.compile, each in one graph, and in half precision."""

import pytest
import torch
from torch.testing import assert_close

from . import tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = list(tiny.OURS)
QA, PRETRAINING = "LxmertForQuestionAnswering", "LxmertForPreTraining"
TRACING = ("aot_eager", "inductor")
# A last cross layer is computed in part, unless all outputs are asked for: one does for both.
SHALLOW = {"l_layers": 1, "x_layers": 1, "r_layers": 1}
ALL_OUTPUTS = {"output_attentions": True, "output_hidden_states": True}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def forget_graphs():
    """Forget what other tests compiled: too many graphs of one code object are an error."""
    torch.compiler.reset()


def build(name, attention="sdpa", **changes):
    return tiny.build(name, attention=attention, **SHALLOW, **changes)


def check_one_graph(model, given, backend="eager"):
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    output, expected = compiled(**given), model(**given)
    assert list(output) == list(expected)
    assert_close(dict(output), dict(expected), **CLOSE)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name if name in (PRETRAINING, tiny.PAIRS) else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
    ],
)
def test_every_model_is_one_graph(name):
    model, given = build(name), tiny.inputs_for(name)
    check_one_graph(model, given)
    check_one_graph(model, given | tiny.labels_for(name) | ALL_OUTPUTS)


@pytest.mark.long
@pytest.mark.parametrize("output_predictions", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_pretraining_with_all_losses_is_one_graph(output_predictions):
    """Without predictions an eager call picks labeled words, whose number no graph can know."""
    model = build(PRETRAINING, visual_loss_masked_only=True)
    given = tiny.inputs() | tiny.labels() | {"output_predictions": output_predictions}
    check_one_graph(model, given)
    check_one_graph(model, given | {"ans": torch.full((tiny.BATCH, 13), 0.25)})


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in (QA, PRETRAINING)), tiny.PAIRS],
)
def test_models_of_encoded_sides_are_one_graph(name):
    model, given = build(name), tiny.inputs_for(name)
    images = [given.pop(key) for key in list(given) if key.startswith("visual")]
    if name == tiny.PAIRS:
        images = [image.flatten(0, 1) for image in images]
    encode = torch.compile(model.lxmert.encode_image, backend="eager", fullgraph=True)
    encoded = encode(*images)
    expected = model.lxmert.encode_image(*images)
    assert_close(encoded.last_hidden_state, expected.last_hidden_state, **CLOSE)
    check_one_graph(model, given | {"encoded_image": expected})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_eager_attention_is_one_graph(name):
    check_one_graph(build(name, "eager"), tiny.inputs_for(name) | tiny.labels_for(name))


@pytest.mark.long
@pytest.mark.parametrize(
    "backend", ["eager", *(pytest.param(name, marks=pytest.mark.slow) for name in TRACING)]
)
def test_compiled_gradients_are_equal(backend):
    model = build(PRETRAINING, **NO_DROPOUT).train()
    given = tiny.inputs() | tiny.labels()
    model(**given).loss.backward()
    expected = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, backend=backend, fullgraph=True)(**given).loss.backward()
    for key, parameter in model.named_parameters():
        assert_close(parameter.grad, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inductor_computes_the_same(name):
    given = tiny.inputs_for(name) | tiny.labels_for(name)
    check_one_graph(build(name), given, backend="inductor")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_models_read_single_precision_features(name, dtype, attention):
    """B10: features come from the disk in float32, and met weights of half precision."""
    model = build(name, attention, **NO_DROPOUT).train()
    given = tiny.inputs_for(name)
    assert given["visual_feats"].dtype == torch.float32
    given["visual_attention_mask"][1] = 0
    expected = model(**given)
    output = model.to(dtype)(**given, **tiny.labels_for(name))
    for key, value in expected.items():
        scale = value.abs().max().item()
        assert output[key].dtype == dtype, key
        assert_close(output[key].float(), value, rtol=0, atol=0.05 * scale, msg=key)
    loss = output.get("loss", output[next(iter(expected))].float().square().mean())
    assert loss.dtype == torch.float32
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 50
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_under_autocast_is_finite(name, attention):
    model = build(name, attention).train()
    given = tiny.inputs_for(name)
    given["visual_attention_mask"][1] = 0
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**given, **tiny.labels_for(name))
    loss = output["loss"] if "loss" in output else output.pooled_output.float().square().mean()
    assert loss.dtype == torch.float32
    loss.backward()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
