"""The folder of an extractor: configuration and weights, and the fingerprint of both."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lxmert.vision.configuration import CONFIG_NAME

WEIGHTS_NAME = "model.safetensors"


def save_folder(folder: Path, config: Mapping[str, Any], module: nn.Module) -> None:
    """Write `model.safetensors`, then `config.json`, each under its name only when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS_NAME}.{os.getpid()}"
    save_file(weights_of(module), temporary)
    temporary.replace(folder / WEIGHTS_NAME)
    temporary = folder / f".{CONFIG_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / CONFIG_NAME)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of an extractor, of whichever kind.

    Raises:
        FileNotFoundError: if there is none, or no weights beside it.
        ValueError: if it is damaged.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"Got the folder {str(folder)!r}, which has no {name}; expected a detector: "
                "train one with `lxmert train` and a detection recipe, or check the path."
            )
    path = folder / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected JSON: copy it again from where the "
            "detector was trained."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; expected a JSON object.")
    return values


def load_weights(folder: Path, module: nn.Module) -> None:
    """Fill a module from `model.safetensors`, all of it and with nothing left over.

    Raises:
        ValueError: if the file is damaged, or its weights are not the module's.
    """
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except SafetensorError as error:
        raise ValueError(
            f"{str(folder / WEIGHTS_NAME)!r} is damaged ({error}); expected safetensors: copy "
            "it again from where the detector was trained."
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {str(folder / WEIGHTS_NAME)!r} do not fit the {CONFIG_NAME} "
            f"beside them; expected both from one `save_pretrained`: {error}"
        ) from error


def fingerprint_of(config: Mapping[str, Any], module: nn.Module) -> str:
    """Return a hash of configuration and weights: equal for extractors that see the same."""
    digest = hashlib.sha256(json.dumps(config).encode())
    for name, values in sorted(weights_of(module).items()):
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights in the layout of files: on the CPU, contiguous."""
    return {
        name: values.detach().cpu().contiguous() for name, values in module.state_dict().items()
    }
