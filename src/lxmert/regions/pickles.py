"""Reads numpy arrays from a pickle without running code from it.

The pickle gets no function or class of any library: each global that a pickle of arrays needs is
replaced by a stand-in of this module, and every other global is rejected by name.
"""

import math
import mmap
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from lxmert.weight_files import DAMAGE

Array = npt.NDArray[np.generic]

DTYPES = ("f2", "f4", "f8", "i4", "i8")

MAX_STEPS = 1_000_000
"""Maximum opcodes of a pickle; 600 arrays take 20,000. Each may allocate 200 bytes."""

_LONG_TEXT = 1000

_UNNEEDED = {
    "ADDITEMS": "a set",
    "DUP": "an object twice",
    "EMPTY_SET": "a set",
    "FROZENSET": "a set",
    "POP": "an object to be dropped",
    "POP_MARK": "objects to be dropped",
}
"""Opcodes that no array needs and that could hide others -> what they ask for."""


class _RefusedError(ValueError):
    """The pickle asks for something that no array needs; the message names it."""


def read_pickle(path: Path) -> dict[str, object]:
    """Read a pickled dictionary of numbers, strings, numpy arrays and nested dictionaries.

    Args:
        path: a pickle of any protocol, written by Python 2 or 3.

    Returns:
        The dictionary; arrays may be read-only.

    Raises:
        ValueError: if the file is damaged, or needs anything but numpy arrays. Nothing in it is
            imported or run.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a pickle of weights: copy it again")
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _check_opcodes(mapped)
        mapped.seek(0)
        # Python 2 wrote the bytes of arrays as text; latin1 maps them back one to one.
        unpickler = _ArrayUnpickler(cast("IO[bytes]", mapped), fix_imports=False, encoding="latin1")
        return _unwrap_dict(unpickler.load(), set())
    except _RefusedError as error:
        raise ValueError(
            f"{path} is refused: it asks for {error}, but a pickle of weights needs numpy arrays "
            "only. No code in it was run. Do not open it with other tools; download the weights "
            "from where they were published"
        ) from error
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected a complete pickle of weights: download it again"
        ) from error


def _check_opcodes(data: mmap.mmap) -> None:
    """Check the opcodes without running them: all lengths must fit, and nothing may multiply.

    The unpickler would allocate what a length or memo index announces before reading the bytes.
    Tuples and long texts may not be used twice: hashing forty nested tuples would never end, and
    each use of a text may copy it.
    """
    end, is_single = 0, False
    memo: dict[int, bool] = {}  # index -> whether it may be used only once
    for steps, (opcode, argument, place) in enumerate(
        pickletools.genops(cast("IO[bytes]", data)), start=1
    ):
        name, position = opcode.name, place or 0
        if name.startswith("EXT"):
            raise _RefusedError(f"the registered extension {argument}")
        if name in _UNNEEDED:
            raise _RefusedError(f"{_UNNEEDED[name]} at byte {position}")
        if steps > MAX_STEPS:
            raise _RefusedError(f"more than {MAX_STEPS} steps")
        if name.endswith("PUT") or name == "MEMOIZE":
            index = len(memo) if argument is None else int(argument)
            if index > end:
                raise ValueError(f"memo {argument} at byte {position}")
            memo[index] = is_single
        elif name.endswith("GET"):
            if memo.get(int(argument or 0)):
                raise _RefusedError(f"a tuple or a long text twice, at byte {position}")
            is_single = False
        elif name != "FRAME":
            is_long = isinstance(argument, str | bytes) and len(argument) > _LONG_TEXT
            is_single = name.startswith("TUPLE") or is_long
        end = position + 1
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow its end at byte {end}")


class _Array:
    """An array under construction; set by `__setstate__`."""

    __slots__ = ("values",)

    values: Array

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.values = _build(data, dtype, shape, is_fortran=bool(is_fortran))


class _Dtype:
    """A dtype of plain numbers under construction; its byte order is set by `__setstate__`."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object) -> None:
        if code not in DTYPES:
            raise _RefusedError(f"arrays of type {_name(code)}")
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {_name(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _StandIn:
    """Replaces a function by another one; no pickle can change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise ValueError("it changes a function")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """Return the array of protocol 5."""
    array = _Array()
    array.values = _build(data, dtype, shape, is_fortran=order == "F")
    return array


def _encode(text: object, encoding: object) -> bytes:
    """Return the bytes that Python 3 writes as latin1 text in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"the encoding {_name(encoding)}")
    return text.encode("latin1")


ALLOWED: Mapping[tuple[str, str], _StandIn | None] = {
    ("numpy", "ndarray"): None,  # only an argument of `_reconstruct`, which ignores it
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(lambda *_: _Array()),
    ("numpy._core.multiarray", "_reconstruct"): _StandIn(lambda *_: _Array()),
    ("numpy.core.numeric", "_frombuffer"): _StandIn(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _StandIn(_from_buffer),
    ("_codecs", "encode"): _StandIn(_encode),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the globals of numpy arrays to stand-ins and rejects all others."""

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in; nothing is imported."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"the global {module}.{name}") from None


def _build(data: object, dtype: object, shape: object, *, is_fortran: bool) -> Array:
    """Return the bytes as an array; their number must match the shape."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise ValueError("an array whose data are not its bytes")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(map(_is_side, shape)):
        raise ValueError("an array of an impossible shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes of {dtype.dtype}")
    values: Array = np.frombuffer(data, dtype=dtype.dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _is_side(side: object) -> bool:
    return type(side) is int and 0 <= side < 2**48


def _name(value: object) -> str:
    """Describe a value in bounded time, even if it is a recursive list."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _unwrap_dict(content: object, seen: set[int]) -> dict[str, object]:
    """Replace the arrays under construction by finished arrays."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of names")
    if id(content) in seen:  # unwrapping forty nested ones would never end
        raise ValueError("a dictionary is used twice")
    seen.add(id(content))
    return {name: _unwrap(value, seen) for name, value in content.items()}


def _unwrap(value: object, seen: set[int]) -> object:
    if isinstance(value, _Array):
        return value.values
    return _unwrap_dict(value, seen) if isinstance(value, dict) else value
