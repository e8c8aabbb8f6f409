"""Original checkpoints: conversion of names, and inference of sizes from shapes.

A checkpoint contains only tensors by name. Pretraining wrote `bert.*` with the heads `cls.*`,
`obj_predict_head.*` and `answer_head.*`; fine-tuning wrote `lxrt_encoder.model.bert.*` with
`logit_fc.*`. Training on several GPUs added `module.` as a prefix or in the middle.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from lxmert.model.checkpoints import read_weights, rename_norm
from lxmert.model.configuration import LxmertConfig
from lxmert.model.pretrained import one_line
from lxmert.tensor_files import State

HEAD_WIDTH = 64
"""Width of one attention head in all published models; shapes do not reveal it."""

_EMBEDDINGS = tuple(
    f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
)
_SELF_ATTENTION = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
_LAYER = (
    *(f"attention.{name}" for name in _SELF_ATTENTION),
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_CROSS_LAYER = (
    "visual_attention.att.query",
    "visual_attention.att.key",
    "visual_attention.att.value",
    "visual_attention.output.dense",
    "visual_attention.output.LayerNorm",
    *(f"{side}_self_att.{name}" for side in ("lang", "visn") for name in _SELF_ATTENTION),
    *(f"{side}_inter.dense" for side in ("lang", "visn")),
    *(f"{side}_output.{name}" for side in ("lang", "visn") for name in ("dense", "LayerNorm")),
)
_BACKBONE_MODULES = (
    "embeddings.LayerNorm",
    *(
        f"encoder.visn_fc.{name}"
        for name in ("visn_fc", "visn_layer_norm", "box_fc", "box_layer_norm")
    ),
    *(f"encoder.layer.{{}}.{name}" for name in _LAYER),
    *(f"encoder.r_layers.{{}}.{name}" for name in _LAYER),
    *(f"encoder.x_layers.{{}}.{name}" for name in _CROSS_LAYER),
    "pooler.dense",
)
_ANSWER_MODULES = ("logit_fc.0", "logit_fc.2", "logit_fc.3")
_HEAD_MODULES = (
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.seq_relationship",
    "obj_predict_head.transform.dense",
    "obj_predict_head.transform.LayerNorm",
    *(f"obj_predict_head.decoder_dict.{name}" for name in ("obj", "attr", "feat")),
    *(f"answer_head.{name}" for name in _ANSWER_MODULES),
)


def _tensors(*modules: str) -> tuple[str, ...]:
    return tuple(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))


_BACKBONE = (*_EMBEDDINGS, *_tensors(*_BACKBONE_MODULES))
_HEADS = ("cls.predictions.bias", "cls.predictions.decoder.weight", *_tensors(*_HEAD_MODULES))
_ANSWERS = _tensors(*_ANSWER_MODULES)
_FINE_TUNED = "lxrt_encoder.model."

NAMES: dict[str, dict[str, str]] = {
    "encoder": {f"bert.{name}": name for name in _BACKBONE},
    "pretraining": {f"bert.{name}": f"lxmert.{name}" for name in _BACKBONE}
    | {name: name for name in _HEADS},
    "answering": {f"{_FINE_TUNED}bert.{name}": f"lxmert.{name}" for name in _BACKBONE}
    | {name: f"answer_head.{name}" for name in _ANSWERS},
    "pairs": {f"{_FINE_TUNED}bert.{name}": f"lxmert.{name}" for name in _BACKBONE}
    | {name: f"classifier.{name}" for name in _ANSWERS},
}
"""Kind of checkpoint -> original name -> Hugging Face name; `{}` is the layer number."""

_SIZES: dict[str, tuple[str, int]] = {
    "vocab_size": ("embeddings.word_embeddings.weight", 0),
    "hidden_size": ("embeddings.word_embeddings.weight", 1),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
    "visual_feat_dim": ("encoder.visn_fc.visn_fc.weight", 1),
    "visual_pos_dim": ("encoder.visn_fc.box_fc.weight", 1),
    "num_qa_labels": ("answer_head.logit_fc.3.weight", 0),
    "num_object_labels": ("obj_predict_head.decoder_dict.obj.weight", 0),
    "num_attr_labels": ("obj_predict_head.decoder_dict.attr.weight", 0),
    "num_classes": ("classifier.logit_fc.3.weight", 0),
}
"""Setting -> tensor and axis with this size."""

_FEED_FORWARD = (
    "encoder.layer.0.intermediate.dense.weight",
    "encoder.r_layers.0.intermediate.dense.weight",
    "encoder.x_layers.0.lang_inter.dense.weight",
)
"""Tensors whose first axis is `intermediate_size`; an encoder may lack all layers of one kind."""

_LAYER_LISTS = {"l_layers": "layer", "r_layers": "r_layers", "x_layers": "x_layers"}
"""Setting -> name of the list of layers in `encoder`."""

_SWITCHES = {
    "task_qa": "answer_head.",
    "task_obj_predict": "obj_predict_head.",
    "visual_obj_loss": "obj_predict_head.decoder_dict.obj.",
    "visual_attr_loss": "obj_predict_head.decoder_dict.attr.",
    "visual_feat_loss": "obj_predict_head.decoder_dict.feat.",
}
"""Setting of a pretraining model -> prefix of the weights that exist if it is on."""


@dataclass(frozen=True)
class OriginalCheckpoint:
    """The content of an original checkpoint, in the Hugging Face layout.

    Attributes:
        kind: a row of `NAMES`.
        config: the sizes, inferred from the shapes.
        state: tensors by the names of the model of that kind.
        unknown: names in the file that the model does not have.
    """

    kind: str
    config: LxmertConfig
    state: State
    unknown: tuple[str, ...]


def read_original(
    path: str | Path, *, num_attention_heads: int | None = None
) -> OriginalCheckpoint:
    """Read an original checkpoint, such as `model_LXRT.pth` or `BEST.pth`.

    Args:
        path: the file.
        num_attention_heads: not recorded in the file; None: `hidden_size / 64`, as in all published
            models.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not an original checkpoint, is damaged or contains code.
    """
    return from_original(read_weights(path), source=path, num_attention_heads=num_attention_heads)


def from_original(
    state: Mapping[str, Tensor],
    *,
    source: str | Path = "the state dict",
    num_attention_heads: int | None = None,
) -> OriginalCheckpoint:
    """Convert tensors of an original checkpoint to the Hugging Face layout.

    Args:
        state: tensors by name, with or without `module.`; may be on the meta device.
        source: their origin, for messages.
        num_attention_heads: as in `read_original`.

    Raises:
        ValueError: if these are not LXMERT weights in the original layout.
    """
    cleaned: dict[str, str] = {}
    for name in state:
        plain = _plain(name)
        if plain in cleaned:
            raise ValueError(
                f"{source} has two tensors for {plain}: remove {cleaned[plain]} or {name}"
            )
        cleaned[plain] = name
    kind = _find_kind({plain: state[name] for plain, name in cleaned.items()}, source)
    renamed = {name: rename(plain, NAMES[kind]) for plain, name in cleaned.items()}
    arranged = {new: state[name] for name, new in renamed.items() if new is not None}
    return OriginalCheckpoint(
        kind,
        infer_config(arranged, source=source, num_attention_heads=num_attention_heads),
        arranged,
        tuple(name for name, new in renamed.items() if new is None),
    )


def to_original(kind: str, state: Mapping[str, Tensor]) -> State:
    """Convert the tensors of a model to the names of the original code, without `module.`.

    Args:
        kind: a row of `NAMES`.
        state: the state dict of the model.

    Raises:
        ValueError: if a tensor has no name in that layout.
    """
    table = {new: old for old, new in NAMES[kind].items()}
    renamed = {name: rename(name, table) for name in state}
    nameless = sorted(name for name, old in renamed.items() if old is None)
    if nameless:
        raise ValueError(f"the original layout has no name for {', '.join(nameless)}")
    return {old: state[name] for name, old in renamed.items() if old is not None}


def rename(name: str, table: Mapping[str, str]) -> str | None:
    """Look up a name in a table in which `{}` is a layer number; None if it is unknown."""
    if name in table:
        return table[name]
    match = re.search(r"\.(\d{1,4})\.", name)
    if match is None:
        return None
    pattern = f"{name[: match.start()]}.{{}}.{name[match.end() :]}"
    return table[pattern].format(match[1]) if pattern in table else None


def infer_config(
    state: Mapping[str, Tensor],
    *,
    source: str | Path = "the state dict",
    num_attention_heads: int | None = None,
) -> LxmertConfig:
    """Infer the sizes of a model from the shapes of its tensors.

    Other settings have default values: dropouts, activation, loss weights.

    Args:
        state: tensors in the Hugging Face layout, with or without the prefix `lxmert.`.
        source: their origin, for messages.
        num_attention_heads: as in `read_original`.

    Raises:
        ValueError: if the width is not a multiple of 64 and the number of heads is not given, or
            most layers are missing.
    """
    shapes = {name.removeprefix("lxmert."): value.shape for name, value in state.items()}
    sizes = {
        setting: shapes[name][axis]
        for setting, (name, axis) in _SIZES.items()
        if len(shapes.get(name, ())) > axis
    }
    sizes |= {
        setting: _count_layers(shapes, part, source) for setting, part in _LAYER_LISTS.items()
    }
    widths = [shapes[name][0] for name in _FEED_FORWARD if shapes.get(name)]
    if widths:
        sizes["intermediate_size"] = widths[0]
    width = sizes.get("hidden_size", LxmertConfig.hidden_size)
    if num_attention_heads is not None and num_attention_heads < 1:
        raise ValueError(
            f"the number of attention heads is {num_attention_heads}, expected at least 1"
        )
    if num_attention_heads is None and width % HEAD_WIDTH:
        raise ValueError(
            f"{source} has states of width {width}, not a multiple of {HEAD_WIDTH}, so the "
            "number of attention heads is unknown: give num_attention_heads=N or --heads N"
        )
    sizes["num_attention_heads"] = num_attention_heads or width // HEAD_WIDTH
    if "classifier.logit_fc.0.weight" in shapes:
        sizes["num_images"] = shapes["classifier.logit_fc.0.weight"][1] // width
    switches = {}
    if any(name.startswith("cls.predictions.") for name in shapes):
        switches = {
            switch: any(name.startswith(prefix) for name in shapes)
            for switch, prefix in _SWITCHES.items()
        }
    try:
        return LxmertConfig(**sizes, **switches)  # type: ignore[arg-type]
    except StrictDataclassError as error:
        raise ValueError(f"{source} has invalid sizes ({one_line(error)})") from error


def _plain(name: str) -> str:
    """Remove `module.`, and rename layer norms of older BERT files."""
    name = name.removeprefix("module.").replace(f"{_FINE_TUNED}module.", _FINE_TUNED, 1)
    return rename_norm(name)


def _find_kind(state: Mapping[str, Tensor], source: str | Path) -> str:
    """Detect the kind of an original checkpoint by its names and shapes."""
    backbone = {name.removeprefix(_FINE_TUNED) for name in state}
    if not any(name.startswith(("bert.encoder.visn_fc.", "bert.encoder.x_")) for name in backbone):
        raise ValueError(
            f"{source} is not an LXMERT checkpoint of the original code: {_explain(state)}"
        )
    if not any(name.startswith(_FINE_TUNED) for name in state):
        heads = any(not name.startswith("bert.") for name in state)
        return "pretraining" if heads else "encoder"
    # The answer head has one pooled vector as input, the pair head one per image.
    first = state.get("logit_fc.0.weight")
    pairs = first is not None and first.dim() == 2 and first.shape[0] <= first.shape[1]
    return "pairs" if pairs else "answering"


def _explain(state: Mapping[str, Tensor]) -> str:
    """Describe what an unknown file seems to be, and what to do with it."""
    if any(name.startswith("lxmert.encoder.") for name in state):
        return "it has the Hugging Face layout: give its folder instead"
    if any(name.removeprefix("bert.").startswith("encoder.layer.0.") for name in state):
        return "it looks like BERT: initialize from it with LxmertModel.from_bert(FOLDER)"
    return f"its first tensor is {min(state)!r}" if state else "it has no tensors"


def _count_layers(shapes: Mapping[str, tuple[int, ...]], part: str, source: str | Path) -> int:
    """Return the highest layer number plus one; most of these layers must exist."""
    pattern = re.compile(rf"encoder\.{part}\.(\d{{1,4}})\.")
    numbers = {int(match[1]) for name in shapes if (match := pattern.match(name))}
    count = max(numbers, default=-1) + 1
    if count > 2 * len(numbers):
        raise ValueError(
            f"{source} has {len(numbers)} layers in encoder.{part}, numbered up to {count - 1}: it "
            "is damaged, use another file"
        )
    return count
