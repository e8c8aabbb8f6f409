"""Optimizes a detector for inference and sets up the numeric precision it computes with."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d  # type: ignore[import-untyped]

from lxmert.regions.backbone import NormedConvolution
from lxmert.regions.detector import Detector

Precision = Literal["exact", "fp32", "bf16"]


def make_fast(detector: Detector, precision: Precision) -> Detector:
    """Return an equivalent detector that is optimized for inference.

    Args:
        detector: in evaluation mode; it is not changed, and later changes of its weights do not
            affect the copy.
        precision: "exact" returns the same detector; on a CPU, results are then bit-identical in
            any batch, but slower. "fp32" folds frozen norms into the preceding convolutions;
            features differ by at most 1e-5 of the largest. "bf16" additionally computes the
            backbone and `res5` in bfloat16, with features that differ by less than 1%; proposals,
            boxes, probabilities and the selection of regions stay float32.

    Raises:
        ValueError: for another precision.
    """
    if not changes_weights(detector, precision):
        return detector
    return optimize(copy.deepcopy(detector), precision)


def changes_weights(detector: Detector, precision: Precision) -> bool:
    """Return whether `optimize` changes the weights of a detector.

    Raises:
        ValueError: for another precision.
    """
    if precision not in ("exact", "fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'exact', 'fp32' or 'bf16'")
    # Trainable norms are not folded; a small detector would gain little.
    return precision == "bf16" or (precision == "fp32" and detector.config.norm == "frozen")


def optimize(detector: Detector, precision: Precision) -> Detector:
    """Like `make_fast` for "fp32" and "bf16", but in place: memory for no copy is needed."""
    detector.requires_grad_(requires_grad=False)
    for module in detector.modules():
        if isinstance(module, NormedConvolution):
            _fold(module)
    if precision == "bf16":
        detector.backbone.to(torch.bfloat16)
        detector.roi_heads.res5.to(torch.bfloat16)
    detector.to(memory_format=torch.channels_last)
    return detector


@contextmanager
def computing(precision: Precision) -> Iterator[None]:
    """Set the backends so that a detector of `make_fast` meets its precision."""
    if precision != "exact":
        yield
        return
    # oneDNN splits sums differently for maps of different sizes, and NNPACK is used from 16 images
    # on; the plain kernels treat all inputs alike.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.nnpack.flags(enabled=False),
        ):
            yield


def _fold(convolution: NormedConvolution) -> None:
    """Fold the norm into the convolution's weights and bias."""
    norm = convolution.norm
    assert isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
    values = norm.state_dict()
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        None,
        values["running_mean"],
        values["running_var"],
        norm.eps,
        values["weight"],
        values["bias"],
    )
    convolution.norm = nn.Identity()
