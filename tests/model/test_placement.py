"""Our models spread over devices and the disk by accelerate.

No test has two accelerators. On a CPU the disk is the second place: each block is loaded when it is
called, so that whatever is read outside of its block is missing.
"""

import pytest
import torch
from accelerate import (
    cpu_offload,
    dispatch_model,
    infer_auto_device_map,
    init_empty_weights,
    load_checkpoint_and_dispatch,
)
from accelerate.utils import compute_module_sizes
from torch.testing import assert_close

from . import tiny

NAMES = list(tiny.OURS)
PRETRAINING = "LxmertForPreTraining"


def given_to(name):
    return tiny.inputs_for(name) | tiny.labels_for(name)


def blocks(model):
    """Return the names of what may not be split."""
    kinds = set(model._no_split_modules)
    return [name for name, module in model.named_modules() if type(module).__name__ in kinds]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_no_block_is_split(name, share):
    """C3: parts of one cross layer could be put on different devices."""
    model = tiny.build(name)
    size = compute_module_sizes(model)[""]
    memory = {0: int(size * share), 1: int(size * share), "cpu": size}
    places = infer_auto_device_map(model, memory, no_split_module_classes=model._no_split_modules)
    assert len(set(places.values())) > 1
    assert len(blocks(model)) >= 2 + 2 + 3 + 1
    for block in blocks(model):
        # A place is that of a module and of all within it.
        within = {place for key, place in places.items() if key.startswith(f"{block}.")}
        assert not within, (block, places)


def alternating(model, places):
    """Put blocks, and modules that are in none, in turn into each of the places."""
    found = {}
    for key, _ in model.named_parameters():
        inside = [block for block in blocks(model) if key.startswith(f"{block}.")]
        found.setdefault((*inside, key.rpartition(".")[0])[0], places[len(found) % len(places)])
    assert set(found.values()) == set(places)
    return found


def spread(model, folder):
    return dispatch_model(model, alternating(model, ["disk", "cpu"]), offload_dir=folder)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_blocks_on_the_disk_give_the_same(name, tmp_path):
    expected = tiny.build(name)(**given_to(name))
    model = spread(tiny.build(name), tmp_path)
    on_disk = [key for key, value in model.named_parameters() if value.device.type == "meta"]
    assert len(on_disk) > 50
    with torch.no_grad():
        assert_close(dict(model(**given_to(name))), dict(expected), rtol=0, atol=0)


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_one_side_is_encoded_on_any_device(place, tmp_path):
    expected = tiny.build("LxmertModel")(**tiny.inputs()).pooled_output
    model = tiny.build("LxmertModel")
    model = spread(model, tmp_path) if place == "disk" else cpu_offload(model)
    given = tiny.inputs()
    with torch.no_grad():
        image = model.encode_image(*(given[key] for key in given if key.startswith("visual")))
        text = model.encode_text(
            given["input_ids"], given["attention_mask"], given["token_type_ids"]
        )
        output = model(encoded_text=text, encoded_image=image)
    assert_close(output.pooled_output, expected, rtol=0, atol=0)


def test_tied_weights_stay_tied_when_offloaded():
    """The decoder of words is the embedding, wherever that is."""
    model = tiny.build(PRETRAINING)
    expected = model(**tiny.inputs()).prediction_logits
    with torch.no_grad():
        output = cpu_offload(model)(**tiny.inputs())
    assert_close(output.prediction_logits, expected, rtol=0, atol=0)


HALVES = {
    "lxmert.embeddings": "cpu",
    "lxmert.encoder": "disk",
    "lxmert.pooler": "cpu",
    "cls": "cpu",
    "obj_predict_head": "cpu",
    "answer_head": "disk",
}


@pytest.mark.parametrize("place", ["auto", {"": "cpu"}, HALVES], ids=["auto", "cpu", "halves"])
def test_files_are_loaded_to_their_device(place, tmp_path):
    model = tiny.build(PRETRAINING)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(
        tmp_path, device_map=place, offload_folder=tmp_path / "offload", attn_implementation="eager"
    )
    with torch.no_grad():
        output = loaded(**given_to(PRETRAINING))
    assert_close(dict(output), dict(model(**given_to(PRETRAINING))), rtol=0, atol=0)
    tied = loaded.cls.predictions.decoder.weight
    assert tied is loaded.lxmert.embeddings.word_embeddings.weight


def test_checkpoint_is_read_into_an_empty_model(tmp_path):
    """A model without memory holds nothing that a file does not bring, such as a buffer."""
    model = tiny.build("LxmertForQuestionAnswering")
    model.save_pretrained(tmp_path)
    with init_empty_weights():
        empty = type(model)(model.config)
    assert {value.device.type for value in empty.state_dict().values()} == {"meta"}
    loaded = load_checkpoint_and_dispatch(
        empty, str(tmp_path / "model.safetensors"), device_map={"": "cpu"}
    ).eval()
    given = given_to("LxmertForQuestionAnswering")
    assert_close(dict(loaded(**given)), dict(model(**given)), rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_two_devices_give_the_same(name):
    """Half of the blocks on the GPU, the others on the CPU, which computes as well."""
    model = tiny.build(name)
    expected = model(**given_to(name))
    model = dispatch_model(model, alternating(model, [0, "cpu"]), main_device="cpu")
    with torch.no_grad():
        output = model(**given_to(name))
    assert_close(dict(output), dict(expected), rtol=1e-4, atol=1e-4, check_device=False)
