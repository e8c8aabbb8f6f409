"""A small random detector in every published format, written from the tables of these formats.

Widths are small, names and structure are those of the published ResNet-101. Nothing here uses the
loaders.
"""

import io
import json
import math
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from lxmert.regions.configuration import DetectorConfig

DEPTHS = {"backbone.res2": 3, "backbone.res3": 4, "backbone.res4": 23, "roi_heads.res5": 3}
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
HEAD = "proposal_generator.rpn_head"
PREDICTOR = "roi_heads.box_predictor"

# Width and height in pixels of Caffe's anchors, in its order.
CAFFE_ANCHOR_SIDES = [
    (92, 48), (184, 96), (368, 192), (736, 384),
    (64, 64), (128, 128), (256, 256), (512, 512),
    (44, 88), (88, 176), (176, 352), (352, 704),
]  # fmt: skip


def geometry(
    stem=4, inner=(2, 3, 4, 5), widths=(6, 8, 10, 12), hidden=7, classes=9, attributes=5,
    embedding=3, attribute_hidden=6,
):  # fmt: skip
    """Return the shape of each canonical tensor; the defaults are the small detector."""
    shapes = {}

    def normed(name, *shape):
        shapes[f"{name}.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{part}"] = shape[:1]

    def biased(name, *shape):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]

    normed("backbone.stem.conv1", stem, 3, 7, 7)
    before = stem
    for (stage, depth), narrow, wide in zip(DEPTHS.items(), inner, widths, strict=True):
        normed(f"{stage}.0.shortcut", wide, before, 1, 1)
        for block in range(depth):
            normed(f"{stage}.{block}.conv1", narrow, before, 1, 1)
            normed(f"{stage}.{block}.conv2", narrow, narrow, 3, 3)
            normed(f"{stage}.{block}.conv3", wide, narrow, 1, 1)
            before = wide
    biased(f"{HEAD}.conv", hidden, widths[2], 3, 3)
    biased(f"{HEAD}.objectness_logits", 12, hidden, 1, 1)
    biased(f"{HEAD}.anchor_deltas", 48, hidden, 1, 1)
    biased(f"{PREDICTOR}.cls_score", classes + 1, widths[3])
    biased(f"{PREDICTOR}.bbox_pred", 4 * classes, widths[3])
    biased(f"{PREDICTOR}.fc_attr", attribute_hidden, widths[3] + embedding)
    biased(f"{PREDICTOR}.attr_score", attributes + 1, attribute_hidden)
    shapes[f"{PREDICTOR}.cls_embedding.weight"] = (classes + 1, embedding)
    shapes[ANCHORS] = (12, 4)
    return shapes


def full_geometry():
    return geometry(64, (64, 128, 256, 512), (256, 512, 1024, 2048), 512, 1600, 400, 256, 512)


def random_state(seed=0, shapes=None):
    """Return a random canonical model: background and "no attribute" last, Caffe's anchors."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(shape, generator=generator)
        for name, shape in (shapes or geometry()).items()
    }
    state |= {name: values.abs() for name, values in state.items() if "running_var" in name}
    state[ANCHORS] = torch.tensor(
        [(8 - w / 2, 8 - h / 2, 8 + w / 2, 8 + h / 2) for w, h in CAFFE_ANCHOR_SIDES]
    )
    return state


def background_first(state, seed=1):
    """Convert canonical rows back to Caffe's; names stay canonical."""
    generator = torch.Generator().manual_seed(seed)
    state = dict(state)
    for part in ("weight", "bias"):
        objectness = state[f"{HEAD}.objectness_logits.{part}"]
        background = torch.randn(objectness.shape, generator=generator)
        state[f"{HEAD}.objectness_logits.{part}"] = torch.cat([background, background + objectness])
        deltas = state[f"{PREDICTOR}.bbox_pred.{part}"].clone()
        for row in range(len(deltas)):
            deltas[row] /= (10, 10, 5, 5)[row % 4]
        of_background = torch.randn(4, *deltas.shape[1:], generator=generator)
        state[f"{PREDICTOR}.bbox_pred.{part}"] = torch.cat([of_background, deltas])
    for name in ("cls_score.weight", "cls_score.bias", "cls_embedding.weight",
                 "attr_score.weight", "attr_score.bias"):  # fmt: skip
        rows = state[f"{PREDICTOR}.{name}"]
        state[f"{PREDICTOR}.{name}"] = torch.cat([rows[-1:], rows[:-1]])
    return state


