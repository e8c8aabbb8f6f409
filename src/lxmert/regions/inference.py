"""Makes the copy of a detector that looks at images fast, and the context it computes in."""

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
    """Return a detector for inference alone, which sees the same as this one.

    Args:
        detector: in evaluation mode; it is left as it is, and later changes of its weights do not
            reach the copy.
        precision: "exact" copies nothing, and on a CPU an image gives the same bits in any batch,
            more slowly. "fp32" folds frozen norms into the convolutions before them;
            features differ by at most 1e-5 of the largest.
            "bf16" also computes backbone and `res5` in bfloat16, with features that differ by
            less than 1 %; proposals, boxes, probabilities and the choice of regions stay float32.

    Raises:
        ValueError: for another precision.
    """
    if precision not in ("exact", "fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'exact', 'fp32' or 'bf16'.")
    # A norm that is trained may be trained on, and a small detector gains next to nothing.
    if precision == "exact" or (precision == "fp32" and detector.config.norm != "frozen"):
        return detector
    fast = copy.deepcopy(detector).requires_grad_(requires_grad=False)
    for module in fast.modules():
        if isinstance(module, NormedConvolution):
            _fold(module)
    if precision == "bf16":
        fast.backbone.to(torch.bfloat16)
        fast.roi_heads.res5.to(torch.bfloat16)
    fast.to(memory_format=torch.channels_last)
    return fast


@contextmanager
def computing(precision: Precision) -> Iterator[None]:
    """Return the context in which a detector of `make_fast` keeps what its precision promises."""
    if precision != "exact":
        yield
        return
    # oneDNN cuts its sums differently for maps of different sizes, NNPACK steps in from 16 images
    # on; the plain kernels treat all alike.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.nnpack.flags(enabled=False),
        ):
            yield


def _fold(convolution: NormedConvolution) -> None:
    """Move the norm's factors and shifts into the weights and a bias."""
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
