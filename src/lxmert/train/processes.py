"""The processes of a run, over accelerate: devices, threads, and sums over ranks.

Works alike on one CPU, on one GPU, under `torchrun` and under `accelerate launch`.
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

_PATIENCE = timedelta(hours=12)
"""How long ranks wait for each other; rank 0 alone evaluates and writes, which may take hours."""

_BUCKET_ELEMENTS = 8 * 1024 * 1024
"""Gradient elements that are summed over the ranks in one message (32 MiB of float32)."""


def start_processes(precision: str, *, cpu: bool = False) -> Accelerator:
    """Join the other processes of the run, if there are any.

    Args:
        precision: "fp32", "bf16" or "fp16".
        cpu: whether to leave GPUs alone; without any, the CPU is used in any case.

    Raises:
        ValueError: fp16 is asked for on a CPU.
    """
    # Without cpu=True accelerate runs every torchrun process on its own on a machine without GPU.
    cpu = cpu or not torch.accelerator.is_available()
    if cpu and precision == "fp16":
        raise ValueError(
            'loop.precision is "fp16" on a CPU; expected "fp32" or "bf16" there: '
            "pass --set loop.precision=fp32, or train on a GPU"
        )
    # An earlier run in this process may have had another precision, which accelerate remembers.
    AcceleratorState._reset_state(not torch.distributed.is_initialized())
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    # `accelerate launch` may set another value, by which `backward` would divide our loss again.
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
    """Give every process the weights of rank 0."""
    if accelerator.num_processes > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            torch.distributed.broadcast(tensor.detach(), src=0)


def sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Add up the gradients of all processes, in place, once per optimiser step.

    This stands in for DistributedDataParallel, which wants every parameter to take part in every
    step: an objective without targets in one batch, or a head that one rank did not use, is the
    ordinary case here. A parameter without gradient on all ranks keeps none.

    Args:
        parameters: the trained ones, in the same order on every process.
        accelerator: of the run.
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
    """Group neighbours of one type up to the size of one message."""
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
    """Divide the cores by the processes on this machine; torchrun would leave one to each."""
    # Both launchers tell the number in this variable, and nowhere else.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))
