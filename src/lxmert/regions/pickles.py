"""Reads numpy arrays out of a pickle without letting the pickle run anything.

No function or class of any library is handed to the file: each global that a pickle of arrays needs
is answered by a stand-in of this module, and every other one is refused by name.
"""

import math
import mmap
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

DTYPES = ("f2", "f4", "f8", "i4", "i8")

# What the unpickler raises on garbage, by its documentation and by trial.
DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _RefusedError(ValueError):
    """The pickle asks for what no array needs; the message says for what."""


def read_pickle(path: Path) -> dict[str, object]:
    """Read a pickled dictionary of numbers, texts, numpy arrays and dictionaries of these.

    Args:
        path: a pickle of any protocol, written by Python 2 or 3.

    Returns:
        The dictionary; arrays may be read-only.

    Raises:
        ValueError: if the file is damaged, or needs anything but numpy arrays. Nothing that it
            names is imported or run.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a pickle of weights: copy it again.")
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _check_opcodes(mapped)
        mapped.seek(0)
        # Python 2 wrote the bytes of arrays as text: latin1 maps them back one by one.
        content = _ArrayUnpickler(mapped, fix_imports=False, encoding="latin1").load()
        return _unwrap_dict(content)
    except _RefusedError as error:
        raise ValueError(
            f"{path} is refused: it asks for {error}, and a pickle of weights needs numpy arrays "
            "only. Nothing in it was run. Do not open it with other tools; get the weights from "
            "where they were published."
        ) from error
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected a whole pickle of weights: copy it again from "
            "where it was published."
        ) from error


def _check_opcodes(data: mmap.mmap) -> None:
    """Walk over the pickle without running it: every length must fit, nothing may be hidden.

    The unpickler allocates what a length or a memo index announces before it looks for the bytes.
    """
    end = 0
    for opcode, argument, position in pickletools.genops(cast("IO[bytes]", data)):
        if opcode.name.startswith("EXT"):
            raise _RefusedError(f"the registered extension {argument}")
        if opcode.name.endswith("PUT") and int(argument or 0) > end:
            raise ValueError(f"memo {argument} at byte {position}")
        end = (position or 0) + 1
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow its end at byte {end}")


class _Array:
    """An array under construction; filled by `__setstate__`, once."""

    __slots__ = ("values",)

    values: Array

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.values = _build(data, dtype, shape, is_fortran=bool(is_fortran))


class _Dtype:
    """A number type under construction; its byte order arrives by `__setstate__`."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Reconstruct:
    """Stands in for numpy's `_reconstruct`: an empty array, whose state follows."""

    __slots__ = ()

    def __call__(self, *_arguments: object) -> _Array:
        return _Array()


class _MakeDtype:
    """Stands in for `numpy.dtype`, for plain numbers."""

    __slots__ = ()

    def __call__(self, code: object, *_arguments: object) -> _Dtype:
        if code not in DTYPES:
            raise _RefusedError(f"arrays of type {code!r}")
        return _Dtype(str(code))


class _FromBuffer:
    """Stands in for numpy's `_frombuffer`, the array of protocol 5."""

    __slots__ = ()

    def __call__(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        array = _Array()
        array.values = _build(data, dtype, shape, is_fortran=order == "F")
        return array


class _Encode:
    """Stands in for `_codecs.encode`: Python 3 writes bytes as latin1 text in protocol 2."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise _RefusedError(f"the encoding {encoding!r}")
        return text.encode("latin1")


# Instances without a `__dict__`: not even an attribute of theirs can be set by a pickle.
ALLOWED: Mapping[tuple[str, str], object] = {
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Encode(),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Answers the globals of numpy arrays with stand-ins and refuses all others."""

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in; nothing is imported."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"the global {module}.{name}") from None


def _build(data: object, dtype: object, shape: object, *, is_fortran: bool) -> Array:
    """Put the bytes into shape; the size must be the one that the shape announces."""
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise ValueError("an array whose data are not its bytes")
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes of {dtype.dtype}")
    values: Array = np.frombuffer(data, dtype=dtype.dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _unwrap_dict(content: object) -> dict[str, object]:
    """Replace the arrays under construction by the finished ones."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of names")
    return {name: _unwrap(value) for name, value in content.items()}


def _unwrap(value: object) -> object:
    if isinstance(value, _Array):
        return value.values
    return _unwrap_dict(value) if isinstance(value, dict) else value
