"""Fits the tensors of a file into the layout they should have, or says what is wrong with them."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from lxmert.regions.layouts import Layout, Shape, State
from lxmert.tensor_files import check_values

SHOWN_NAMES = 8  # of a list in a message
_COUNTER = ".num_batches_tracked"  # of torch's batch norms; nobody misses it

KINDS: tuple[tuple[str, str | None, str], ...] = (
    ("roi_heads.box.", None, "a maskrcnn-benchmark detector, such as VinVL's"),
    (".x_layers.", None, "an LXMERT checkpoint, which answers questions about regions"),
    ("backbone.body.", None, "a torchvision detector"),
    ("backbone.bottom_up.", None, "a detectron2 detector with a feature pyramid"),
    ("backbone.res4.23.", None, "a detector with a deeper backbone than ResNet-101"),
    ("backbone.res2.0.conv2.", "backbone.res2.0.conv3.", "a small detector that lxmert trained"),
    ("box_predictor.cls_score.", "attr", "a detectron2 detector without attributes"),
    ("rpn_cls_score[", "fc_attr[", "a Caffe detector without attributes"),
    ("layer4.", None, "a torchvision ResNet backbone"),
    ("res5.0.conv1.", "proposal_generator.", "a detectron2 ResNet backbone"),
    ("res5a_branch1[", "rpn_cls_score[", "a Caffe ResNet backbone"),
)
"""(part of a name in the file, part of a name that is in none, what such a file looks like)."""


def assemble(path: Path, tensors: State, layout: Layout) -> tuple[State, list[str]]:
    """Account for every tensor of a file.

    Args:
        path: the file, for messages.
        tensors: all that is in it, by their names there.
        layout: what should be in it.

    Returns:
        The canonical float32 tensors, and notes on what was left out.

    Raises:
        ValueError: if a tensor is missing, unknown, of another shape or type, or not finite; the
            message counts and names them and tells what the file looks like.
    """
    unknown = sorted(set(tensors) - set(layout.names))
    unused = [name for name in unknown if layout.unused.fullmatch(name)]
    unknown = [name for name in unknown if name not in unused]
    missing = [name for name in layout.names if name not in tensors]
    stored = {
        canonical: _squeeze(tensors[name], layout.shapes[name])
        for name, canonical in layout.names.items()
        if name in tensors
    }
    misfits = []
    for name, canonical in layout.names.items():
        tensor = stored.get(canonical)
        if tensor is not None and tensor.shape != layout.shapes[name]:
            misfits.append(f"{name} is {list(tensor.shape)}, not {list(layout.shapes[name])}")
        elif tensor is not None and not tensor.is_floating_point():
            misfits.append(f"{name} is {tensor.dtype}, not float32")
        elif tensor is not None and not bool(tensor.isfinite().all()):
            misfits.append(f"{name} has values that are no finite numbers")
    if missing or unknown or misfits:
        raise ValueError(_describe_misfit(path, set(tensors), missing, unknown, misfits))
    try:
        state = layout.to_canonical(
            {name: tensor.detach().float() for name, tensor in stored.items()}
        )
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}.") from error
    check_values(path, state)
    told = [name for name in unused if not name.endswith(_COUNTER)]
    notes = [f"Left out what says nothing about regions: {list_names(told)}."] if told else []
    return state, notes


def _squeeze(tensor: Tensor, shape: Shape) -> Tensor:
    """Drop the leading sides of 1 that old versions of Caffe wrote before every shape."""
    surplus = tensor.dim() - len(shape)
    if surplus > 0 and set(tensor.shape[:surplus]) == {1}:
        return tensor.reshape(tensor.shape[surplus:])
    return tensor


def _describe_misfit(
    path: Path, names: set[str], missing: list[str], unknown: list[str], misfits: list[str]
) -> str:
    """Say what the file looks like and list what is wrong with it."""
    kind = next(
        (
            kind
            for part, absent, kind in KINDS
            if any(part in name for name in names)
            and not (absent and any(absent in name for name in names))
        ),
        None,
    )
    looks = f"; it looks like {kind}" if kind else ""
    lists = (("missing", missing), ("unknown", unknown), ("of another shape or type", misfits))
    parts = [f"{len(found)} {what}: {list_names(found)}" for what, found in lists if found]
    return (
        f"{path} does not hold the published bottom-up-attention detector with attributes{looks}. "
        f"Of its tensors, {'; '.join(parts)}. Expected one of the published files, such as "
        "faster_rcnn_from_caffe_attr.pkl or resnet101_faster_rcnn_final_iter_320000.caffemodel."
    )


def list_names(names: Iterable[str]) -> str:
    """Write up to eight of the names."""
    names = list(names)
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
