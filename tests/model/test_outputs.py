import pickle

import pytest
import torch
from torch.utils import _pytree

from . import tiny

FURTHER_MAPS = {
    "vision_cross_attentions": (tiny.REGIONS, tiny.TEXT_LEN),
    "cross_language_attentions": (tiny.TEXT_LEN, tiny.TEXT_LEN),
    "cross_vision_attentions": (tiny.REGIONS, tiny.REGIONS),
}


def output_of(name, **changes):
    flags = {"output_attentions": True, "output_hidden_states": True}
    return tiny.build(name)(**tiny.inputs() | tiny.labels_for(name) | flags | changes)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_last_three_items_are_the_documented_maps(name):
    output = output_of(name)
    assert [len(maps) for maps in output[-3:]] == [2, 1, 3]
    assert output[-3] is output.language_attentions
    assert output[-2] is output["vision_attentions"]
    assert output.to_tuple()[-1] is output.cross_encoder_attentions


@pytest.mark.parametrize("name", tiny.MODELS)
def test_further_maps_have_a_name_only(name):
    """C7: regions over text, and both self-attentions inside cross layers, were not returned."""
    output = output_of(name)
    for key, (queries, keys) in FURTHER_MAPS.items():
        assert key in output.keys()  # noqa: SIM118 - the mapping's keys are what is tested
        assert len(output[key]) == 3
        assert all(maps.shape == (tiny.BATCH, 4, queries, keys) for maps in output[key])
        assert not any(item is output[key] for item in output.to_tuple())
    assert not FURTHER_MAPS.keys() & output_of(name, output_attentions=None).keys()


def test_further_maps_are_those_that_the_layers_computed():
    """Each map, recomputed from the states around it."""
    model, output = tiny.build("LxmertModel"), output_of("LxmertModel")
    layer = model.encoder.x_layers[2]
    text, regions = output.language_hidden_states[-2], output.vision_hidden_states[-2]
    words, boxes = tiny.inputs()["attention_mask"], tiny.inputs()["visual_attention_mask"]

    def hide(mask):
        return (1 - mask.float())[:, None, None] * -1e9

    attend = layer.visual_attention
    lang, text_over_regions = attend(text, regions, hide(boxes), True)
    visual, regions_over_text = attend(regions, text, hide(words), True)
    _, text_over_text = layer.lang_self_att(lang, hide(words), True)
    _, regions_over_regions = layer.visn_self_att(visual, hide(boxes), True)
    torch.testing.assert_close(output.cross_encoder_attentions[2], text_over_regions)
    torch.testing.assert_close(output.vision_cross_attentions[2], regions_over_text)
    torch.testing.assert_close(output.cross_language_attentions[2], text_over_text)
    torch.testing.assert_close(output.cross_vision_attentions[2], regions_over_regions)


def test_predictions_and_losses_have_a_name_only():
    output = output_of("LxmertForPreTraining", output_predictions=True)
    assert len(output.to_tuple()) == 9
    assert output[0] is output.loss
    assert output.object_logits.shape == (tiny.BATCH, tiny.REGIONS, 11)
    assert output.attribute_logits.shape == (tiny.BATCH, tiny.REGIONS, 7)
    assert output.feature_predictions.shape == (tiny.BATCH, tiny.REGIONS, 9)
    assert set(output.losses) == {"mask_lm", "matched", "obj", "attr", "feat", "qa"}


@pytest.mark.parametrize("name", tiny.MODELS)
def test_outputs_survive_copying(name):
    """Distributed wrappers flatten outputs to tensors and build them again; others pickle them."""
    with torch.no_grad():
        output = output_of(name)
    leaves, structure = _pytree.tree_flatten(output)
    for again in (
        _pytree.tree_unflatten(leaves, structure),
        pickle.loads(pickle.dumps(output)),
        type(output)(dict(output)),
    ):
        assert type(again) is type(output)
        assert list(again.keys()) == list(output.keys())
        assert len(again.to_tuple()) == len(output.to_tuple())
        torch.testing.assert_close(dict(again), dict(output), rtol=0, atol=0)
