"""Safe reading of weight files, and comparison of weights with a model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lxmert.tensor_files import (
    Place,
    State,
    check_values,
    named_tensors,
    read_safetensors,
    read_torch,
)
from lxmert.weight_files import find_weights, is_safetensors

_NAMES_SHOWN, _LONGEST_NAME = 50, 200


def read_weights(path: str | Path, *, device: Place = "cpu") -> State:
    """Read a weight file: safetensors, or a state dict written by `torch.save`.

    Args:
        path: the file; the format is detected by its content.
        device: `meta` reads names, shapes and dtypes only.

    Returns:
        Tensors by name.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, contains anything but tensors by name, or contains
            Python objects whose loading would run code; no code is run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    if is_safetensors(path):
        return read_safetensors(path, device=device)
    return named_tensors(path, read_torch(path, device=device))


def read_folder(folder: str | Path, *, device: Place = "cpu") -> State:
    """Read the weights of a Hugging Face folder: safetensors or `.bin`, possibly sharded.

    Raises:
        FileNotFoundError: if the folder has no weights, or a shard is missing.
        ValueError: if a file cannot be read as weights; see `read_weights`.
    """
    states = [read_weights(path, device=device) for path in find_weights(Path(folder))]
    return {name: value for state in states for name, value in state.items()}


def rename_norm(name: str) -> str:
    """Return the name of a weight, with `weight` and `bias` for a norm's `gamma` and `beta`.

    The latter are the names of TensorFlow, which older BERT files have.
    """
    name = re.sub(r"\.gamma$", ".weight", name)
    return re.sub(r"\.beta$", ".bias", name)


def check_fit(
    source: str | Path,
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    tied: Mapping[str, str],
    unknown: Iterable[str] = (),
    allow: Sequence[str] = (),
) -> State:
    """Compare tensors with the weights of a model: none may be unused, missing or misshapen.

    Args:
        source: origin of the tensors, for the message.
        state: tensors by the names of the model.
        expected: weights of the model; only names and shapes matter.
        tied: name of a tied tensor -> name of the tensor that it shares; it may be missing.
        unknown: names in the source that no model has.
        allow: names, or dot-separated prefixes, that may be unused, missing or misshapen; the
            latter two keep their random initial values.

    Returns:
        The tensors to load.

    Raises:
        ValueError: listing the names that are not allowed, at most 50 of each kind; or naming
            tensors with an invalid dtype or invalid values.
    """
    left_over = [*unknown, *(name for name in state if name not in expected)]
    missing = [name for name in expected if name not in state and tied.get(name) not in state]
    misshapen = [
        name
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    differing = [
        name
        for name, other in tied.items()
        if name in state and other in state and not _same(state[name], state[other])
    ]
    problems = {
        "unknown": left_over,
        "missing": missing,
        "of another shape": misshapen,
        "different from their tied weight": differing,
    }
    found = []
    for problem, names in problems.items():
        refused = sorted(name for name in names if not _is_allowed(name, allow))
        if refused:
            shown = [_describe(name, state, expected) for name in refused[:_NAMES_SHOWN]]
            shown += [f"and {len(refused) - len(shown)} more"] * (len(refused) > len(shown))
            found.append(f"{len(refused)} {problem}: {', '.join(shown)}")
    if found:
        raise ValueError(
            f"{source} does not fill the model that it describes; tensors {'; '.join(found)}: "
            "use another file, or name weights that may be unused or randomly initialized, such as "
            "allow=('cls.predictions',), in a recipe model.allow = [\"cls.predictions\"], or "
            "--allow cls.predictions"
        )
    fitting = {
        name: value
        for name, value in state.items()
        if name in expected and name not in misshapen and name not in tied
    }
    check_values(source, fitting)
    return fitting


def _is_allowed(name: str, allow: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allow)


def _describe(name: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return a name, with both shapes if they differ."""
    if name not in state or name not in expected or state[name].shape == expected[name].shape:
        return name[:_LONGEST_NAME]
    return f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal; meta tensors are compared by shape."""
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return torch.equal(one, other)
