"""Padding left out of dense layers: the same answers and gradients, on fewer rows."""

import pytest
import torch
from torch.testing import assert_close

from lxmert.model.packing import find_packing

from . import tiny

POOLED = ["LxmertForQuestionAnswering", tiny.PAIRS, tiny.MATCHING]


@pytest.mark.parametrize("seed", range(8))
def test_packing_there_and_back(seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(4, 6, generator=generator) < 0.6
    mask[:, 0] = True
    mask[0, 3] = False
    packing = find_packing(mask.long())
    padded = torch.randn(4, 6, 3, generator=generator)
    packed = packing.pack(padded)
    assert torch.equal(packed, padded[mask])
    assert torch.equal(packing.unpack(packed), padded * mask[:, :, None])
    assert torch.equal(packed[packing.firsts], padded[:, 0])


def test_nothing_is_packed_if_it_is_not_faster():
    mask = tiny.mask(7, [4, 7, 5])
    assert find_packing(mask) is not None
    assert find_packing(None) is None
    assert find_packing(torch.ones(3, 7)) is None
    assert find_packing(mask[:, None].expand(3, 7, 7)) is None
    assert find_packing(mask.flip(1)) is None  # a hidden first word is still to be read
    assert find_packing(mask.to("meta")) is None


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", POOLED)
def test_packed_batches_are_equal(name, attention):
    model = tiny.build(name, attention=attention)
    given = tiny.inputs_for(name) | tiny.labels_for(name)
    rows = []
    encoder = model.lxmert.encoder
    for layer in (encoder.layer[0], encoder.r_layers[0]):
        layer.intermediate.register_forward_hook(lambda _m, _i, out: rows.append(out.shape))
    packed = model(**given)
    packed.loss.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    words = int(given["attention_mask"].sum())
    regions = int(given["visual_attention_mask"].sum())
    # The text of several images is encoded once, as users would encode it, and then repeated.
    text = (tiny.BATCH, tiny.TEXT_LEN, 48) if name == tiny.PAIRS else (words, 48)
    assert rows == [text, (regions, 48)]
    model.zero_grad()
    # States are only there for all positions, so that this call packs nothing.
    whole = model(**given, output_hidden_states=True)
    assert rows[2][:-1] == (tiny.BATCH, tiny.TEXT_LEN)
    assert_close(packed.to_tuple(), whole.to_tuple()[:2], rtol=1e-5, atol=1e-5)
    whole.loss.backward()
    assert len(gradients) > 100
    for key, gradient in gradients.items():
        assert_close(gradient, model.get_parameter(key).grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["attention_mask", "visual_attention_mask"])
def test_one_side_may_be_padded_and_the_other_not(side):
    model, given = tiny.build(POOLED[0]), tiny.inputs()
    del given[side]
    expected = model(**given, output_hidden_states=True).question_answering_score
    assert_close(model(**given).question_answering_score, expected, rtol=1e-5, atol=1e-5)


def test_hidden_first_words_are_not_lost():
    """The pooled output reads the first word even where its mask hides it from the others."""
    model, given = tiny.build(POOLED[0]), tiny.inputs()
    given["attention_mask"][1, 0] = 0
    expected = model(**given, output_hidden_states=True).question_answering_score
    assert_close(model(**given).question_answering_score, expected, rtol=1e-5, atol=1e-5)
