"""The attention implementations of transformers, by name, in every model."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from . import tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = list(tiny.OURS)
FLASH = "flash_attention_2"
SHALLOW = {"l_layers": 1, "x_layers": 2, "r_layers": 1}
READS = {"LxmertModel": 1 + 1 + 2 * 4, "LxmertForPreTraining": 1 + 1 + 2 * 4}
"""Calls of attention; where only the pooled output is read, two of the last layer are left out."""


def register(name, calls, monkeypatch):
    """Put an attention in the place of that name that notes each call's mask and whether causal."""

    def attend(module, query, key, value, mask, *, dropout, scaling, **others):
        calls.append((mask, module.is_causal))
        read = functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        return read.transpose(1, 2).contiguous(), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, name, attend)


@pytest.mark.parametrize("flash", [FLASH, "kernels-community/flash-attn2"])
@pytest.mark.parametrize("name", NAMES)
def test_flash_attention_never_gets_a_mask(name, flash, monkeypatch):
    """The flash attention of transformers unpads queries by the mask of the keys.

    It also comes under the names of kernels. A CPU has no flash attention, so one stands in that
    reads no mask and notes what it is given.
    """
    calls = []
    register(flash, calls, monkeypatch)
    model = tiny.build(name, **SHALLOW)
    plain, masked = tiny.inputs_for(name, masked=False), tiny.inputs_for(name)
    expected, expected_masked = model(**plain), model(**masked)
    model.config._attn_implementation = flash
    assert_close(dict(model(**plain)), dict(expected), **CLOSE)
    assert calls == [(None, False)] * READS.get(name, 1 + 1 + 2 * 4 - 2)

    calls.clear()
    assert_close(dict(model(**masked)), dict(expected_masked), **CLOSE)
    assert calls == []

    # One stream without padding is read by flash attention, from within and from the other one.
    masked.pop("attention_mask")
    model.config._attn_implementation = "eager"
    expected = model(**masked)
    model.config._attn_implementation = flash
    assert_close(dict(model(**masked)), dict(expected), **CLOSE)
    assert calls == [(None, False)] * (1 + 2 + (1 if name not in READS else 2))


@pytest.mark.parametrize("implementation", ["flex_attention", FLASH])
def test_masks_per_head_use_a_supported_implementation(implementation, monkeypatch):
    """The flex attention of transformers reads the mask of the first head for all of them.

    On a CPU masks never reach it; without a device there are shapes to see, which is enough.
    """
    calls = []
    register(implementation, calls, monkeypatch)
    model = tiny.build("LxmertModel", **SHALLOW).to("meta")
    model.config._attn_implementation = implementation
    given = {key: value.to("meta") for key, value in tiny.inputs(masked=False).items()}
    masks = {
        "attention_mask": torch.ones(3, 4, 7, 7, dtype=torch.bool, device="meta"),
        "visual_attention_mask": torch.ones(3, 1, 5, 5, dtype=torch.bool, device="meta"),
    }
    model(**given, **masks)
    # Across streams and among regions one mask serves all heads; text among itself is left out.
    expected = [(1, 5, 5), *[(1, 7, 5), (1, 5, 7), (1, 5, 5)] * 2]
    assert [mask.shape[1:] for mask, _ in calls] == (expected if implementation != FLASH else [])


@pytest.mark.parametrize("name", NAMES)
def test_flex_attention_computes_the_same_on_a_cpu(name):
    """There torch's flex attention reads no mask safely and has no gradient: it is left out."""
    model, given = tiny.build(name, **SHALLOW), tiny.inputs_for(name) | tiny.labels_for(name)
    expected = model(**given)
    model.set_attn_implementation("flex_attention")
    output = model(**given)
    assert_close(dict(output), dict(expected), **CLOSE)
    whole = tiny.inputs_for(name, masked=False) | tiny.labels_for(name)
    loss = model(**whole).loss if "loss" in output else model(**whole).pooled_output.sum()
    loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_flex_attention_without_a_mask_is_equal(name):
    sizes = {"hidden_size": 64}  # flex attention needs heads of 16 and more
    model, given = tiny.build(name, **SHALLOW, **sizes), tiny.inputs_for(name, masked=False)
    with torch.no_grad():
        expected = model(**given)
        model.set_attn_implementation("flex_attention")
        assert_close(dict(model(**given)), dict(expected), **CLOSE)


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("name", NAMES)
def test_fused_attention_is_equal_on_a_gpu(name, attention, masked):
    model = tiny.build(name, hidden_size=64).cuda()
    given = {key: value.cuda() for key, value in tiny.inputs_for(name, masked=masked).items()}
    expected = model(**given)
    model.set_attn_implementation(attention)
    assert_close(dict(model(**given)), dict(expected), rtol=1e-4, atol=1e-4)
