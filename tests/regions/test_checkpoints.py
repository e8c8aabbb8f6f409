import os
import pickle
import random

import pytest
import torch
import torchvision
from regions.published import (
    ANCHORS,
    BYTES,
    HEAD,
    NUM_VALUES,
    PREDICTOR,
    RELATION_LAYERS,
    YAML,
    background_first,
    caffe_bytes,
    caffe_layers,
    detectron2_bytes,
    encode_net,
    full_geometry,
    geometry,
    milvlg_state,
    random_state,
    relation_layers,
    save_bytes,
    with_counters,
    write_huggingface,
    write_safetensors,
)
from safetensors.torch import save_file
from transformers import LxmertConfig, LxmertModel

from lxmert.regions.checkpoints import load_published
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.layouts import caffe_layout, published_shapes

SHAPES = geometry()


@pytest.fixture(scope="module")
def state():
    return random_state()


def load_bytes(folder, data, name="weights"):
    path = folder / name
    path.write_bytes(data)
    return load_published(path, shapes=SHAPES)


def assert_states_equal(first, second):
    assert first.keys() == second.keys()
    for name, values in second.items():
        assert first[name].dtype == torch.float32
        torch.testing.assert_close(first[name], values, rtol=1e-6, atol=1e-6, msg=name)


# --- One model, every format ----------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", BYTES)
def test_every_format_gives_the_same_tensors(name, state, tmp_path):
    published = load_bytes(tmp_path, BYTES[name](state))
    assert published.format == name.partition("-")[0]
    assert_states_equal(published.state, state)


def test_the_folders_give_the_same_tensors(state, tmp_path):
    huggingface = load_published(write_huggingface(tmp_path / "hf", state), shapes=SHAPES)
    assert (huggingface.format, huggingface.notes) == ("huggingface", ())
    assert_states_equal(huggingface.state, state)
    ours = load_published(str(write_safetensors(tmp_path / "ours", state)), shapes=SHAPES)
    assert (ours.format, ours.notes) == ("safetensors", ())
    assert_states_equal(ours.state, state)


def test_formats_without_arithmetic_are_bit_exact(state, tmp_path):
    for name in ("detectron2", "detectron2-python2", "huggingface", "huggingface-old"):
        loaded = load_bytes(tmp_path, BYTES[name](state)).state
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_big_endian_half_and_fortran_arrays_are_read(state, tmp_path):
    arrays = {name: values.numpy() for name, values in state.items()}
    arrays[f"{HEAD}.conv.weight"] = arrays[f"{HEAD}.conv.weight"].astype(">f4")
    arrays[f"{HEAD}.conv.bias"] = arrays[f"{HEAD}.conv.bias"].astype("f8")
    weight = f"{PREDICTOR}.cls_score.weight"
    arrays[weight] = arrays[weight].copy(order="F")
    loaded = load_bytes(tmp_path, pickle.dumps({"model": arrays})).state
    assert_states_equal(loaded, state)
    assert loaded[weight].is_contiguous()


def test_the_content_decides_and_not_the_name(state, tmp_path):
    assert load_bytes(tmp_path, caffe_bytes(state), "model.pkl").format == "caffemodel"
    assert load_bytes(tmp_path, detectron2_bytes(state), "a.caffemodel").format == "detectron2"
    assert load_bytes(tmp_path, save_bytes(milvlg_state(state)), "b.pkl").format == "milvlg"


def test_the_tensors_of_a_training_run_are_detached(state, tmp_path):
    trained = {name: torch.nn.Parameter(values) for name, values in milvlg_state(state).items()
               if values.is_floating_point()}  # fmt: skip
    loaded = load_bytes(tmp_path, save_bytes(trained)).state
    assert not any(values.requires_grad for values in loaded.values())


# --- Full size ------------------------------------------------------------------------------------


def test_the_published_geometry_has_the_published_counts():
    shapes = full_geometry()
    assert published_shapes() == shapes
    assert len(shapes) == 536
    assert len(with_counters({name: torch.zeros(0) for name in shapes})) == 640
    assert round(NUM_VALUES / 1e6, 1) == 65.5
    # Spelled out, so that a mistake in both tables shows.
    assert shapes["backbone.res4.22.conv2.norm.running_var"] == (256,)
    assert shapes["backbone.res3.0.shortcut.weight"] == (512, 256, 1, 1)
    assert shapes["roi_heads.res5.0.conv1.weight"] == (512, 1024, 1, 1)
    assert shapes["roi_heads.box_predictor.bbox_pred.weight"] == (6400, 2048)
    assert shapes["roi_heads.box_predictor.fc_attr.weight"] == (512, 2304)


