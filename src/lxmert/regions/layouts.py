"""Names, order and scale of the tensors in the published bottom-up-attention detector files.

The canonical form has detectron2's names, the background class and "no attribute" last, one
objectness logit (object minus background) per anchor, and box deltas for weights (10, 10, 5, 5).
The weights are the same in every layout; `Layout.to_canonical` only renames and rearranges them.
This module does not read files.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxmert.regions.anchors import make_rounded_anchors
from lxmert.regions.choosing import REGION_WEIGHTS
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.vocabularies import NUM_ATTRIBUTES, NUM_OBJECTS

Shape = tuple[int, ...]
State = dict[str, Tensor]

HEAD = "proposal_generator.rpn_head"
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
PREDICTOR = "roi_heads.box_predictor"

# py-faster-rcnn, generate_anchors: ratio outer, scale inner.
ANCHOR_BASE = 16
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SIZES = (64, 128, 256, 512)

CAFFE_HEADS = {
    f"{HEAD}.conv": "rpn_conv/3x3",
    f"{HEAD}.objectness_logits": "rpn_cls_score",
    f"{HEAD}.anchor_deltas": "rpn_bbox_pred",
    f"{PREDICTOR}.cls_score": "cls_score",
    f"{PREDICTOR}.bbox_pred": "bbox_pred",
    f"{PREDICTOR}.cls_embedding": "cls_embedding",
    f"{PREDICTOR}.fc_attr": "fc_attr",
    f"{PREDICTOR}.attr_score": "attr_score",
}
CAFFE_BRANCHES = {
    "shortcut": "branch1",
    "conv1": "branch2a",
    "conv2": "branch2b",
    "conv3": "branch2c",
}
CAFFE_NORMS = {
    "norm.running_mean": ("bn", 0),
    "norm.running_var": ("bn", 1),
    "norm.factor": ("bn", 2),  # not in the canonical form: divisor of the two statistics
    "norm.weight": ("scale", 0),
    "norm.bias": ("scale", 1),
}
CAFFE_UNUSED = re.compile(r"(heatmap_|fc_rel1|fc_subject|fc_object|rel_).*")  # its relation layers

MILVLG_HEADS = {
    "cls_embedding": "cls_embed",
    "fc_attr": "attr_linear1",
    "attr_score": "attr_linear2",
}
TORCH_UNUSED = re.compile(r".*\.norm\.num_batches_tracked")


@dataclass(frozen=True)
class Layout:
    """One storage layout of the detector.

    Attributes:
        names: name of each tensor in the file -> its canonical name.
        shapes: name of each tensor in the file -> its shape there.
        unused: names that may be in the file but are not part of the detector.
        to_canonical: rearranges tensors that already have their canonical names.
    """

    names: Mapping[str, str]
    shapes: Mapping[str, Shape]
    unused: re.Pattern[str]
    to_canonical: Callable[[State], State]


def published_shapes() -> dict[str, Shape]:
    """Return the shape of each of the 536 canonical tensors of the published ResNet-101."""
    config = DetectorConfig.preset(
        "caffe",
        object_names=tuple(map(str, range(NUM_OBJECTS))),
        attribute_names=tuple(map(str, range(NUM_ATTRIBUTES))),
    )
    with torch.device("meta"):
        state = Detector(config).state_dict()
    return {name: tuple(values.shape) for name, values in state.items()}


def caffe_anchors() -> Tensor:
    """Return Caffe's anchors `[12, 4]` (x1, y1, x2, y2) of the cell at the origin, in pixels.

    Caffe's corners are pixel indices and its widths x2 - x1 + 1. Here x2 and y2 are larger by 1,
    so that the center and the size x2 - x1 are the same.
    """
    anchors = make_rounded_anchors(ANCHOR_SIZES, ANCHOR_RATIOS, cell=ANCHOR_BASE)
    by_size = anchors.view(len(ANCHOR_SIZES), len(ANCHOR_RATIOS), 4)
    return by_size.transpose(0, 1).reshape(-1, 4) + ANCHOR_BASE / 2


def canonical_layout(shapes: Mapping[str, Shape]) -> Layout:
    """Return the layout of detectron2's pickle, the Hugging Face file and lxmert's own files."""
    return Layout({name: name for name in shapes}, shapes, TORCH_UNUSED, dict)


def milvlg_layout(shapes: Mapping[str, Shape]) -> Layout:
    """Return the layout of MILVLG's files: Caffe's order with names close to the canonical."""
    names = {}
    for name in shapes:
        module, _, parameter = name.removeprefix(f"{PREDICTOR}.").partition(".")
        is_renamed = name.startswith(PREDICTOR) and module in MILVLG_HEADS
        names[f"{PREDICTOR}.{MILVLG_HEADS[module]}.{parameter}" if is_renamed else name] = name
    stored = _background_first_shapes(shapes)
    return Layout(
        names, {name: stored[target] for name, target in names.items()}, TORCH_UNUSED, _from_milvlg
    )


def caffe_layout(shapes: Mapping[str, Shape]) -> Layout:
    """Return the layout of a caffemodel, whose tensors are named `layer[index of the blob]`."""
    stored = _background_first_shapes(shapes)
    del stored[CELL_ANCHORS]  # not stored in the file
    stored |= {
        name.replace("running_mean", "factor"): (1,) for name in shapes if "running_mean" in name
    }
    names = {_caffe_name(name): name for name in stored}
    return Layout(
        names, {name: stored[target] for name, target in names.items()}, CAFFE_UNUSED, _from_caffe
    )


def _caffe_name(name: str) -> str:
    """Translate a canonical name: `backbone.res4.7.conv2.weight` is `res4b7_branch2b[0]`."""
    if name.startswith("backbone.stem.conv1."):
        part = name.removeprefix("backbone.stem.conv1.")
        kind, index = CAFFE_NORMS.get(part, ("", 0))
        return f"{kind}_conv1[{index}]" if kind else "conv1[0]"
    found = re.fullmatch(r"\w+\.res(\d)\.(\d+)\.(\w+)\.(.+)", name)
    if found is None:
        module, _, part = name.rpartition(".")
        return f"{CAFFE_HEADS[module]}[{int(part == 'bias')}]"
    stage, block, convolution, part = found.groups()
    letter = chr(ord("a") + int(block))
    if stage in "34" and block != "0":  # res3a, res3b1, res3b2 ..., but res2a, res2b, res2c
        letter = f"b{block}"
    kind, index = CAFFE_NORMS.get(part, ("res", 0))
    return f"{kind}{stage}{letter}_{CAFFE_BRANCHES[convolution]}[{index}]"


def _background_first_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return shapes with two objectness logits per anchor and with background deltas."""
    stored = dict(shapes)
    for part in ("weight", "bias"):
        rows, *rest = stored[f"{HEAD}.objectness_logits.{part}"]
        stored[f"{HEAD}.objectness_logits.{part}"] = (2 * rows, *rest)
        rows, *rest = stored[f"{PREDICTOR}.bbox_pred.{part}"]
        stored[f"{PREDICTOR}.bbox_pred.{part}"] = (rows + 4, *rest)
    return stored