# --- Caffe ---------------------------------------------------------------------------------------

RELATION_LAYERS = {  # what the published file holds for a branch that was given up
    "heatmap_conv1": [(4, 1, 3, 3), (4,)], "heatmap_embedding": [(3, 8), (3,)],
    "heatmap_scale": [()], "fc_rel1": [(5, 7), (5,)], "fc_subject": [(3, 5), (3,)],
    "fc_object": [(3, 5), (3,)], "rel_merge": [(3, 3), (3,)], "rel_score": [(2, 3), (2,)],
}  # fmt: skip


def caffe_blocks() -> Iterator[tuple[str, str]]:
    """Yield Caffe's and the canonical name of each block."""
    for stage in (2, 5):
        prefix = "backbone" if stage == 2 else "roi_heads"
        for index, letter in enumerate("abc"):
            yield f"{stage}{letter}", f"{prefix}.res{stage}.{index}"
    for stage, depth in ((3, 4), (4, 23)):
        for index in range(depth):
            yield f"{stage}a" if index == 0 else f"{stage}b{index}", f"backbone.res{stage}.{index}"


def caffe_layers(state, seed=2):
    """Return layer name -> blobs, statistics multiplied by a factor."""
    generator = np.random.default_rng(seed)
    state = {name: values.numpy() for name, values in background_first(state).items()}
    layers = {}

    def normed(convolution, suffix, name):
        factor = np.float32(generator.uniform(0.3, 999))
        layers[convolution] = [state[f"{name}.weight"]]
        layers[f"bn{suffix}"] = [
            state[f"{name}.norm.running_mean"] * factor,
            state[f"{name}.norm.running_var"] * factor,
            np.array([factor]),
        ]
        layers[f"scale{suffix}"] = [state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]]

    normed("conv1", "_conv1", "backbone.stem.conv1")
    for caffe, canonical in caffe_blocks():
        for branch, part in (("branch1", "shortcut"), ("branch2a", "conv1"),
                             ("branch2b", "conv2"), ("branch2c", "conv3")):  # fmt: skip
            if f"{canonical}.{part}.weight" in state:
                normed(f"res{caffe}_{branch}", f"{caffe}_{branch}", f"{canonical}.{part}")
    for layer, name in {
        "rpn_conv/3x3": f"{HEAD}.conv", "rpn_cls_score": f"{HEAD}.objectness_logits",
        "rpn_bbox_pred": f"{HEAD}.anchor_deltas", "cls_score": f"{PREDICTOR}.cls_score",
        "bbox_pred": f"{PREDICTOR}.bbox_pred", "fc_attr": f"{PREDICTOR}.fc_attr",
        "attr_score": f"{PREDICTOR}.attr_score",
    }.items():  # fmt: skip
        layers[layer] = [state[f"{name}.weight"], state[f"{name}.bias"]]
    layers["cls_embedding"] = [state[f"{PREDICTOR}.cls_embedding.weight"]]
    return layers


def relation_layers():
    generator = np.random.default_rng(3)
    return {
        name: [generator.normal(size=shape).astype(np.float32) for shape in shapes]
        for name, shapes in RELATION_LAYERS.items()
    }


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, content):
    """Encode a varint or a run of bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def encode_blob(blob, packed=True, legacy=False):
    values = np.asarray(blob, "<f4")
    if legacy:  # num, channels, height, width: filled with ones in front
        sides = (1,) * (4 - values.ndim) + values.shape
        out = b"".join(field(number + 1, side) for number, side in enumerate(sides))
    elif packed:
        out = field(7, field(1, b"".join(map(varint, values.shape)))) if values.ndim else b""
    else:
        out = field(7, b"".join(field(1, side) for side in values.shape))
    if packed:
        return out + field(5, values.tobytes())
    return out + b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in values.ravel())


def encode_net(layers, generation="layer", **options):
    """Encode a NetParameter, with layers that have no weights in between."""
    top, name_field, type_field, blobs_field = {
        "layer": (100, 1, field(2, b"Convolution"), 7),
        "layers": (2, 4, field(5, 4), 6),
    }[generation]
    out = field(1, b"ResNet-101")
    for index, (name, blobs) in enumerate(layers.items()):
        body = field(name_field, name.encode()) + type_field
        body += b"".join(field(blobs_field, encode_blob(blob, **options)) for blob in blobs)
        out += field(top, body)
        if index % 7 == 0:
            out += field(top, field(name_field, f"relu{index}".encode()) + type_field)
    return out


def caffe_bytes(state, **options):
    return encode_net(caffe_layers(state) | relation_layers(), **options)


# --- detectron2 ----------------------------------------------------------------------------------


def detectron2_bytes(state, protocol=4):
    model = {name: values.numpy() for name, values in state.items()}
    data = pickle.dumps({"model": model, "__author__": "somebody"}, protocol)
    if protocol < 4:  # as an older numpy wrote it
        data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    return data


def python2_text(data):
    return b"T" + struct.pack("<I", len(data)) + data


def python2_array(array):
    """Write an array as Python 2 did, the bytes as text."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in array.shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + python2_text(array.astype("<f4").tobytes())
        + b"tb"
    )