@pytest.mark.parametrize("preset", ["caffe", "detectron2", "hf"])
def test_the_detector_has_the_canonical_names_and_shapes(preset):
    config = DetectorConfig.preset(
        preset,
        object_names=[f"object {index}" for index in range(1600)],
        attribute_names=[f"attribute {index}" for index in range(400)],
    )
    with torch.device("meta"):
        detector = Detector(config)
    shapes = {name: tuple(values.shape) for name, values in detector.state_dict().items()}
    assert shapes == published_shapes()


def test_caffe_names_of_the_full_size_are_the_prototxts():
    shapes = full_geometry()
    state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    expected = {
        f"{layer}[{index}]": blob.shape
        for layer, blobs in caffe_layers(state).items()
        for index, blob in enumerate(blobs)
    }
    assert dict(caffe_layout(shapes).shapes) == expected
    # 535 tensors but the anchors, and 104 factors.
    assert len(expected) == 639
    assert expected["res4b22_branch2b[0]"] == (256, 256, 3, 3)
    assert expected["bn_conv1[2]"] == (1,)
    assert expected["bbox_pred[0]"] == (6404, 2048)
    assert expected["rpn_cls_score[0]"] == (24, 512, 1, 1)


@pytest.mark.long
def test_the_published_size_loads_by_default(tmp_path):
    state = {
        name: torch.full(shape, 3.25, dtype=torch.float16)
        for name, shape in full_geometry().items()
    }
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(save_bytes(with_counters(state)))
    published = load_published(path)
    assert {
        name: tuple(values.shape) for name, values in published.state.items()
    } == full_geometry()
    assert published.norms["cls_score"] == pytest.approx(3.25 * (1601 * 2048) ** 0.5, rel=1e-4)


# --- Fingerprint and notes ------------------------------------------------------------------------


def test_norms_tell_models_apart_and_formats_not(state, tmp_path):
    names = ("caffemodel", "detectron2", "huggingface", "milvlg")
    norms = [load_bytes(tmp_path, BYTES[name](state)).norms for name in names]
    for part in ("cls_score", "bbox_pred"):
        expected = state[f"{PREDICTOR}.{part}.weight"].double().norm().item()
        assert [each[part] for each in norms] == pytest.approx([expected] * len(norms), rel=1e-4)
    other = load_bytes(tmp_path, detectron2_bytes(random_state(9))).norms
    assert other["cls_score"] != pytest.approx(norms[0]["cls_score"], rel=1e-3)
    assert other["bbox_pred"] != pytest.approx(norms[0]["bbox_pred"], rel=1e-3)


def test_notes_name_what_was_left_out(state, tmp_path):
    """Bug: 97 counters of torch's batch norm were listed on 500 characters."""
    (note,) = load_bytes(tmp_path, caffe_bytes(state)).notes
    count = sum(len(shapes) for shapes in RELATION_LAYERS.values())
    assert f"and {count - 8} more" in note
    assert "fc_object[0]" in note
    assert load_bytes(tmp_path, encode_net(caffe_layers(state))).notes == ()
    notes = load_bytes(tmp_path, BYTES["milvlg"](state)).notes
    assert any("iteration" in note for note in notes)
    assert not any("num_batches_tracked" in note for note in notes)


def test_the_anchors_in_the_file_are_used_and_noted(state, tmp_path):
    other = state | {ANCHORS: state[ANCHORS] + 3.25}
    for write in (detectron2_bytes, BYTES["milvlg"]):
        published = load_bytes(tmp_path, write(other))
        assert torch.equal(published.state[ANCHORS], other[ANCHORS])
        assert any("differ from Caffe's" in note for note in published.notes)


def test_the_same_anchors_in_another_order_are_used_and_not_noted(state, tmp_path):
    """Bug: detectron2's order of Caffe's anchors (by size first) was reported as other anchors."""
    other = state | {ANCHORS: state[ANCHORS].reshape(3, 4, 4).transpose(0, 1).reshape(12, 4)}
    assert not torch.equal(other[ANCHORS], state[ANCHORS])
    published = load_bytes(tmp_path, detectron2_bytes(other))
    assert torch.equal(published.state[ANCHORS], other[ANCHORS])
    assert not any("anchors" in note for note in published.notes)


