"""Extractor folders: saving and loading configuration and weights, and their fingerprint."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lxmert.files import atomic_path, read_json_object, write_json
from lxmert.records import MAX_RECORD_BYTES, Record
from lxmert.regions.configuration import CONFIG_NAME, DetectorConfig
from lxmert.tensor_files import check_values, read_safetensors, report_write_errors

WEIGHTS_NAME = "model.safetensors"

R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=nn.Module)


def save_folder(folder: Path, config: Mapping[str, Any], module: nn.Module) -> None:
    """Write `model.safetensors`, then `config.json`, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS_NAME) as partial, report_write_errors():
        save_file(weights_of(module), partial)
    write_json(folder / CONFIG_NAME, config, indent=2)


def read_type(folder: Path) -> str:
    """Return the `model_type` of an extractor folder; "" if its configuration has none.

    Raises:
        FileNotFoundError: if the configuration or the weights are missing.
        ValueError: if the configuration is damaged.
    """
    _check_files(folder)
    values = read_json_object(
        folder / CONFIG_NAME, remedy=DetectorConfig.remedy, limit=MAX_RECORD_BYTES
    )
    kind = values.get("model_type")
    return kind if isinstance(kind, str) else ""


def read_config(folder: Path, kind: type[R]) -> R:
    """Read the configuration of an extractor; errors as for `read_type`."""
    _check_files(folder)
    return kind.from_file(folder / CONFIG_NAME)


def _check_files(folder: Path) -> None:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"the folder {str(folder)!r} has no {name}; expected a region "
                "extractor: train one with `lxmert train` and a detection recipe, or check the "
                "path"
            )


def load_folder(folder: Path, kind: type[R], build: Callable[[R], M]) -> M:
    """Build an extractor's network from its configuration and load its weights.

    The size of the network is compared with the size of the file before memory is allocated.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, or they do not belong together.
    """
    config = read_config(folder, kind)
    with torch.device("meta"):
        needed = sum(values.nbytes for values in build(config).state_dict().values())
    read_safetensors(folder / WEIGHTS_NAME, device="meta")  # must be valid before its size counts
    held = (folder / WEIGHTS_NAME).stat().st_size
    if needed > held:
        raise ValueError(
            f"{folder / CONFIG_NAME} describes a network of {needed >> 10} KiB, but "
            f"{WEIGHTS_NAME} next to it has {held >> 10} KiB; expected both from one "
            "`save_pretrained`: copy them again"
        )
    module = build(config)
    load_weights(folder, module)
    return module


def load_weights(folder: Path, module: nn.Module) -> None:
    """Load `model.safetensors` into a module; all names must match.

    Raises:
        ValueError: if the file is damaged, does not fit the module, or has values that are not
            finite.
    """
    path = folder / WEIGHTS_NAME
    state = read_safetensors(path)
    load_state(
        module,
        state,
        f"the weights in {str(path)!r} do not fit the {CONFIG_NAME} next to them; expected both "
        "from one `save_pretrained`",
    )
    counts = {name for name, value in module.named_buffers() if not value.is_floating_point()}
    check_values(path, {name: value for name, value in state.items() if name not in counts})


def load_state(module: nn.Module, state: Mapping[str, Tensor], misfit: str) -> None:
    """Load weights, whose names must all match; otherwise raise `ValueError`, saying `misfit`."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{misfit}: {error}") from error


def fingerprint_of(config: Mapping[str, Any], module: nn.Module) -> str:
    """Return a hash of configuration and weights, as saved."""
    digest = hashlib.sha256(json.dumps(config).encode())
    for name, values in sorted(weights_of(module).items()):
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights as they are saved: on the CPU, contiguous."""
    return {
        name: values.detach().cpu().contiguous() for name, values in module.state_dict().items()
    }
