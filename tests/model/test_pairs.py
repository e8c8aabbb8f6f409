"""The heads beyond the documentation: statements about two images, and matching."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
)

from . import tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
IMAGE = ("visual_feats", "visual_pos", "visual_attention_mask")


def test_statement_is_judged_from_both_pooled_outputs():
    """C8: there was no model for NLVR2. The rule is that of the original system."""
    model, given = tiny.build(tiny.PAIRS), tiny.inputs_for(tiny.PAIRS)
    pooled = []
    for image in range(2):
        one = given | {name: given[name][:, image] for name in IMAGE}
        pooled.append(model.lxmert(**one).pooled_output)
    first, _, norm, last = model.classifier.logit_fc
    assert first.weight.shape == (64, 64)
    assert last.weight.shape == (2, 64)
    hidden = functional.gelu(functional.linear(torch.cat(pooled, -1), first.weight, first.bias))
    hidden = functional.layer_norm(hidden, (64,), norm.weight, norm.bias, 1e-12)
    expected = functional.linear(hidden, last.weight, last.bias)
    labels = torch.tensor([1, 0, 1])
    output = model(**given, labels=labels)
    assert_close(output.logits, expected, **CLOSE)
    assert_close(output.loss, functional.cross_entropy(expected, labels), **CLOSE)
    assert_close(model(**given, labels=labels, return_dict=False), (output.loss, output.logits))


def test_text_of_several_images_is_encoded_once():
    model = tiny.build(tiny.PAIRS)
    given = tiny.inputs_for(tiny.PAIRS, masked=False)
    rows = []
    model.lxmert.encoder.layer[0].register_forward_hook(
        lambda _m, _i, out: rows.append(len(out[0]))
    )
    model.lxmert.encoder.r_layers[0].register_forward_hook(
        lambda _m, _i, out: rows.append(len(out[0]))
    )
    model(**given)
    assert rows == [tiny.BATCH, 2 * tiny.BATCH]


def test_encoded_sides_of_several_images():
    model, given = tiny.build(tiny.PAIRS), tiny.inputs_for(tiny.PAIRS)
    expected = model(**given).logits
    flat = {name: given[name].flatten(0, 1) for name in IMAGE}
    text = {name: value for name, value in given.items() if name not in IMAGE}
    images = model.lxmert.encode_image(**flat)
    encoded = model.lxmert.encode_text(**text)
    assert_close(model(**text, encoded_image=images).logits, expected, **CLOSE)
    assert_close(model(encoded_text=encoded, encoded_image=images).logits, expected, **CLOSE)


def test_text_beside_an_encoded_text_is_refused():
    """It was ignored without a word."""
    model, given = tiny.build(tiny.PAIRS), tiny.inputs_for(tiny.PAIRS)
    encoded = model.lxmert.encode_text(given["input_ids"])
    with pytest.raises(ValueError, match="input_ids and encoded_text are given"):
        model(**given, encoded_text=encoded)


def test_answers_are_no_classes(tmp_path):
    """A pretraining folder that named its answers gave the pairs as many classes."""
    names = {index: f"answer {index}" for index in range(13)}
    tiny.build("LxmertForPreTraining", id2label=names).save_pretrained(tmp_path)
    model = LxmertForImagesAndTextClassification.from_pretrained(tmp_path)
    assert model.classifier.logit_fc[-1].out_features == 2


def test_number_of_images_is_configured():
    model = tiny.build(tiny.PAIRS, num_images=3, num_classes=5)
    given = tiny.inputs()
    given |= {name: torch.stack([given[name]] * 3, dim=1) for name in IMAGE}
    assert model(**given).logits.shape == (tiny.BATCH, 5)
    with pytest.raises(
        ValueError, match=r"visual_feats has shape.*expected \[batch, 3, regions, 9\]"
    ):
        model(**tiny.inputs_for(tiny.PAIRS))
    with pytest.raises(ValueError, match=r"visual_attention_mask.*expected \[batch, 3, regions\]"):
        model(**given | {"visual_attention_mask": torch.ones(3, 5)})
    with pytest.raises(ValueError, match="visual_feats is None"):
        model(**given | {"visual_feats": None})


def test_matching_is_the_head_of_pretraining(tmp_path):
    """D9: index 1 means a match, as trained by `matched_label`."""
    pretrained = tiny.build("LxmertForPreTraining")
    pretrained.save_pretrained(tmp_path)
    model, info = LxmertForImageAndTextRetrieval.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given, labels = tiny.inputs(), torch.tensor([0, 1, 1])
    expected = pretrained(**given, matched_label=labels)
    output = model(**given, labels=labels)
    assert_close(output.logits, expected.cross_relationship_score, **CLOSE)
    assert_close(output.loss, expected.loss, **CLOSE)


def test_pretrained_weights_load_below_the_pair_head(tmp_path):
    pretrained = tiny.build("LxmertModel")
    pretrained.save_pretrained(tmp_path)
    model, info = LxmertForImagesAndTextClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"classifier"}
    expected = pretrained.state_dict()
    for key, value in model.lxmert.state_dict().items():
        assert torch.equal(value, expected[key]), key
