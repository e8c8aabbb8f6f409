import inspect
import re

import pytest
import torch

from lxmert.model.inputs import PASSED_BY_LIBRARIES

from . import tiny


def model():
    return tiny.build("LxmertForQuestionAnswering")


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize("unknown", ["visual_mask", "position_ids", "masked_lm_labels"])
def test_unknown_keyword_is_refused(name, unknown):
    """A5: misspelt and obsolete keywords were accepted and did nothing."""
    with pytest.raises(TypeError) as refusal:
        tiny.build(name)(**tiny.inputs(), **{unknown: torch.ones(3, 7)})
    got, nearest = re.findall("'(.*?)'", str(refusal.value))
    assert got == unknown
    assert nearest in inspect.signature(tiny.MODELS[name][0].forward).parameters


def test_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'visual_attention_mask'"):
        model()(**tiny.inputs(masked=False), visual_atention_mask=torch.ones(3, 5))
    with pytest.raises(TypeError, match="did you mean 'visual_attention_mask'"):
        model()(**tiny.inputs(masked=False), visual_mask=torch.ones(3, 5))  # was: visual_feats
    with pytest.raises(TypeError, match="did you mean 'visual_feats'"):
        model()(**tiny.inputs(), visual_features=torch.ones(3, 5))
    with pytest.raises(TypeError, match="did you mean 'labels'"):
        model()(**tiny.inputs(), label=torch.ones(3))


@pytest.mark.parametrize("name", sorted(PASSED_BY_LIBRARIES))
def test_keywords_of_libraries_are_ignored(name):
    expected = model()(**tiny.inputs()).question_answering_score
    given = {name: 8, "start_positions": None}
    assert torch.equal(model()(**tiny.inputs(), **given).question_answering_score, expected)


