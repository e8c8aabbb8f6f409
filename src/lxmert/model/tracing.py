"""Whether a forward pass is computed or recorded: then values and sizes may be unknown."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Proxy


def is_traced(tensor: Tensor) -> bool:
    """Return whether a graph is recorded: by torch.compile, torch.export, torch.jit or torch.fx.

    Fake tensors count as well. transformers' `is_tracing` also asks the CUDA library whether a
    stream is captured, which takes 14 microseconds even without a GPU. Sizes are known then, so
    that only code that reads values of tensors on other devices than the CPU needs it.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or isinstance(tensor, FakeTensor | Proxy)
    )