def test_a_missing_yaml_is_noted(state, tmp_path):
    published = load_bytes(tmp_path, save_bytes(with_counters(state)))
    assert any("no config.yaml" in note for note in published.notes)


# --- Strictness -----------------------------------------------------------------------------------


def without(state, *names):
    return {name: values for name, values in state.items() if name not in names}


def test_missing_unknown_and_misshaped_tensors_are_named(state, tmp_path):
    broken = without(state, f"{HEAD}.conv.bias", "backbone.stem.conv1.norm.bias")
    broken["surprise.weight"] = torch.zeros(3)
    broken[f"{PREDICTOR}.cls_score.bias"] = torch.zeros(3)
    for write in (detectron2_bytes, save_bytes):
        with pytest.raises(ValueError, match="does not contain") as error:
            load_bytes(tmp_path, write(broken))
        for part in (
            "2 missing",
            f"{HEAD}.conv.bias",
            "backbone.stem.conv1.norm.bias",
            "1 unknown: surprise.weight",
            f"{PREDICTOR}.cls_score.bias is [3], not [10]",
        ):
            assert part in str(error.value)


def test_no_tensor_can_be_left_out(state, tmp_path):
    for name in random.Random(0).sample(sorted(state), 8):
        with pytest.raises(ValueError, match=f"1 missing: {name}"):
            load_bytes(tmp_path, detectron2_bytes(without(state, name)))


def test_no_blob_can_be_left_out_of_a_caffemodel(state, tmp_path):
    layers = caffe_layers(state)
    generator = random.Random(0)
    for layer in generator.sample(sorted(layers), 6):
        last = len(layers[layer]) - 1
        cut = layers | {layer: layers[layer][:last]}
        with pytest.raises(ValueError, match="1 missing") as error:
            load_bytes(tmp_path, encode_net(cut))
        assert f"{layer}[{last}]" in str(error.value)
        added = layers | {layer: [*layers[layer], layers[layer][0]]}
        with pytest.raises(ValueError, match="1 unknown") as error:
            load_bytes(tmp_path, encode_net(added))
        assert f"{layer}[{last + 1}]" in str(error.value)


def test_shapes_are_reported_as_they_are_in_the_file(state, tmp_path):
    layers = caffe_layers(state)
    layers["bbox_pred"][0] = layers["bbox_pred"][0][4:]
    with pytest.raises(ValueError, match=r"bbox_pred\[0\] is \[36, 12\], not \[40, 12\]"):
        load_bytes(tmp_path, encode_net(layers))


def test_values_must_be_finite_numbers(state, tmp_path):
    name = "backbone.res3.1.conv2.weight"
    broken = state | {name: state[name].clone()}
    broken[name][0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=f"{name} has values that are not finite"):
        load_bytes(tmp_path, detectron2_bytes(broken))
    with pytest.raises(ValueError, match=f"{name} is torch.int64, not float32"):
        load_bytes(tmp_path, detectron2_bytes(state | {name: state[name].long()}))


def test_a_factor_of_zero_is_refused(state, tmp_path):
    layers = caffe_layers(state)
    layers["bn4b7_branch2c"][2][:] = 0
    with pytest.raises(ValueError, match=r"bn4b7_branch2c\[2\] is 0"):
        load_bytes(tmp_path, encode_net(layers))


def test_what_lies_beside_the_model_must_be_known(state, tmp_path):
    with pytest.raises(ValueError, match="has ema beside 'model'"):
        load_bytes(tmp_path, save_bytes({"model": state, "ema": state}))
    with pytest.raises(ValueError, match="pickle with blobs; expected detectron2's"):
        load_bytes(tmp_path, pickle.dumps({"blobs": {}}))
    with pytest.raises(ValueError, match=r"'a' in .* is a int"):
        load_bytes(tmp_path, pickle.dumps({"model": {"a": 8}}))
    with pytest.raises(ValueError, match="holds a list"):
        load_bytes(tmp_path, save_bytes([torch.zeros(3)]))
    with pytest.raises(ValueError, match=r"holds a Tensor under 3; expected tensors by name"):
        load_bytes(tmp_path, save_bytes({3: torch.zeros(3)}))


