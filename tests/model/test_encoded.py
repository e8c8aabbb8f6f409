"""One side computed once: encoded streams, and what a pooled head leaves out."""

import pytest
import torch
from torch.testing import assert_close

from . import tiny

NEAR = {"rtol": 0, "atol": 1e-6}
FLAGS = {"output_attentions": True, "output_hidden_states": True}
TEXT = ("input_ids", "attention_mask", "token_type_ids")
IMAGE = ("visual_feats", "visual_pos", "visual_attention_mask")
ONE_IMAGE = [name for name in tiny.OURS if name != tiny.PAIRS]


def base(model):
    return getattr(model, "lxmert", model)


def side(given, names):
    return {name: given[name] for name in names if name in given}


@pytest.mark.long
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("flags", [{}, FLAGS])
@pytest.mark.parametrize("name", ONE_IMAGE)
def test_encoded_sides_equal_the_full_call(name, flags, masked, attention):
    """C6: an image could not be encoded once for many questions, nor a text for many images."""
    model = tiny.build(name, attention=attention).double()
    given = tiny.inputs(masked=masked, dtype=torch.float64)
    expected = dict(model(**given, **flags))
    text, image = side(given, TEXT), side(given, IMAGE)
    encoded_text = base(model).encode_text(**text, **flags)
    encoded_image = base(model).encode_image(**image, **flags)
    for call in (
        {"encoded_text": encoded_text, **image},
        {**text, "encoded_image": encoded_image},
        {"encoded_text": encoded_text, "encoded_image": encoded_image},
        {"encoded_text": encoded_text, "encoded_image": encoded_image},
    ):
        assert_close(dict(model(**call, **flags)), expected, **NEAR)


def test_embedded_text_can_be_encoded():
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    embedded = model.get_input_embeddings()(given["input_ids"])
    encoded = model.encode_text(
        inputs_embeds=embedded, **side(given, ("attention_mask", "token_type_ids"))
    )
    assert_close(encoded.last_hidden_state, model.encode_text(**side(given, TEXT))[0], **NEAR)


def test_one_image_for_many_questions():
    model, given = tiny.build("LxmertForQuestionAnswering"), tiny.inputs()
    image = model.lxmert.encode_image(**side(given, IMAGE))
    rows = torch.tensor([1, 1, 0])
    expected = model(
        **side(given, TEXT), **{name: given[name][rows] for name in IMAGE}
    ).question_answering_score
    output = model(**side(given, TEXT), encoded_image=image.take(rows))
    assert_close(output.question_answering_score, expected, **NEAR)


def test_taken_rows_bring_states_and_maps():
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    rows = torch.tensor([2, 0, 0, 1])
    text = model.encode_text(**side(given, TEXT), **FLAGS).take(rows)
    image = model.encode_image(**side(given, IMAGE), **FLAGS).take(rows)
    output = model(encoded_text=text, encoded_image=image, **FLAGS)
    expected = model(**given, **FLAGS)
    for key, value in output.items():
        for part, whole in zip(
            value if isinstance(value, tuple) else [value],
            expected[key] if isinstance(value, tuple) else [expected[key]],
            strict=True,
        ):
            assert_close(part, whole[rows], **NEAR)


