"""Reads numpy arrays from a pickle without running code from it.

The pickle gets no function or class of any library: each global that a pickle of arrays needs is
replaced by a stand-in of this module, and every other global is rejected by name.
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

MAX_STEPS = 1_000_000
"""Maximum opcodes of a pickle; 600 arrays take 20,000. Each may allocate 200 bytes."""

MAX_COPIES = 4
"""Maximum bytes of arrays per byte of the file: text may encode an array's bytes, but only once."""

_UNNEEDED = {
    "ADDITEMS": "a set",
    "DUP": "an object twice",
    "EMPTY_SET": "a set",
    "FROZENSET": "a set",
    "POP": "an object to be dropped",
    "POP_MARK": "objects to be dropped",
}
"""Opcodes that no array needs and that could hide others -> what they ask for."""

# Exceptions of the unpickler on damaged input, from its documentation and from experiments.
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
        budget = _Budget(MAX_COPIES * len(mapped))
        content = _ArrayUnpickler(mapped, budget).load()
        return _unwrap_dict(content, set())
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
    """Check the opcodes without running them: all lengths must fit and nothing may be hidden.

    The unpickler would allocate what a length or memo index announces before reading the bytes.
    """
    end = 0
    tuples = _Tuples()
    for steps, (opcode, argument, place) in enumerate(
        pickletools.genops(cast("IO[bytes]", data)), start=1
    ):
        position = place or 0
        if opcode.name.startswith("EXT"):
            raise _RefusedError(f"the registered extension {argument}")
        if opcode.name in _UNNEEDED:
            raise _RefusedError(f"{_UNNEEDED[opcode.name]} at byte {position}")
        if opcode.name.endswith("PUT") and int(argument or 0) > end:
            raise ValueError(f"memo {argument} at byte {position}")
        if steps > MAX_STEPS:
            raise _RefusedError(f"more than {MAX_STEPS} steps")
        tuples.check(opcode.name, argument, position)
        end = position + 1
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow its end at byte {end}")


class _Tuples:
    """Rejects a tuple that is used twice: hashing forty nested ones would never end."""

    def __init__(self) -> None:
        self._memo: dict[int, bool] = {}  # index -> whether it is a tuple
        self._is_top = False

    def check(self, name: str, argument: object, position: int) -> None:
        """Process one opcode."""
        if name.endswith("PUT") or name == "MEMOIZE":
            index = len(self._memo) if name == "MEMOIZE" else int(str(argument))
            self._memo[index] = self._is_top
        elif name.endswith("GET"):
            if self._memo.get(int(str(argument)), False):
                raise _RefusedError(f"a tuple twice, at byte {position}")
            self._is_top = False
        elif name != "FRAME":
            self._is_top = name.startswith("TUPLE")


class _Budget:
    """Counts how many bytes may still be copied."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, text: str) -> bytes:
        """Return the bytes of an array that is encoded as text."""
        self.left -= len(text)
        if self.left < 0:
            raise _RefusedError(f"more than {MAX_COPIES} times the bytes of the file")
        return text.encode("latin1")


class _Array:
    """An array under construction; set by `__setstate__`, once."""

    __slots__ = ("_budget", "values")

    values: Array

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if isinstance(data, str):
            data = self._budget.take(data)
        self.values = _build(data, dtype, shape, is_fortran=bool(is_fortran))


class _Dtype:
    """A dtype under construction; its byte order is set by `__setstate__`."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {_name(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _StandIn:
    """A callable that replaces a function; no pickle can change it."""

    __slots__ = ("_budget",)

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(self, _state: object) -> None:
        raise ValueError("it changes a function")


class _Class(_StandIn):
    """Replaces `numpy.ndarray`, which is only used as an argument of `_reconstruct`."""

    __slots__ = ()


class _Reconstruct(_StandIn):
    """Replaces numpy's `_reconstruct`: an empty array, whose state follows."""

    __slots__ = ()

    def __call__(self, *_arguments: object) -> _Array:
        return _Array(self._budget)


class _MakeDtype(_StandIn):
    """Replaces `numpy.dtype`, for plain numbers."""

    __slots__ = ()

    def __call__(self, code: object, *_arguments: object) -> _Dtype:
        if code not in DTYPES:
            raise _RefusedError(f"arrays of type {_name(code)}")
        return _Dtype(str(code))


class _FromBuffer(_StandIn):
    """Replaces numpy's `_frombuffer`, the array of protocol 5."""

    __slots__ = ()

    def __call__(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        array = _Array(self._budget)
        array.values = _build(data, dtype, shape, is_fortran=order == "F")
        return array


class _Encode(_StandIn):
    """Replaces `_codecs.encode`: Python 3 writes bytes as latin1 text in protocol 2."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise _RefusedError(f"the encoding {_name(encoding)}")
        return self._budget.take(text)


ALLOWED: Mapping[tuple[str, str], type[_StandIn]] = {
    ("numpy", "ndarray"): _Class,
    ("numpy", "dtype"): _MakeDtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the globals of numpy arrays to stand-ins and rejects all others."""

    def __init__(self, data: mmap.mmap, budget: _Budget) -> None:
        # Python 2 wrote the bytes of arrays as text; latin1 maps them back one to one.
        super().__init__(cast("IO[bytes]", data), fix_imports=False, encoding="latin1")
        self._budget = budget

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in; nothing is imported."""
        try:
            return ALLOWED[module, name](self._budget)
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
