"""Chooses the device to compute on, and checks device names before anything is loaded.

Without PyTorch, there is only the device "cpu".
"""

from importlib.util import find_spec


def choose_device(name: str | None = None) -> str:
    """Return the given device, or else the best one: `cuda` or `mps` if available, else `cpu`.

    Raises:
        ValueError: if this machine has no such device.
    """
    if name is not None:
        return check_device(name)
    return next((kind for kind in ("cuda", "mps") if kind in _available()), "cpu")


def check_device(name: object) -> str:
    """Return the name of a device that this machine has.

    Args:
        name: name such as `cpu`, `cuda` or `cuda:1`, or a `torch.device`.

    Raises:
        TypeError: if it is neither.
        ValueError: if the device does not exist; the message lists the devices that do.
    """
    if name == "cpu":
        return "cpu"
    if find_spec("torch") is None:
        raise ValueError(
            f"device {str(name)!r} needs PyTorch, which is not installed: pip install lxmert, or "
            "leave the device out"
        )
    import torch

    if not isinstance(name, str | torch.device):
        raise TypeError(f"device is {name!r}, expected one of {_listed()}")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device {str(name)!r} is unknown: this machine has {_listed()}"
        ) from error
    available = _available()
    if device.type not in available or (device.index or 0) >= available[device.type]:
        raise ValueError(f"device {str(name)!r} is not available: this machine has {_listed()}")
    return str(name)


def computes_bf16(device_type: str) -> bool:
    """Return whether a type of device has instructions for bfloat16.

    Others emulate them: a processor with AVX2 alone, 40 times more slowly than float32.
    """
    import torch

    if device_type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def _available() -> dict[str, int]:
    """Return how many devices of each type this machine has."""
    if find_spec("torch") is None:
        return {"cpu": 1}
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    available = {"cpu": 1}
    if accelerator is not None:
        available[accelerator.type] = torch.accelerator.device_count()
    return available


def _listed() -> str:
    return ", ".join(
        name if number == 1 else f"{name}:0 to {name}:{number - 1}"
        for name, number in _available().items()
    )
