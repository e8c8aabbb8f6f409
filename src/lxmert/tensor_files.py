"""The one reader of tensors in files: never code, and never more than the file has bytes for."""

import errno
import pickle
import pickletools
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

State = dict[str, Tensor]
"""Tensors by name."""

Place = Literal["cpu", "meta"]
"""Where tensors go; on `meta` they have names, shapes and types, but no values and no memory."""

WEIGHT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What trained weights are stored in."""

_SHARES = 4
"""Tensors may share memory, such as a decoder and its embedding: how often all of it, at most."""

_PICKLES = 5
"""Pickles at the start of a file in torch's older form: its marks, the content, the storages."""

_NAMES_SHOWN = 5

# What torch's unpickler raises on garbage, by trial.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadZipFile,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SafetensorError,  # torch.load hands a file over that is named like one
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


@contextmanager
def report_write_errors() -> Iterator[None]:
    """Turn what torch and safetensors raise, when a file cannot be written, into an `OSError`."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(errno.EIO, f"is the disk full? ({reason})") from error


def is_safetensors(path: Path) -> bool:
    """Detect it by the first bytes: the length of the header in 8, then its opening brace."""
    with path.open("rb") as file:
        return file.read(9)[4:] == b"\0\0\0\0{"


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
        raise ValueError(f"{path} is damaged ({error}); expected safetensors: copy it again") from (
            error
        )


def read_torch(path: Path, *, device: Place = "cpu") -> object:
    """Read what `torch.save` wrote, in its present or its older form: tensors in containers.

    Raises:
        ValueError: if it is damaged, holds anything that is neither tensor, number nor text, which
            would need code to be run, or claims more memory than the file has bytes.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty, so no file of weights: copy it again")
    try:
        zipped = is_zipfile(path)
        _check_container(path, zipped=zipped)
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
        raise _damaged(path, error) from error  # torch seeks before the file's start
    except _DAMAGE as error:
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} is refused: it holds Python objects beside its tensors ({asked[1]}), "
                "whose loading could run any code; nothing was run: get the weights from where "
                "they were published, or ask for a file of tensors only, best as safetensors"
            ) from error
        raise _damaged(path, error) from error


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
    """Look at each value of trained weights once.

    Weights of which half or more of the matrices are zeros are those of a file that was never
    written to its end, or of no training: a model learns nothing from there. A single such matrix
    may be the last layer of a head for new classes.

    Returns:
        Names by fault; of those that have one.
    """
    mistyped = [
        f"{name} {str(value.dtype).removeprefix('torch.')}"
        for name, value in state.items()
        if value.dtype not in WEIGHT_TYPES
    ]
    weights = {
        name: value
        for name, value in state.items()
        if value.dtype in WEIGHT_TYPES and value.numel() and not value.is_meta
    }
    extremes = {name: torch.stack(value.detach().aminmax()) for name, value in weights.items()}
    infinite = [name for name, pair in extremes.items() if not bool(pair.isfinite().all())]
    matrices = [name for name, value in weights.items() if value.dim() > 1 and value.numel() > 1]
    zero = [name for name in matrices if not bool(extremes[name].any())]
    faults = {
        "of a type that no weights have": mistyped,
        "with values that are no finite numbers": infinite,
        f"of {len(matrices)} matrices nothing but zeros": zero if 2 * len(zero) >= len(matrices)
        else [],
    }  # fmt: skip
    return {fault: names for fault, names in faults.items() if names}


def describe_faults(faults: Mapping[str, list[str]]) -> str:
    """Count the faults and name the first tensors of each."""
    return "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:_NAMES_SHOWN])}"
        + (", ..." if len(names) > _NAMES_SHOWN else "")
        for fault, names in faults.items()
    )


def check_values(source: str | Path, state: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` if trained weights have any of the faults of `find_faults`."""
    faults = find_faults(state)
    if faults:
        raise ValueError(
            f"{source} cannot be used; of its {len(state)} tensors, {describe_faults(faults)}: "
            "copy it again from where it was trained, or take another file"
        )


def _outline(file: Any, name: str) -> Tensor:
    """Return a tensor without values from one that has not been read."""
    piece = file.get_slice(name)
    shape = piece.get_shape()
    # A slice of no rows has the type, and costs no reading; a single number cannot be sliced.
    dtype = piece[:0].dtype if shape else file.get_tensor(name).dtype
    return torch.empty(shape, dtype=dtype, device="meta")


def _check_container(path: Path, *, zipped: bool) -> None:
    """Refuse what unpacks to more than the file has, before anything of it is loaded."""
    if not zipped:
        with path.open("rb") as file:
            for _ in range(_PICKLES):
                if file.peek(1):
                    _check_opcodes(file)
        return
    with ZipFile(path) as archive:
        entries = archive.infolist()
        unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if unpacked > size:
            raise ValueError(
                f"{unpacked} bytes are packed into its {size}, which torch.save never does"
            )
        for entry in entries:
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as file:
                    _check_opcodes(file)


def _check_opcodes(file: IO[bytes]) -> None:
    """Walk over a pickle: no tuple may be used twice, by which one doubles its size each time."""
    tuples: set[int] = set()
    previous, memos = "", 0
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
            index = memos if argument is None else int(argument)
            memos += 1
            tuples |= {index} if "TUPLE" in previous else set()
        elif opcode.name == "DUP" or (opcode.name.endswith("GET") and int(argument or 0) in tuples):
            raise ValueError("it refers to its own parts, as no weights do")
        previous = opcode.name


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


def _damaged(path: Path, error: Exception) -> ValueError:
    # torch's own messages recommend an unsafe way of loading.
    lines = [line for line in str(error).splitlines() if line and "weights_only" not in line]
    reason = f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
    return ValueError(
        f"{path} is no file of weights, or damaged ({reason}); nothing of it was run: check the "
        "path, or copy the file again"
    )
