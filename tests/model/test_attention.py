import math

import pytest
import torch
from torch.testing import assert_close

from lxmert.model.attention import (
    LxmertAttention,
    additive_mask,
    attend_eagerly,
    attention_dtype,
    stream_mask,
)

from . import tiny

HALVES = (torch.bfloat16, torch.float16)
PLACE = {"attention_mask": "input_ids", "visual_attention_mask": "visual_feats"}


def by_hand(query, key, value, readable):
    """Attend one query at a time, in plain arithmetic."""
    result = torch.zeros(*query.shape[:3], value.shape[-1])
    maps = torch.zeros(*query.shape[:3], key.shape[2])
    for batch, head, row in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])):
        allowed = [k for k in range(key.shape[2]) if readable[batch, head, row, k]]
        scores = [
            math.exp(float(query[batch, head, row] @ key[batch, head, k]) / query.shape[-1] ** 0.5)
            for k in allowed
        ]
        for k, score in zip(allowed, scores, strict=True):
            maps[batch, head, row, k] = score / sum(scores)
            result[batch, head, row] += value[batch, head, k] * score / sum(scores)
    return result.transpose(1, 2), maps


def attention(implementation):
    config = tiny.config()
    config._attn_implementation = implementation
    return tiny.randomize(LxmertAttention(config))


@pytest.mark.parametrize("seed", range(5))
def test_eager_attention_is_the_formula(seed):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 3, 4, 6, generator=generator)
    key, value = torch.randn(2, 2, 3, 5, 6, generator=generator)
    readable = torch.rand(2, 3, 4, 5, generator=generator) < 0.5
    readable[1, 2, 3] = False
    mask = additive_mask(readable, torch.float32)
    expected, maps = by_hand(query, key, value, readable)
    result, result_maps = attend_eagerly(query, key, value, mask, dropout=0.0)
    assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert_close(result_maps, maps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("keys", [3, 8])
def test_attention_without_mask_reads_everything(implementation, keys):
    """Fused attention of a module that does not say otherwise is causal, and drops late keys."""
    layer = attention(implementation)
    words, regions = torch.randn(2, 5, 32), torch.randn(2, keys, 32)
    expected, maps = attention("eager")(words, regions, output_attentions=True)
    assert maps.min() > 0
    result, nothing = layer(words, regions)
    assert nothing is None
    assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_fused_attention_returns_maps_on_request():
    layer, words = attention("sdpa"), torch.randn(2, 5, 32)
    _, maps = layer(words, words, output_attentions=True)
    assert_close(maps.sum(-1), torch.ones(2, 4, 5))


def test_mask_that_hides_nothing_is_dropped():
    assert additive_mask(torch.ones(2, 1, 1, 5, dtype=torch.bool), torch.float32) is None
    assert stream_mask(torch.ones(2, 5), torch.zeros(2, 5, 8))[:2] == (None, None)
    assert stream_mask(None, torch.zeros(2, 5, 8))[:2] == (None, None)


def test_mask_marks_queries_without_keys():
    readable = torch.tensor([[True, False], [True, True]])[:, None, None]
    assert additive_mask(readable, torch.float32).has_key is None
    readable[0] = False
    has_key = additive_mask(readable, torch.float32).has_key
    assert has_key.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.long, torch.float, torch.bfloat16])
