"""Weights in files: read as plain tensors, never as code, and compared with what a model needs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lxmert.files import child_path, read_json_object
from lxmert.tensor_files import (
    Place,
    State,
    check_values,
    is_safetensors,
    named_tensors,
    read_safetensors,
    read_torch,
)

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights of a Hugging Face folder, the safe form first; large ones have an index and parts."""


_NAMES_SHOWN, _LONGEST_NAME = 50, 200


def read_weights(path: str | Path, *, device: Place = "cpu") -> State:
    """Read a file of weights: safetensors, or what `torch.save` made of a state dict.

    Args:
        path: the file. Its content decides what it is, not its ending.
        device: `meta` reads names, shapes and types only.

    Returns:
        Tensors by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds anything but tensors by name, or holds Python
            objects whose loading would run code; nothing of it is run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    if is_safetensors(path):
        return read_safetensors(path, device=device)
    return named_tensors(path, read_torch(path, device=device))


def read_folder(folder: str | Path, *, device: Place = "cpu") -> State:
    """Read the weights of a Hugging Face folder: safetensors or `.bin`, whole or in parts.

    Raises:
        FileNotFoundError: if the folder has no weights, or a part is missing.
        ValueError: if a file cannot be read as weights; see `read_weights`.
    """
    folder = Path(folder)
    for name in WEIGHT_FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read_weights(folder / name, device=device)
        if index.is_file():
            states = [read_weights(part, device=device) for part in _read_index(index)]
            return {name: value for state in states for name, value in state.items()}
    raise FileNotFoundError(
        f"{folder} has neither {' nor '.join(WEIGHT_FILES)}: copy the weights of the model there"
    )


def check_fit(
    source: str | Path,
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    tied: Mapping[str, str],
    unknown: Iterable[str] = (),
    allow: Sequence[str] = (),
) -> State:
    """Compare tensors with what a model needs; nothing may be left over, missing or misshapen.

    Args:
        source: where the tensors come from, for the message.
        state: tensors by the names of the model.
        expected: what the model needs; only names and shapes count.
        tied: name of a shared tensor -> name of the one that it shares; it need not be there.
        unknown: names in the source that mean nothing here.
        allow: names, or beginnings of names up to a dot, that may be left over, or be missing or
            misshapen and so keep their first random values.

    Returns:
        The tensors to load.

    Raises:
        ValueError: listing the names that are not allowed, 50 of each kind at most; or naming the
            tensors whose type or values no weights have.
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
        "unlike the weight that they share": differing,
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
            f"{source} does not fill the model that it describes; tensors {'; '.join(found)}. "
            "Take another file, or name what may be left out or stay random, such as "
            "allow=('cls.predictions',), in a recipe model.allow = [\"cls.predictions\"], or "
            "--allow cls.predictions."
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
    """Return a name, with both shapes where they differ."""
    if name not in state or name not in expected or state[name].shape == expected[name].shape:
        return name[:_LONGEST_NAME]
    return f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal as far as that is known without their values."""
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return torch.equal(one, other)


def _read_index(path: Path) -> list[Path]:
    """Return the paths of the parts of large weights, which lie beside their index."""
    parts = read_json_object(path, remedy="copy it again").get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise ValueError(f"{path} is damaged (it has no weight_map of names): copy it again")
    return [child_path(path.parent, name) for name in sorted(set(parts.values()))]
