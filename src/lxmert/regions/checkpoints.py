"""Reads the published files of the bottom-up-attention detector in all of their formats.

The format is detected from the content, never from the file name. A file is either read completely
or rejected: each of its tensors must be known, and each tensor of the detector must be present.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor

from lxmert.regions.assembly import assemble, list_names
from lxmert.regions.caffemodel import read_caffemodel
from lxmert.regions.configuration import CONFIG_NAME, DetectorConfig
from lxmert.regions.layouts import (
    CELL_ANCHORS,
    PREDICTOR,
    Layout,
    Shape,
    State,
    caffe_anchors,
    caffe_layout,
    canonical_layout,
    milvlg_layout,
    published_shapes,
)
from lxmert.regions.pickles import read_pickle
from lxmert.tensor_files import check_values, named_tensors, read_safetensors, read_torch
from lxmert.weight_files import is_safetensors

WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
"""File names that are searched in a folder, in this order."""

YAML_NAME = "config.yaml"

DOWNLOAD = "DEFAULT"
"""Given instead of a file: download the weights that the library recommends."""

# First bytes. Before the zip format, torch wrote a pickle of a magic number first.
TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
PICKLE_STARTS = (b"\x80",)
CAFFE_STARTS = (b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")  # name, layers, input, layer

# Keys that detectron2 writes in addition to the weights.
ORIGIN_KEYS = {"__author__", "matching_heuristics"}
TRAINING_KEYS = {"optimizer", "scheduler", "iteration"}

GEOMETRY: dict[tuple[str, str], object] = {
    ("model", "max_pool"): True,
    ("anchor_generator", "offset"): 0,
    ("resnets", "depth"): 101,
    ("resnets", "stride_in_1x1"): True,
    ("roi_box_head", "res5halve"): False,
    ("roi_box_head", "pooler_resolution"): 14,
    ("roi_box_head", "bbox_reg_weights"): [10, 10, 5, 5],
    ("roi_box_head", "cls_agnostic_bbox_reg"): False,
    ("roi_box_head", "attr"): True,
}
"""Required values of a `config.yaml`: most of them change the features but not the shapes."""


@dataclass(frozen=True)
class Published:
    """A published detector that the detector's `load_state_dict` accepts.

    Attributes:
        state: canonical name -> float32 tensor; see `lxmert.regions.layouts`.
        format: "caffemodel", "detectron2", "huggingface", "milvlg" or "safetensors".
        norms: Euclidean norms of the weights `cls_score` and `bbox_pred` to 5 digits. They are
            equal for the same model in every format and differ between the 36-box and 10-100-box
            models.
        notes: information for the user, such as ignored tensors and the origin of the anchors.
    """

    state: State
    format: str
    norms: dict[str, float]
    notes: tuple[str, ...]


def load_published(path: str | Path, *, shapes: Mapping[str, Shape] | None = None) -> Published:
    """Load a published detector.

    Args:
        path: a `.caffemodel`, a detectron2 pickle, a torch file of Hugging Face (with an optional
            `config.yaml` next to it) or MILVLG, a `model.safetensors` with an lxmert `config.json`,
            or a folder with one of the torch or safetensors files.
        shapes: shape of each canonical tensor, for a detector with the published structure and
            other widths. None: the published ResNet-101.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, unsafe, of another kind, or does not fit. The message
            counts and lists the tensors that are missing, unknown or of the wrong shape.
    """
    path = _find_file(Path(path))
    shapes = published_shapes() if shapes is None else shapes
    container = _recognize(path)
    tensors, notes = READERS[container](path)
    name, layout = _choose_layout(container, tensors, shapes)
    state, left_out = assemble(path, tensors, layout)
    notes += left_out
    if name == "huggingface":
        notes += _check_yaml(path.with_name(YAML_NAME), shapes)
    elif name == "safetensors":
        _check_config(path.with_name(CONFIG_NAME))
    notes += _anchor_note(state[CELL_ANCHORS])
    norms = {
        part: _norm(state[f"{PREDICTOR}.{part}.weight"]) for part in ("cls_score", "bbox_pred")
    }
    return Published(state, name, norms, tuple(notes))


def read_tensors(path: str | Path) -> State:
    """Read named tensors from a torch or safetensors file without running code from it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, unsafe, has other content, or values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not a file; expected weights: check the path")
    tensors = READERS[_recognize(path)](path)[0]
    check_values(path, {n: value for n, value in tensors.items() if value.is_floating_point()})
    return tensors


def read_torchvision(recommended: Any, weights: str | Path) -> State:
    """Read weights for a torchvision network.

    Args:
        recommended: the entry of torchvision's weights enumeration for the network.
        weights: "DEFAULT" downloads the recommended weights; otherwise a file for `read_tensors`.
    """
    if weights == DOWNLOAD:
        return dict(recommended.get_state_dict(progress=False, check_hash=True, weights_only=True))
    return read_tensors(weights)


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in WEIGHTS_NAMES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f"{str(path)!r} is neither a file nor a folder with "
        f"{' or '.join(WEIGHTS_NAMES)}; expected the weights of a detector: check the path"
    )


