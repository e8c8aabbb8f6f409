"""Maps the tensors of a weights file to the detector's layout and reports what does not fit."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from lxmert.regions.layouts import Layout, Shape, State
from lxmert.tensor_files import check_values

SHOWN_NAMES = 8  # names listed in a message
_COUNTER = ".num_batches_tracked"  # of torch's batch norms; not needed for inference

KINDS: tuple[tuple[str, str | None, str], ...] = (
    ("roi_heads.box.", None, "a maskrcnn-benchmark detector, such as VinVL's"),
    (".x_layers.", None, "an LXMERT checkpoint, not a detector"),
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
"""(part of a tensor name, part that no tensor name may have, description of such a file)."""


def assemble(path: Path, tensors: State, layout: Layout) -> tuple[State, list[str]]:
    """Map every tensor of a file to its canonical name and check its shape, type and values.

    Args:
        path: the file, for messages.
        tensors: all tensors of the file, by their names in the file.
        layout: the expected tensors.

    Returns:
        The canonical float32 tensors, and notes about ignored tensors.

    Raises:
        ValueError: if a tensor is missing, unknown, not finite, or has the wrong shape or type. The
            message counts and lists such tensors and says what the file looks like.
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
            misfits.append(f"{name} has values that are not finite")
    if missing or unknown or misfits:
        raise ValueError(_describe_misfit(path, set(tensors), missing, unknown, misfits))
    try:
        state = layout.to_canonical(
            {name: tensor.detach().float() for name, tensor in stored.items()}
        )
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    check_values(path, state)
    ignored = [name for name in unused if not name.endswith(_COUNTER)]
    notes = [f"Ignored tensors of other heads: {list_names(ignored)}."] if ignored else []
    return state, notes


def _squeeze(tensor: Tensor, shape: Shape) -> Tensor:
    """Drop the leading dimensions of 1 that old versions of Caffe prepended to every shape."""
    surplus = tensor.dim() - len(shape)
    if surplus > 0 and set(tensor.shape[:surplus]) == {1}:
        return tensor.reshape(tensor.shape[surplus:])
    return tensor


def _describe_misfit(
    path: Path, names: set[str], missing: list[str], unknown: list[str], misfits: list[str]
) -> str:
    """Describe what the file looks like and list its problems."""
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
    lists = (("missing", missing), ("unknown", unknown), ("of the wrong shape or type", misfits))
    parts = [f"{len(found)} {what}: {list_names(found)}" for what, found in lists if found]
    return (
        f"{path} does not contain the published bottom-up-attention detector with attributes"
        f"{looks}. Among its tensors: {'; '.join(parts)}. Expected one of the published files, "
        "such as faster_rcnn_from_caffe_attr.pkl or "
        "resnet101_faster_rcnn_final_iter_320000.caffemodel."
    )


def list_names(names: Iterable[str]) -> str:
    """Return up to eight of the names as text."""
    names = list(names)
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