def python2_bytes(state):
    model = b"".join(
        python2_text(name.encode()) + python2_array(values.numpy())
        for name, values in state.items()
    )
    return b"\x80\x02}(U\x05model}(" + model + b"uU\x0a__author__U\x08somebodyu."


# --- torch ---------------------------------------------------------------------------------------


def save_bytes(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_counters(state):
    """Add the counter that batch norm keeps: one for each of the 104 convolutions with a norm."""
    return state | {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(8)
        for name in state
        if name.endswith("norm.running_mean")
    }


def milvlg_state(state):
    state = background_first(state)
    state[ANCHORS] = state[ANCHORS] - torch.tensor([0.0, 0.0, 1.0, 1.0])  # last pixel, not border
    renamed = {
        "cls_embedding": "cls_embed",
        "fc_attr": "attr_linear1",
        "attr_score": "attr_linear2",
    }
    for old, new in renamed.items():
        for part in ("weight", "bias"):
            if f"{PREDICTOR}.{old}.{part}" in state:
                state[f"{PREDICTOR}.{new}.{part}"] = state.pop(f"{PREDICTOR}.{old}.{part}")
    return with_counters(state)


YAML = """
model: {max_pool: true, pixel_mean: [102.9801, 115.9465, 122.7717], pixel_std: [1.0, 1.0, 1.0]}
anchor_generator:
  sizes: [[64, 128, 256, 512]]
  offset: 0.0
resnets: {depth: 101, out_features: [res4], stride_in_1x1: true, res5_dilation: 1}
roi_heads: {num_classes: 9, nms_thresh_test: [0.5, 0.6, 0.7]}
roi_box_head:
  bbox_reg_weights: [10.0, 10.0, 5.0, 5.0]
  pooler_resolution: 14
  res5halve: false
  attr: true
  num_attrs: 5
  cls_agnostic_bbox_reg: false
"""


def write_huggingface(folder: Path, state, yaml=YAML, **options):
    folder.mkdir(exist_ok=True)
    (folder / "pytorch_model.bin").write_bytes(save_bytes(with_counters(state), **options))
    (folder / "config.yaml").write_text(yaml)
    return folder


def write_safetensors(folder: Path, state):
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    config = DetectorConfig(object_names=("cat", "dog")).to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


BYTES = {
    "caffemodel": caffe_bytes,
    "caffemodel-layers": lambda state: caffe_bytes(state, generation="layers"),
    "caffemodel-unpacked": lambda state: caffe_bytes(state, packed=False),
    "caffemodel-legacy": lambda state: encode_net(caffe_layers(state), legacy=True),
    "detectron2": detectron2_bytes,
    "detectron2-protocol2": lambda state: detectron2_bytes(state, 2),
    "detectron2-protocol3": lambda state: detectron2_bytes(state, 3),
    "detectron2-protocol5": lambda state: detectron2_bytes(state, 5),
    "detectron2-python2": python2_bytes,
    "huggingface": lambda state: save_bytes(with_counters(state)),
    "huggingface-old": lambda state: save_bytes(
        with_counters(state), _use_new_zipfile_serialization=False
    ),
    "milvlg": lambda state: save_bytes({"model": milvlg_state(state), "iteration": 8}),
    "milvlg-bare": lambda state: save_bytes(milvlg_state(state)),
}
"""Name of a single-file format -> its writer; the name starts with the format's own."""

NUM_VALUES = sum(math.prod(shape) for shape in full_geometry().values())