def _from_background_first(state: State) -> State:
    """Rearrange Caffe's rows: background first, objectness in pairs, deltas unscaled."""
    state = dict(state)
    for part in ("weight", "bias"):
        background, objectness = state[f"{HEAD}.objectness_logits.{part}"].chunk(2)
        state[f"{HEAD}.objectness_logits.{part}"] = objectness - background
        deltas = state[f"{PREDICTOR}.bbox_pred.{part}"][4:]
        weights = deltas.new_tensor(REGION_WEIGHTS).repeat(len(deltas) // 4)
        column = weights.view(-1, *[1] * (deltas.dim() - 1))
        state[f"{PREDICTOR}.bbox_pred.{part}"] = deltas * column
    for name in ("cls_score.weight", "cls_score.bias", "attr_score.weight", "attr_score.bias"):
        state[f"{PREDICTOR}.{name}"] = state[f"{PREDICTOR}.{name}"].roll(-1, 0)
    embedding = f"{PREDICTOR}.cls_embedding.weight"
    state[embedding] = state[embedding].roll(-1, 0)
    return state


def _from_milvlg(state: State) -> State:
    """Convert MILVLG's corners: it uses widths of x2 - x1 + 1, the canonical form x2 - x1."""
    state = _from_background_first(state)
    state[CELL_ANCHORS] = state[CELL_ANCHORS] + state[CELL_ANCHORS].new_tensor([0, 0, 1, 1])
    return state


def _from_caffe(state: State) -> State:
    """Divide the norm statistics by their factors, and add the anchors."""
    state = _from_background_first(state)
    for name in [name for name in state if name.endswith(".norm.factor")]:
        factor = state.pop(name)
        if factor.item() == 0:
            raise ValueError(
                f"{_caffe_name(name)} is 0; expected the positive factor of a trained norm"
            )
        for part in ("running_mean", "running_var"):
            statistic = name.replace("factor", part)
            state[statistic] = state[statistic] / factor
    state[CELL_ANCHORS] = caffe_anchors()
    return state
