"""Models within the wrappers of other libraries: what they wrap, and where it computes."""

from collections.abc import Callable

from torch import device, nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model that torch.compile, torch's parallel wrappers or PEFT have wrapped.

    Adapters that PEFT has put into its layers stay in them; a compiled model is not compiled then.

    Raises:
        ValueError: if PEFT adds learned prompts, which only its wrapper can read.
    """
    while True:
        adapters = getattr(model, "peft_config", None)
        base: Callable[[], nn.Module] | None = getattr(model, "get_base_model", None)
        if adapters and base is not None:
            if any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values()):
                raise ValueError(
                    f"{type(model).__name__} adds learned prompts to its input, which is not "
                    "supported: use an adapter within the layers, such as LoRA"
                )
            inner = base()
        elif isinstance(model, nn.DataParallel | DistributedDataParallel):
            inner = model.module
        else:
            compiled = getattr(model, "_orig_mod", None)  # what torch.compile has wrapped
            if not isinstance(compiled, nn.Module):
                return model
            inner = compiled
        model = inner


def execution_device(model: nn.Module) -> device:
    """Return where a model computes; its weights may wait elsewhere (accelerate's offloading)."""
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    places = (getattr(hook, "execution_device", None) for hook in hooks)
    place = next((place for place in places if place is not None), None)
    return next(model.parameters()).device if place is None else device(place)