def test_our_own_weights_need_their_configuration(state, tmp_path):
    folder = write_safetensors(tmp_path / "ours", state)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match='model_type: got "bert"'):
        load_published(folder, shapes=SHAPES)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json next to"):
        load_published(folder, shapes=SHAPES)


def test_a_path_without_weights_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing.pkl"):
        with pytest.raises(FileNotFoundError, match="neither a file nor a folder"):
            load_published(path)


# --- The configuration of the Hugging Face file ---------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ("res5halve: false", "res5halve: true", "roi_box_head.res5halve is True, not False"),
        ("depth: 101", "depth: 50", "resnets.depth is 50, not 101"),
        ("stride_in_1x1: true", "stride_in_1x1: false", "stride_in_1x1 is False, not True"),
        ("max_pool: true", "max_pool: false", "model.max_pool is False"),
        ("offset: 0.0", "offset: 0.5", "anchor_generator.offset is 0.5, not 0"),
        ("num_classes: 9", "num_classes: 80", "roi_heads.num_classes is 80, not 9"),
        ("num_attrs: 5", "num_attrs: 8", "roi_box_head.num_attrs is 8, not 5"),
        ("[10.0, 10.0, 5.0, 5.0]", "[1.0, 1.0, 1.0, 1.0]", "bbox_reg_weights is"),
        ("  attr: true\n", "", "roi_box_head.attr is absent"),
        ("roi_heads:", "heads:", "roi_heads.num_classes is absent"),
        (YAML, "8", "res5halve is absent"),
        (YAML, "{", "is damaged"),
        (YAML, "a: !!python/object/apply:os.system ['echo']", "is damaged"),
    ],
)
def test_a_yaml_of_another_detector_is_refused(old, new, reported, state, tmp_path):
    assert old in YAML
    with pytest.raises(ValueError, match=r"config\.yaml") as error:
        load_published(write_huggingface(tmp_path, state, YAML.replace(old, new)), shapes=SHAPES)
    assert reported in str(error.value)


def test_keys_of_the_yaml_may_be_capital(state, tmp_path):
    yaml = YAML.replace("roi_box_head:", "ROI_BOX_HEAD:").replace("res5halve", "RES5HALVE")
    load_published(write_huggingface(tmp_path, state, yaml), shapes=SHAPES)
    with pytest.raises(ValueError, match="res5halve is True"):
        load_published(
            write_huggingface(tmp_path, state, yaml.replace("RES5HALVE: false", "RES5HALVE: true")),
            shapes=SHAPES,
        )


# --- Files of another kind ------------------------------------------------------------------------


def lxmert_state():
    config = LxmertConfig(
        hidden_size=8, num_attention_heads=2, intermediate_size=8, vocab_size=9,
        l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=8,
    )  # fmt: skip
    return LxmertModel(config).state_dict()


def meta_state(build):
    """Return a model's names, each with one number."""
    with torch.device("meta"):
        names = build(weights=None).state_dict()
    return {name: torch.zeros(1) for name in names}


def torchvision_detector(weights):
    return torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=weights, weights_backbone=None
    )


def without_attributes(state):
    parts = ("cls_embedding", "fc_attr", "attr_score")
    return {name: v for name, v in state.items() if not any(part in name for part in parts)}


def caffe_backbone(state):
    return {name: v for name, v in caffe_layers(state).items() if "res" in name or "conv1" in name}


