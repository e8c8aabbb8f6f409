"""Weights in files: read as plain tensors, never as code, and compared with what a model needs."""

import json
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

State = dict[str, Tensor]
"""Tensors by name."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights of a Hugging Face folder, the safe form first; large ones have an index and parts."""

# What torch's unpickler raises on garbage, by trial.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)

Place = Literal["cpu", "meta"]
"""Where tensors go; on `meta` they have names, shapes and types, but no values and no memory."""


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
    if _is_safetensors(path):
        return _read_safetensors(path, device)
    content = _read_pickle(path, device)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds a {type(value).__name__} under {name!r}; expected tensors by name: "
                "save the state dict of the model alone"
            )
    return dict(content)


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
            states = [read_weights(folder / part, device=device) for part in _read_index(index)]
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
        ValueError: listing every name that is not allowed.
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
            shown = [_describe(name, state, expected) for name in refused]
            found.append(f"{len(refused)} {problem}: {', '.join(shown)}")
    if found:
        raise ValueError(
            f"{source} does not fill the model that it describes; tensors {'; '.join(found)}. "
            "Take another file, or name what may be left out or stay random, such as "
            "allow=('cls.predictions',), in a recipe model.allow = [\"cls.predictions\"], or "
            "--allow cls.predictions."
        )
    return {
        name: value
        for name, value in state.items()
        if name in expected and name not in misshapen and name not in tied
    }


def _is_allowed(name: str, allow: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allow)


def _describe(name: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return a name, with both shapes where they differ."""
    if name not in state or name not in expected or state[name].shape == expected[name].shape:
        return name
    return f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal as far as that is known without their values."""
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return torch.equal(one, other)


def _is_safetensors(path: Path) -> bool:
    """Tell by the first bytes: the length of the header, then its opening brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path, device: Place) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if device == "cpu":
                return {name: file.get_tensor(name) for name in names}
            return {name: _outline(file.get_slice(name)) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error


def _outline(piece: Any) -> Tensor:
    """Return a tensor without values from one that has not been read."""
    shape = piece.get_shape()
    # A slice of no rows has the type, and costs no reading; a single number cannot be sliced.
    dtype = piece[:0].dtype if shape else torch.float32
    return torch.empty(shape, dtype=dtype, device="meta")


def _read_index(path: Path) -> list[str]:
    """Return the names of the parts of large weights."""
    try:
        return sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error


def _read_pickle(path: Path, device: Place) -> object:
    """Read what `torch.save` wrote, in its present or its older form."""
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            content: object = torch.load(
                path,
                map_location=device,
                weights_only=True,
                mmap=device == "meta" and is_zipfile(path),
            )
    except pickle.UnpicklingError as error:
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} holds Python objects beside its tensors ({asked[1]}), whose loading could "
                "run any code; nothing was run: ask for a file of tensors only, best as safetensors"
            ) from error
        raise ValueError(_damaged(path, error)) from error
    except OSError as error:
        if error.filename is not None:  # it is the file that could not be opened
            raise
        raise ValueError(_damaged(path, error)) from error  # torch seeks before the file's start
    except _DAMAGE as error:
        raise ValueError(_damaged(path, error)) from error
    return content


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"{path} is no file of weights, or damaged ({type(error).__name__}); nothing of it was "
        "run: check the path, or copy the file again"
    )