def with_changes(**changes):
    return {key: value for key, value in (tiny.inputs() | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": None}, "No text is given, expected exactly one"),
        ({"inputs_embeds": torch.ones(3, 7, 32)}, "input_ids and inputs_embeds are given"),
        ({"visual_feats": None}, r"visual_feats is None.*\[batch, regions, 9\]"),
        ({"visual_pos": None}, r"visual_pos is None.*\[batch, regions, 5\]"),
        ({"visual_feats": torch.ones(3, 5, 8)}, r"\[3, 5, 8\], expected \[batch, regions, 9\]"),
        ({"visual_feats": torch.ones(2, 5, 9)}, "visual_pos has shape .*expected .2, 5, 5"),
        ({"visual_feats": torch.ones(5, 9)}, r"\[5, 9\], expected \[batch, regions, 9\]"),
        ({"visual_pos": torch.ones(3, 5, 4)}, r"visual_pos.*\[3, 5, 4\], expected \[3, 5, 5\]"),
        ({"visual_pos": torch.ones(3, 6, 5)}, r"visual_pos.*\[3, 6, 5\], expected \[3, 5, 5\]"),
        ({"input_ids": torch.ones(7).long()}, r"\[7\], expected \[batch, text_len\]"),
        ({"token_type_ids": torch.ones(3, 6).long()}, r"\[3, 6\], expected \[3, 7\]"),
        ({"attention_mask": torch.ones(3, 5)}, r"attention_mask has shape \[3, 5\], expected"),
        ({"attention_mask": torch.ones(3, 2, 7).bool()}, r"\[3, 2, 7\], expected"),
        ({"attention_mask": torch.ones(3, 3, 7, 7).bool()}, r"\[3, 1 or 4, 1 or 7, 7\]"),
        ({"visual_attention_mask": torch.ones(3, 7)}, r"visual_attention_mask.*\[3, 5\]"),
        ({"visual_attention_mask": torch.ones(3)}, r"visual_attention_mask has shape \[3\]"),
        ({"attention_mask": torch.zeros(3, 1, 7, 7)}, "may be additive"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        model()(**with_changes(**changes))


def test_text_beyond_the_position_table_is_refused():
    """B11: it was a bare IndexError."""
    given = tiny.inputs(masked=False)
    del given["token_type_ids"]
    longest = torch.full((3, 19), 8)
    assert model()(**given | {"input_ids": longest}).question_answering_score.shape == (3, 13)
    with pytest.raises(ValueError, match=r"20 word pieces.*max_length=19"):
        model()(**given | {"input_ids": torch.full((3, 20), 8)})


def test_padding_without_a_mask_gives_a_warning(monkeypatch):
    seen = []
    monkeypatch.setattr("transformers.modeling_utils.logger.warning_once", seen.append)
    padded = tiny.inputs(masked=False)
    padded["input_ids"][0, -1] = 0
    plain = tiny.build("LxmertModel", pad_token_id=0)
    plain(**padded, attention_mask=torch.ones(3, 7))
    assert seen == []
    plain(**padded)
    assert len(seen) == 1
    assert "attention_mask" in seen[0]


@pytest.mark.parametrize("wanted", [None, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(3, 6).long()}, r"labels has shape \[3, 6\], expected \[3, 7\]"),
        ({"matched_label": torch.ones(2).long()}, r"matched_label.*expected \[3\]"),
        ({"obj_labels": {"obj": (torch.zeros(3, 4).long(), torch.ones(3, 5))}}, r"\['obj'\]\[0\]"),
        ({"obj_labels": {"obj": (torch.zeros(3, 5).long(), torch.ones(3, 4))}}, r"\['obj'\]\[1\]"),
        (
            {"obj_labels": {"feat": (torch.ones(3, 5, 8), torch.ones(3, 5))}},
            r"expected \[3, 5, 9\]",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(changes, message, wanted):
    """They were bare errors of torch, and another one with each value of output_predictions."""
    with pytest.raises(ValueError, match=message):
        tiny.build("LxmertForPreTraining")(**tiny.inputs(), **changes, output_predictions=wanted)


@pytest.mark.parametrize("name", tiny.OURS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": torch.full((3, 7), 51)}, r"input_ids contains 51, expected 0 to 50"),
        ({"input_ids": torch.full((3, 7), -1)}, "input_ids contains -1, expected 0 to 50"),
        ({"input_ids": torch.ones(3, 7)}, r"input_ids is torch\.float32, expected integers"),
        ({"token_type_ids": torch.full((3, 7), 3)}, "token_type_ids contains 3, expected 0 to 2"),
        ("batch", r"has shape \[0, .* is empty"),
        ("text", r"input_ids has shape \[3, 0\], which is empty"),
    ],
)
def test_inputs_that_no_embedding_has_are_refused(name, changes, message):
    """Bug: IndexError from deep inside of torch."""
    given = tiny.inputs_for(name)
    if changes == "batch":
        changes = {key: value[:0] for key, value in given.items()}
    elif changes == "text":
        changes = {key: v[:, :0] for key, v in given.items() if not key.startswith("visual")}
    with pytest.raises(ValueError, match=message):
        tiny.build(name)(**given | changes)


@pytest.mark.parametrize("wrong", [[[1, 2]], "text", 5])
def test_inputs_other_than_tensors_are_refused(wrong):
    for key in ("input_ids", "visual_feats", "visual_pos"):
        with pytest.raises(
            TypeError, match=f"{key} is a {type(wrong).__name__}, expected a tensor"
        ):
            model()(**tiny.inputs() | {key: wrong})


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("LxmertForQuestionAnswering", {"labels": torch.tensor([0, 13, 1])}),
        ("LxmertForQuestionAnswering", {"labels": torch.tensor([0, -2, 1])}),
        ("LxmertForPreTraining", {"ans": torch.tensor([0, 99, 1])}),
        ("LxmertForPreTraining", {"matched_label": torch.tensor([0, 2, 1])}),
        ("LxmertForPreTraining", {"labels": torch.full((3, 7), 51)}),
        (
            "LxmertForPreTraining",
            {"obj_labels": {"obj": (torch.full((3, 5), 11), torch.ones(3, 5))}},
        ),
        (tiny.PAIRS, {"labels": torch.tensor([0, 2, 1])}),
        (tiny.MATCHING, {"labels": torch.tensor([0, 2, 1])}),
    ],
)
def test_an_id_that_is_no_class_is_refused(name, labels):
    """Bug: "Target 99 is out of bounds" from torch, an IndexError."""
    with pytest.raises(ValueError, match=r"class id -?\d+ for \d+ classes: expected 0 to"):
        tiny.build(name)(**tiny.inputs_for(name), **labels)