def test_gradients_flow_through_an_encoded_side():
    model, given = tiny.build("LxmertForQuestionAnswering"), tiny.inputs()
    labels = torch.tensor([4, 0, 12])
    model(**given, labels=labels).loss.backward()
    expected = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    image = model.lxmert.encode_image(**side(given, IMAGE))
    model(**side(given, TEXT), encoded_image=image, labels=labels).loss.backward()
    assert len(expected) > 100
    for key, gradient in expected.items():
        assert_close(model.get_parameter(key).grad, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoded_text": "text"}, "input_ids and encoded_text are given"),
        ({"encoded_text": "text", "input_ids": None}, "attention_mask and token_type_ids given be"),
        ({"encoded_image": "image"}, "visual_feats and visual_pos and visual_attention_mask given"),
        ({"encoded_image": "two", **dict.fromkeys(IMAGE)}, "3 texts and 2 images.*take"),
        ({"encoded_image": "wide", **dict.fromkeys(IMAGE)}, r"expected \[batch, length, 32\]"),
        ({"encoded_image": "image", **dict.fromkeys(IMAGE), **FLAGS}, "without output_attentions"),
    ],
)
def test_encoded_sides_that_do_not_fit_are_refused(changes, message):
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    image = model.encode_image(**side(given, IMAGE))
    wide = type(image)(last_hidden_state=torch.ones(3, 5, 31))
    streams = {
        "text": model.encode_text(**side(given, TEXT)),
        "image": image,
        "two": image.take(torch.tensor([0, 1])),
        "wide": wide,
    }
    changes = {
        key: streams[value] if isinstance(value, str) else value for key, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        model(**given | changes)


def test_states_before_the_cross_layers_know_one_side_only():
    """D3: the documentation names the first state, which is only that of the first layer."""
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    other = given | {"visual_feats": given["visual_feats"] + 3.25}
    output = model(**given, output_hidden_states=True)
    changed = model(**other, output_hidden_states=True)
    assert torch.equal(output.language_encoder_state, changed.language_encoder_state)
    assert torch.equal(output.language_encoder_state, output.language_hidden_states[1])
    assert torch.equal(output.vision_encoder_state, output.vision_hidden_states[0])
    assert not torch.allclose(output.language_output, changed.language_output)
    assert "language_encoder_state" not in model(**given)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("mask", ["none", "two", "three", "four"])
def test_pooled_output_alone_is_equal(mask, attention):
    """C5: the last cross layer computed regions and words that the answer never reads."""
    model, given = (
        tiny.build("LxmertModel", attention=attention),
        tiny.inputs(masked=mask != "none"),
    )
    if mask in ("three", "four"):
        causal = torch.ones(tiny.TEXT_LEN, tiny.TEXT_LEN).tril().bool()
        given["attention_mask"] = causal & given["attention_mask"][:, None].bool()
        if mask == "four":
            heads = given["attention_mask"][:, None].repeat(1, 4, 1, 1)
            heads[:, 2, 0, 1:3] = False
            given["attention_mask"] = heads
    expected = model(**given)
    output = model(**given, only_pooled=True)
    assert_close(output.pooled_output, expected.pooled_output, **NEAR)
    assert output.language_output is None
    assert output.vision_output is None
    whole = model(**given, only_pooled=True, output_hidden_states=True)
    assert_close(whole.vision_output, expected.vision_output, **NEAR)


@pytest.mark.parametrize("name", ["LxmertForQuestionAnswering", tiny.PAIRS, tiny.MATCHING])
def test_pooled_heads_leave_out_the_end_of_the_region_stream(name):
    model, given = tiny.build(name), tiny.inputs_for(name)
    ran = []
    last = model.lxmert.encoder.x_layers[-1]
    for part in ("visn_self_att", "visn_inter", "visn_output", "lang_inter", "visual_attention"):
        last.get_submodule(part).register_forward_hook(
            lambda _m, _i, out, part=part: ran.append(part)
        )
    model(**given)
    assert ran == ["visual_attention", "lang_inter"]
    ran.clear()
    model(**given, output_hidden_states=True)
    assert sorted(ran) == sorted(
        ["visual_attention"] * 2 + ["lang_inter", "visn_inter", "visn_output", "visn_self_att"]
    )


def test_rows_may_be_any_integers():
    """A tuple of rows indexed two dimensions at once, and a number took the batch away."""
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    text = model.encode_text(**side(given, TEXT))
    for rows in ((0, 2), [0, 2], torch.tensor([0, 2])):
        assert torch.equal(text.take(rows)[0], text[0][[0, 2]])
    assert text.take(torch.tensor(1))[0].shape == (1, tiny.TEXT_LEN, 32)


def test_a_side_that_was_encoded_in_another_type_is_read():
    """Features of any type were read, but what autocast had encoded was not."""
    model, given = tiny.build("LxmertModel"), tiny.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        image = model.encode_image(**side(given, IMAGE))
    output = model(**side(given, TEXT), encoded_image=image)
    assert output.pooled_output.dtype == torch.float32
