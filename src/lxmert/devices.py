"""Where to compute: names of devices, checked before anything is loaded for them."""

import torch


def check_device(name: object) -> str:
    """Return the name of a device that this machine has.

    Args:
        name: such as `cpu`, `cuda` or `cuda:1`; or a `torch.device`.

    Raises:
        TypeError: if it is no name.
        ValueError: naming the devices that there are.
    """
    if not isinstance(name, str | torch.device):
        raise TypeError(f"device is {name!r}, expected a name: {_listed()}")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device {str(name)!r} is unknown: this machine has {_listed()}"
        ) from error
    there = _there()
    if device.type not in there or (device.index or 0) >= there[device.type]:
        raise ValueError(f"device {str(name)!r} is not there: this machine has {_listed()}")
    return str(name)


def _there() -> dict[str, int]:
    """Return how many devices of each type this machine has."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    there = {"cpu": 1}
    if accelerator is not None:
        there[accelerator.type] = torch.accelerator.device_count()
    return there


def _listed() -> str:
    return ", ".join(
        name if number == 1 else f"{name}:0 to {name}:{number - 1}"
        for name, number in _there().items()
    )
