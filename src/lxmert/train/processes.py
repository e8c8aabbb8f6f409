"""The processes of a run, over accelerate: devices, threads, and sums over ranks.

It works on one CPU, on one GPU, under `torchrun` and under `accelerate launch`.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta

import torch
import torch.distributed
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from accelerate.utils import InitProcessGroupKwargs  # type: ignore[import-untyped]
from torch import Tensor, nn

from lxmert.devices import computes_bf16

_PATIENCE = timedelta(hours=12)
"""Timeout of the ranks; rank 0 alone evaluates and writes, which may take hours."""

_BUCKET_ELEMENTS = 8 * 1024 * 1024
"""Gradient elements per message (32 MiB of float32)."""


def start_processes(precision: str, *, cpu: bool = False) -> Accelerator:
    """Connect the processes of the run.

    Args:
        precision: "fp32", "bf16", "fp16", or "auto" for bf16 where the device has it.
        cpu: whether to use the CPU even if there is a GPU.

    Raises:
        ValueError: for fp16 on a CPU.
    """
    # Without cpu=True accelerate does not connect torchrun processes on a machine without GPU.
    cpu = cpu or not torch.accelerator.is_available()
    if cpu and precision == "fp16":
        raise ValueError(
            'loop.precision is "fp16" on a CPU; expected "fp32" or "bf16" there: '
            "pass --set loop.precision=fp32, or train on a GPU"
        )
    if precision == "auto":
        device = None if cpu else torch.accelerator.current_accelerator()
        precision = "bf16" if computes_bf16(device.type if device else "cpu") else "fp32"
    # accelerate keeps the precision of an earlier run in this process.
    AcceleratorState._reset_state(not torch.distributed.is_initialized())
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    # `accelerate launch` may set another value, by which `backward` divides the loss.
    accelerator.gradient_accumulation_steps = 1
    if cpu:
        _share_cores()
    return accelerator


def sum_over_ranks(values: Tensor, accelerator: Accelerator) -> Tensor:
    """Return the elementwise sum of a tensor over all processes, on the CPU."""
    if accelerator.num_processes == 1:
        return values.cpu()
    total = values.to(accelerator.device, copy=True)
    torch.distributed.all_reduce(total)
    return total.cpu()


def copy_from_first(module: nn.Module, accelerator: Accelerator) -> None:
    """Copy the weights of rank 0 to every process."""
    if accelerator.num_processes > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            torch.distributed.broadcast(tensor.detach(), src=0)


def sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum the gradients of all processes, in place, once per optimizer step.

    It replaces DistributedDataParallel, which expects a gradient of every parameter in every step:
    here a batch may have no targets of an objective, and a rank may not use a head. A parameter
    without gradient on all ranks keeps none.

    Args:
        parameters: the trained parameters, in the same order on every process.
        accelerator: that of the run.
    """
    if accelerator.num_processes == 1:
        return
    used = torch.tensor([p.grad is not None for p in parameters], device=accelerator.device)
    total_used = sum_over_ranks(used.float(), accelerator).tolist()
    gradients = []
    for parameter, ranks in zip(parameters, total_used, strict=True):
        if ranks and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group consecutive tensors of one dtype up to the size of one message."""
    buckets: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        fits = tensor.numel() <= room and buckets[-1][0].dtype == tensor.dtype
        if not fits:
            buckets.append([])
            room = _BUCKET_ELEMENTS
        buckets[-1].append(tensor)
        room -= tensor.numel()
    return buckets


def _share_cores() -> None:
    """Divide the cores among the processes on this machine; torchrun gives one core to each."""
    # Both launchers set this variable, which alone has the number.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))