KINDS = {
    "an LXMERT checkpoint": lambda s: save_bytes(lxmert_state()),
    "a torchvision detector": lambda s: save_bytes(meta_state(torchvision_detector)),
    "a torchvision ResNet backbone": lambda s: save_bytes(meta_state(torchvision.models.resnet101)),
    "a detectron2 detector without attributes": lambda s: detectron2_bytes(without_attributes(s)),
    "a Caffe detector without attributes": lambda s: encode_net(
        without_attributes(caffe_layers(s))
    ),
    "a Caffe ResNet backbone": lambda s: encode_net(caffe_backbone(s)),
    "a detectron2 ResNet backbone": lambda s: pickle.dumps(
        {"model": {"res5.0.conv1.weight": s[ANCHORS].numpy()}}
    ),
    "a detectron2 detector with a feature pyramid": lambda s: save_bytes(
        {"model": {"backbone.bottom_up.stem.conv1.weight": s[ANCHORS]}}
    ),
    "a detector with a deeper backbone": lambda s: save_bytes(
        milvlg_state(s) | {"backbone.res4.23.conv1.weight": s[ANCHORS]}
    ),
    "a maskrcnn-benchmark detector": lambda s: save_bytes(
        {"model": {"roi_heads.box.predictor.cls_score.weight": s[ANCHORS]}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_kind_are_distinguished(kind, state, tmp_path):
    with pytest.raises(ValueError, match=f"it looks like {kind}"):
        load_bytes(tmp_path, KINDS[kind](state))


def test_safetensors_of_another_kind_are_distinguished(tmp_path):
    save_file(lxmert_state(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="it looks like an LXMERT checkpoint"):
        load_published(tmp_path)


def test_a_file_that_nearly_fits_is_not_called_something_else(state, tmp_path):
    with pytest.raises(ValueError, match=r"with attributes\. Among its"):
        load_bytes(tmp_path, detectron2_bytes(without(state, ANCHORS)))


def test_what_is_no_weights_at_all_is_refused(tmp_path):
    for data in (b"", b"<!DOCTYPE html>", b"{}", b"version https://git-lfs", bytes(99)):
        with pytest.raises(ValueError, match="not a weights format"):
            load_bytes(tmp_path, data)


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", [*BYTES, "safetensors"])
def test_a_file_cut_anywhere_is_refused(name, state, tmp_path):
    generator = random.Random(name)
    if name == "safetensors":
        path = write_safetensors(tmp_path, state) / "model.safetensors"
        data = path.read_bytes()
    else:
        path, data = tmp_path / "weights", BYTES[name](state)
    ends = [*range(0, 20, 3), len(data) - 1, *(generator.randrange(len(data)) for _ in range(8))]
    for end in ends:
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"weights|model\.safetensors") as error:
            load_published(path, shapes=SHAPES)
        assert "weights_only" not in str(error.value)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["caffemodel", "caffemodel-unpacked", "detectron2", "detectron2-python2", "huggingface"]
)
def test_changed_bytes_give_a_whole_model_or_an_error(name, state, tmp_path):
    generator = random.Random(name)
    data = BYTES[name](state)
    refused = 0
    for _ in range(20):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 3, 30))):
            # Names and lengths are few; most changes should hit one.
            place = generator.choice((generator.randrange(len(data)), generator.randrange(900)))
            changed[place] = generator.randrange(256)
        try:
            loaded = load_bytes(tmp_path, bytes(changed)).state
        except ValueError:
            refused += 1
        else:
            assert {name: tuple(values.shape) for name, values in loaded.items()} == SHAPES
    assert refused >= 4


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_garbage_between_the_records_of_a_zip_is_refused(state, tmp_path):
    """Bug: the end record of a zip that claims several disks raised BadZipFile."""
    data = bytearray(save_bytes(milvlg_state(state)))
    locator = data.rindex(b"PK\x06\x07")  # of the zip64 end record
    data[locator + 16] = 8
    with pytest.raises(ValueError, match="is no file of weights, or damaged"):
        load_bytes(tmp_path, bytes(data))


def test_a_hostile_torch_file_is_refused_without_running_it(state, tmp_path):
    victim = tmp_path / "victim"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        data = save_bytes({"model": state, "optimizer": Payload(victim)}, **options)
        with pytest.raises(
            ValueError, match=r"refused: .*\((posix|nt)\.system\), .*nothing was run"
        ):
            load_bytes(tmp_path, data)
        assert not victim.exists()


def test_the_tables_of_this_test_undo_each_other(state):
    """Check the test's own writers against known facts."""
    stored = background_first(state)
    scores = f"{PREDICTOR}.cls_score.bias"
    assert torch.equal(stored[scores][0], state[scores][-1])
    deltas = f"{PREDICTOR}.bbox_pred.bias"
    assert torch.allclose(stored[deltas][4:8] * torch.tensor([10, 10, 5, 5]), state[deltas][:4])
    logits = f"{HEAD}.objectness_logits.bias"
    assert torch.allclose(stored[logits][12:] - stored[logits][:12], state[logits], atol=1e-6)
    assert relation_layers()["heatmap_scale"][0].shape == ()
