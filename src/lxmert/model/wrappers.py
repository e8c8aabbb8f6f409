"""Models in wrappers of other libraries: unwrapping, and the device of computation."""

from collections.abc import Callable

from torch import device, nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside of torch.compile, parallel wrappers or PEFT.

    Adapters that PEFT has added to layers are kept; the result is not compiled.

    Raises:
        ValueError: if PEFT adds learned prompts, which need its wrapper.
    """
    while True:
        adapters = getattr(model, "peft_config", None)
        base: Callable[[], nn.Module] | None = getattr(model, "get_base_model", None)
        if adapters and base is not None:
            if any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values()):
                raise ValueError(
                    f"{type(model).__name__} adds learned prompts to its input, which is not "
                    "supported: use an adapter inside of layers, such as LoRA"
                )
            inner = base()
        elif isinstance(model, nn.DataParallel | DistributedDataParallel):
            inner = model.module
        else:
            compiled = getattr(model, "_orig_mod", None)  # set by torch.compile
            if not isinstance(compiled, nn.Module):
                return model
            inner = compiled
        model = inner


def execution_device(model: nn.Module) -> device:
    """Return the device of computation; that of accelerate's hooks if it offloads the weights."""
    place = next(model.parameters()).device
    if place.type != "meta":
        return place
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    places = (getattr(hook, "execution_device", None) for hook in hooks)
    return device(next((each for each in places if each is not None), place))