def test_two_dimensional_masks_of_any_type(dtype):
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    expected = model(**given).pooled_output
    for key in PLACE:
        given[key] = given[key].to(dtype)
    assert_close(model(**given).pooled_output, expected, rtol=0, atol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("key", PLACE)
def test_equivalent_masks_of_more_dimensions(key, implementation):
    """B11: only two-dimensional masks were accepted."""
    model, given = tiny.build("LxmertModel", attention=implementation), tiny.inputs()
    expected = model(**given)
    flat = given[key].bool()
    length = flat.shape[1]
    for larger in (
        flat[:, None],
        flat[:, None].expand(-1, length, -1),
        flat[:, None, None],
        flat[:, None, None].expand(-1, 4, length, -1).int(),
    ):
        output = model(**given | {key: larger})
        assert_close(output.language_output, expected.language_output, rtol=1e-5, atol=1e-5)
        assert_close(output.vision_output, expected.vision_output, rtol=1e-5, atol=1e-5)


def test_three_dimensional_mask_hides_pairs():
    model, given = tiny.build("LxmertModel"), tiny.inputs(masked=False)
    readable = torch.ones(tiny.BATCH, tiny.TEXT_LEN, tiny.TEXT_LEN)
    readable[:, 2, 4] = 0  # word 2 does not read word 4, the others do
    readable[:, :, 5] = 0  # nobody reads word 5
    output = model(**given, attention_mask=readable.bool(), output_attentions=True)
    for maps in output.language_attentions + output.cross_language_attentions:
        assert_close((maps > 0), readable.bool()[:, None].expand_as(maps))
    for maps in output.vision_cross_attentions:
        assert (maps[..., 5] == 0).all()
        assert (maps[..., 4] > 0).all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_image_without_a_valid_region_has_no_effect(dtype, implementation):
    """A4: with every region masked, text read the mean of the padding."""
    model = tiny.build("LxmertModel", attention=implementation).to(dtype)
    given = tiny.inputs(dtype=dtype)
    given["visual_attention_mask"][1] = 0
    expected = model(**given)
    given["visual_feats"][1] += 3.25
    output = model(**given)
    assert output.language_output.isfinite().all()
    assert output.vision_output.isfinite().all()
    assert_close(output.language_output, expected.language_output, rtol=0, atol=0)
    maps = model(**given, output_attentions=True).cross_encoder_attentions
    for layer in maps:
        assert (layer[1] == 0).all()
        assert_close(layer[0].float().sum(-1), torch.ones(4, tiny.TEXT_LEN), rtol=0, atol=2e-2)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_text_without_a_valid_word_is_finite(implementation):
    model = tiny.build("LxmertForQuestionAnswering", attention=implementation)
    given = tiny.inputs()
    given["attention_mask"][2] = 0
    output = model(**given, labels=torch.tensor([1, 2, 3]))
    output.loss.backward()
    assert output.question_answering_score.isfinite().all()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 100
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_autocast_computes_in_its_dtype(implementation):
    model, given = tiny.build("LxmertModel", attention=implementation), tiny.inputs()
    given["visual_attention_mask"][1] = 0
    expected = model(**given).pooled_output
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_dtype(torch.zeros(1)) == torch.bfloat16
        output = model(**given)
    assert_close(output.pooled_output.float(), expected, rtol=0, atol=0.1)


def test_maps_are_those_before_dropout():
    """A7: maps were returned after dropout, so that in training their rows did not sum to 1."""
    model = tiny.build("LxmertModel", attention_probs_dropout_prob=0.5).train()
    output = model(**tiny.inputs(), output_attentions=True)
    for maps in (
        *output.language_attentions,
        *output.vision_attentions,
        *output.cross_encoder_attentions,
        *output.vision_cross_attentions,
    ):
        assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_dropout_works_in_training_only(implementation):
    model = tiny.build("LxmertModel", attention=implementation, hidden_dropout_prob=0.0)
    given = tiny.inputs()
    first = model(**given).pooled_output
    assert_close(model(**given).pooled_output, first, rtol=0, atol=0)
    model.train()
    assert (model(**given).pooled_output - first).abs().max() > 1e-3


def test_gradients_reach_the_returned_maps():
    """Relevance methods differentiate an answer with respect to each map."""
    model = tiny.build("LxmertForQuestionAnswering", attention="sdpa")
    output = model(**tiny.inputs(), output_attentions=True)
    maps = [
        *output.language_attentions,
        *output.vision_attentions,
        *output.cross_encoder_attentions,
        *output.vision_cross_attentions[:-1],
        *output.cross_language_attentions,
        *output.cross_vision_attentions[:-1],
    ]
    assert len(maps) == 2 + 1 + 3 + 2 + 3 + 2
    score = output.question_answering_score[0, 4]
    for gradient in torch.autograd.grad(score, maps):
        assert gradient[0].abs().max() > 0


@pytest.mark.slow
def test_flex_attention_is_equal():
    model, given = tiny.build("LxmertModel", hidden_size=64), tiny.inputs(masked=False)
    with torch.no_grad():
        expected = model(**given).pooled_output
        model.set_attn_implementation("flex_attention")
        assert_close(model(**given).pooled_output, expected, rtol=1e-5, atol=1e-5)


def test_flex_attention_with_a_mask_is_safe_on_a_cpu():
    """There torch's flex attention corrupts memory, so these calls compute step by step."""
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    given["attention_mask"][:, -1] = 0
    given["visual_attention_mask"][:, -1] = 0
    expected = model(**given).pooled_output
    model.set_attn_implementation("flex_attention")
    assert_close(model(**given).pooled_output, expected, rtol=0, atol=0)