def _recognize(path: Path) -> str:
    """Return the container format, detected from the first bytes."""
    with path.open("rb") as file:
        head = file.read(16)
    if is_safetensors(path):
        return "safetensors"
    for name, starts in (
        ("torch", TORCH_STARTS),
        ("pickle", PICKLE_STARTS),
        ("caffe", CAFFE_STARTS),
    ):
        if head.startswith(starts):
            return name
    raise ValueError(
        f"{path} starts with {head.hex(' ') or 'nothing'}, which is not a weights format; "
        "expected a .caffemodel, a pickle of arrays, a torch file or safetensors: check the file"
    )


def _read_caffe(path: Path) -> tuple[State, list[str]]:
    return {
        f"{layer}[{index}]": torch.from_numpy(np.array(blob, dtype=np.float32))
        for layer, blobs in read_caffemodel(path).items()
        for index, blob in enumerate(blobs)
    }, []


def _read_pickled(path: Path) -> tuple[State, list[str]]:
    content = read_pickle(path)
    model = content.get("model")
    if not isinstance(model, dict):
        raise ValueError(
            f"{path} is a pickle with {list_names(sorted(content))}; expected detectron2's, with "
            "the arrays under 'model'"
        )
    notes = _check_extras(path, content)
    for name, value in model.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(
                f"{name!r} in {path} is a {type(value).__name__}; expected arrays only"
            )
    return {
        name: torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
        for name, value in model.items()
    }, notes


def _read_torch(path: Path) -> tuple[State, list[str]]:
    content = read_torch(path)
    notes: list[str] = []
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        notes = _check_extras(path, content)
        content = content["model"]
    return named_tensors(path, content), notes


def _read_safetensors(path: Path) -> tuple[State, list[str]]:
    return read_safetensors(path), []


READERS: dict[str, Callable[[Path], tuple[State, list[str]]]] = {
    "caffe": _read_caffe,
    "pickle": _read_pickled,
    "torch": _read_torch,
    "safetensors": _read_safetensors,
}


def _check_extras(path: Path, content: Mapping[str, object]) -> list[str]:
    """Accept training state next to the weights and report it; reject any other extra key."""
    extras = {str(key) for key in content} - {"model"} - ORIGIN_KEYS
    if unknown := sorted(extras - TRAINING_KEYS):
        raise ValueError(
            f"{path} has {list_names(unknown)} beside 'model'; expected only the weights "
            "and the training state"
        )
    return [f"Ignored the training state: {list_names(sorted(extras))}."] if extras else []


def _choose_layout(
    container: str, tensors: State, shapes: Mapping[str, Shape]
) -> tuple[str, Layout]:
    """Return the format and its layout, detected from the container and the tensor names."""
    if container == "caffe":
        return "caffemodel", caffe_layout(shapes)
    if container == "pickle":
        return "detectron2", canonical_layout(shapes)
    if container == "safetensors":
        return "safetensors", canonical_layout(shapes)
    marks = (f"{PREDICTOR}.cls_embed.", f"{PREDICTOR}.attr_linear")
    if any(name.startswith(marks) for name in tensors):
        return "milvlg", milvlg_layout(shapes)
    return "huggingface", canonical_layout(shapes)


def _check_yaml(path: Path, shapes: Mapping[str, Shape]) -> list[str]:
    """Raise `ValueError` if the configuration would give other features for the same tensors."""
    if not path.is_file():
        return [f"Found no {YAML_NAME} next to the weights; assuming the published one."]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected YAML: copy it again or remove it"
        ) from error
    sections = _lower_keys(content)
    expected = GEOMETRY | {
        ("roi_heads", "num_classes"): shapes[f"{PREDICTOR}.cls_score.bias"][0] - 1,
        ("roi_box_head", "num_attrs"): shapes[f"{PREDICTOR}.attr_score.bias"][0] - 1,
    }
    wrong = []
    for (section, key), value in expected.items():
        given = sections.get(section, {}).get(key, "absent")
        if given != value:
            wrong.append(f"{section}.{key} is {given}, not {value}")
    if wrong:
        raise ValueError(
            f"{path} describes another detector: {'; '.join(wrong)}. Its weights would give other "
            "features: use the weights and the configuration that were published together"
        )
    return []


def _lower_keys(content: object) -> dict[str, dict[str, object]]:
    """Convert the keys of both levels to lower case; the original reader ignores case too."""
    if not isinstance(content, dict):
        return {}
    return {
        str(section).lower(): {str(key).lower(): value for key, value in settings.items()}
        for section, settings in content.items()
        if isinstance(settings, dict)
    }


def _check_config(path: Path) -> None:
    """Check that a valid lxmert configuration is next to the weights."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {CONFIG_NAME} next to the weights in {str(path.parent)!r}; expected both "
            "from one `save_pretrained`"
        )
    DetectorConfig.from_file(path)


def _norm(weight: Tensor) -> float:
    return float(f"{weight.double().norm().item():.5g}")


def _anchor_note(anchors: Tensor) -> list[str]:
    """Return a note if the file's anchors are not those of the original training.

    The order is ignored: detectron2 lists the same anchors by size first, and so do its heads.
    """
    expected = caffe_anchors()
    if anchors.shape == expected.shape:
        distances = torch.cdist(anchors.double(), expected.double(), p=math.inf)
        if bool((distances.amin(dim=0) < 0.01).all() and (distances.amin(dim=1) < 0.01).all()):
            return []
    return ["The anchors stored in the file are used; they differ from Caffe's."]
