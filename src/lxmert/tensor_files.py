"""The one reader of tensors in files: never code, and never more than the file has bytes for."""

import errno
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lxmert import weight_files
from lxmert.weight_files import DAMAGE, Values, check_container, damaged, refuse_faults, unreadable

State = dict[str, Tensor]
"""Tensors by name."""

Place = Literal["cpu", "meta"]
"""Where tensors go; on `meta` they have names, shapes and types, but no values and no memory."""

WEIGHT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What trained weights are stored in."""

_SHARES = 4
"""Tensors may share memory, such as a decoder and its embedding: how often all of it, at most."""


@contextmanager
def report_write_errors() -> Iterator[None]:
    """Turn what torch and safetensors raise, when a file cannot be written, into an `OSError`."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(errno.EIO, f"is the disk full? ({reason})") from error


def read_safetensors(path: Path, *, device: Place = "cpu") -> State:
    """Read a safetensors file.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if device == "cpu":
                return {name: file.get_tensor(name) for name in names}
            return {name: _outline(file, name) for name in names}
    except (SafetensorError, KeyError, OverflowError, RuntimeError) as error:
        raise unreadable(path, error) from error


def read_torch(path: Path, *, device: Place = "cpu") -> object:
    """Read what `torch.save` wrote, in its present or its older form: tensors in containers.

    Raises:
        ValueError: if it is damaged, holds anything that is neither tensor, number nor text, which
            would need code to be run, or claims more memory than the file has bytes.
    """
    try:
        zipped = is_zipfile(path)
        check_container(path, zipped=zipped)
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return torch.load(
                path,
                map_location=device,
                weights_only=True,
                mmap=device == "meta" and zipped,
            )
    except OSError as error:
        if error.filename is not None:  # it is the file that could not be opened
            raise
        raise damaged(path, error) from error  # torch seeks before the file's start
    except DAMAGE as error:
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} is refused: it holds Python objects beside its tensors ({asked[1]}), "
                "whose loading could run any code; nothing was run: get the weights from where "
                "they were published, or ask for a file of tensors only, best as safetensors"
            ) from error
        raise damaged(path, error) from error


def named_tensors(path: Path, content: object) -> State:
    """Return the tensors by name that a file held.

    Args:
        path: the file, for its size and for messages.
        content: what was in it, or a part of that.

    Raises:
        ValueError: if it is anything else, or the tensors claim more memory than the file has.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds a {type(value).__name__} under {name!r}; expected tensors by name: "
                "save the state dict of the model alone"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ValueError(f"{path} holds a tensor of another layout under {name!r}: save dense")
    _check_claims(path, dict(content))
    return dict(content)


def find_faults(state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Look at each value of trained weights once; see `lxmert.weight_files.find_faults`."""
    return weight_files.find_faults({name: _values(value) for name, value in state.items()})


def check_values(source: str | Path, state: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` if trained weights have any of the faults of `find_faults`."""
    refuse_faults(source, len(state), find_faults(state))


def _values(value: Tensor) -> Values:
    if value.dtype not in WEIGHT_TYPES:
        return Values(str(value.dtype).removeprefix("torch."), tuple(value.shape), None)
    if value.is_meta or not value.numel():
        return Values("", tuple(value.shape), None)
    low, high = value.detach().aminmax()
    return Values("", tuple(value.shape), (float(low), float(high)))


def _outline(file: Any, name: str) -> Tensor:
    """Return a tensor without values from one that has not been read."""
    piece = file.get_slice(name)
    shape = piece.get_shape()
    # A slice of no rows has the type, and costs no reading; a single number cannot be sliced.
    dtype = piece[:0].dtype if shape else file.get_tensor(name).dtype
    return torch.empty(shape, dtype=dtype, device="meta")


def _check_claims(path: Path, state: State) -> None:
    """Refuse tensors that repeat few bytes without end, such as with a stride of 0."""
    size, total = path.stat().st_size, 0
    for name, value in state.items():
        claimed = value.numel() * value.element_size()
        total += claimed
        if claimed > size or total > _SHARES * size:
            raise ValueError(
                f"{path} has {size} bytes, but its tensors up to {name} {list(value.shape)} claim "
                f"{total}: no training writes such a file, take another one"
            )
