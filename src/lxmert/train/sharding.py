"""Two ways in which the processes of a run share its weights: each has all of them, or a part.

Both make the same updates. A batch may have no targets of an objective, and a rank may not use a
head: a parameter without gradient on all ranks keeps none, so that it does not decay.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lxmert.tasks.task import Batch, Task
from lxmert.train.processes import sum_gradients, sum_over_ranks

State = dict[str, Any]
"""The state of an optimizer, as its `state_dict` returns it."""


class Sharing:
    """How the processes of a run share the weights: here, each has all and the whole optimizer."""

    def __init__(self, task: Task, accelerator: Accelerator) -> None:
        """Take a task whose model has the same weights in all processes."""
        self._task, self._accelerator = task, accelerator

    def losses(self, batch: Batch, *, is_last: bool) -> dict[str, Tensor]:
        """Return the losses of a micro-batch; `is_last`: the last one of its step."""
        del is_last
        return self._task.losses(self._task.model, batch)

    def backward_nothing(self) -> None:
        """Replace the backward pass of a micro-batch that has no targets on this process."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all processes, after the backward pass of the last micro-batch."""
        sum_gradients(parameters, self._accelerator)

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the norm of all gradients together, `[]`."""
        return nn.utils.get_total_norm(gradients)

    def gather(self) -> None:
        """Make the model whole in every process, to evaluate and to save; all must call it."""

    def scatter(self) -> None:
        """End what `gather` began."""

    def whole_state(self, optimizer: torch.optim.Optimizer) -> State:
        """Return the state of the whole optimizer; all processes must call it."""
        return optimizer.state_dict()

    def own_state(self, optimizer: torch.optim.Optimizer, state: State) -> State:
        """Return what this process keeps of the state of the whole optimizer."""
        del optimizer
        return state


class _Losses(nn.Module):
    """The losses of a task as a module, whose call makes the weights whole.

    Attributes:
        used: positions of the parameters that got a gradient in this process since it was cleared.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self.used: set[int] = set()
        self._task = task
        self._watches = False

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses, and a zero that depends on a parameter."""
        parameters = list(self.parameters())
        if not self._watches:  # the whole parameters exist from the first call on
            for place, parameter in enumerate(parameters):
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                        lambda _, place=place: self.used.add(place)
                    )
            self._watches = True
        trained = next(parameter for parameter in parameters if parameter.requires_grad)
        return self._task.losses(self.model, batch), 0 * trained.sum()


class Sharded(Sharing):
    """Every process keeps a part of the weights, gradients and optimizer state (FSDP2).

    The model is one unit: its weights are whole from the forward pass of a micro-batch to the end
    of its backward pass. Units for single layers would need less memory, but their messages would
    have to be in the same order on all ranks, which a rank without targets does not guarantee.
    """

    def __init__(self, task: Task, accelerator: Accelerator) -> None:
        """Shard the model of a task, which has the same weights in all processes.

        Raises:
            ValueError: if this version of PyTorch cannot sum the gradients of unequal ranks.
        """
        if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
            raise ValueError(
                f'loop.parallel is "fsdp", but PyTorch {torch.__version__} lacks '
                "`set_reduce_scatter_unused_params`: update it, or pass --set loop.parallel=ddp"
            )
        super().__init__(task, accelerator)
        self._losses = _Losses(task)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        module = fully_shard(self._losses, mesh=mesh)
        assert isinstance(module, FSDPModule)
        self._module = module
        # Sums instead of means: the loop divides by the targets of the whole step.
        module.set_force_sum_reduction_for_comms(True)
        module.set_gradient_divide_factor(1.0)
        module.set_reduce_scatter_unused_params(True)
        self._zero = torch.zeros(())
        self._own: list[tuple[nn.Module, str, nn.Parameter]] = []

    def losses(self, batch: Batch, *, is_last: bool) -> dict[str, Tensor]:
        """See `Sharing`."""
        self._module.set_requires_gradient_sync(is_last)
        losses: dict[str, Tensor]
        losses, self._zero = self._losses(batch)
        return losses

    def backward_nothing(self) -> None:
        """See `Sharing`; without a backward pass, this process would send no gradients."""
        used = set(self._losses.used)
        self._zero.backward()  # type: ignore[no-untyped-call]
        self._losses.used = used

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """See `Sharing`; the backward pass has summed them, with zeros for those without any."""
        del parameters
        own = list(self._losses.parameters())
        used = torch.tensor([float(place in self._losses.used) for place in range(len(own))])
        for parameter, ranks in zip(own, sum_over_ranks(used, self._accelerator), strict=True):
            if not ranks:
                parameter.grad = None
        self._losses.used.clear()

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """See `Sharing`."""
        norm = nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def gather(self) -> None:
        """See `Sharing`."""
        # Not `unshard`: FSDP2 would turn the weights into parts again when they are saved.
        whole: dict[nn.Parameter, nn.Parameter] = {}
        for module in self._losses.modules():
            for name, own in list(module.named_parameters(recurse=False)):
                if own not in whole:  # tied weights stay tied
                    whole[own] = nn.Parameter(_full(own), requires_grad=own.requires_grad)
                self._own.append((module, name, own))
                setattr(module, name, whole[own])

    def scatter(self) -> None:
        """See `Sharing`."""
        for module, name, own in self._own:
            setattr(module, name, own)
        self._own.clear()

    def whole_state(self, optimizer: torch.optim.Optimizer) -> State:
        """See `Sharing`."""
        state = optimizer.state_dict()
        whole = {
            place: {name: _whole(value) for name, value in values.items()}
            for place, values in state["state"].items()
        }
        return {**state, "state": whole}

    def own_state(self, optimizer: torch.optim.Optimizer, state: State) -> State:
        """See `Sharing`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        own = {
            place: {name: _part(value, parameters[place]) for name, value in values.items()}
            for place, values in state["state"].items()
        }
        return {**state, "state": own}


def share(task: Task, accelerator: Accelerator, parallel: str) -> Sharing:
    """Return how the processes share the model of a task; one process alone has all of it."""
    if parallel == "fsdp" and accelerator.num_processes > 1:
        return Sharded(task, accelerator)
    return Sharing(task, accelerator)


def _whole(value: object) -> object:
    return _full(value).cpu() if isinstance(value, DTensor) else value


def _full(value: Tensor) -> Tensor:
    assert isinstance(value, DTensor)
    full: Tensor = value.full_tensor()
    return full.detach().clone()  # of parts of unequal size, it is a view of a padded tensor


def _part(value: object, parameter: Tensor) -> object:
    """Return the part of an average that belongs to the part of a parameter."""
    assert isinstance(parameter, DTensor)
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value  # such as the number of steps
    # Every process has read the whole value, so that nothing is sent.
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
