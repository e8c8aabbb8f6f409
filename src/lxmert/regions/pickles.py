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

MAX_STEPS = 1_000_000
"""Steps of a pickle; 600 arrays take 20,000. Each may fill 200 bytes of memory."""

MAX_COPIES = 4
"""Bytes of arrays for each byte of the file: a text may stand for an array's bytes, but once."""

_UNNEEDED = {
    "ADDITEMS": "a set",
    "DUP": "an object twice",
    "EMPTY_SET": "a set",
    "FROZENSET": "a set",
    "POP": "an object to be dropped",
    "POP_MARK": "objects to be dropped",
}
"""Steps that no array needs, and that hide what others do -> what they ask for."""

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
        budget = _Budget(MAX_COPIES * len(mapped))
        content = _ArrayUnpickler(mapped, budget).load()
        return _unwrap_dict(content, set())
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
    """Refuses a tuple that stands in two places: forty that hold each other never end to hash."""

    def __init__(self) -> None:
        self._memo: dict[int, bool] = {}  # index -> whether it is a tuple
        self._is_top = False

    def check(self, name: str, argument: object, position: int) -> None:
        """Follow one step."""
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
    """How many bytes may still be copied."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, text: str) -> bytes:
        """Return the bytes of an array that were written as text."""
        self.left -= len(text)
        if self.left < 0:
            raise _RefusedError(f"more than {MAX_COPIES} times the bytes of the file")
        return text.encode("latin1")


class _Array:
    """An array under construction; filled by `__setstate__`, once."""

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
    """A number type under construction; its byte order arrives by `__setstate__`."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {_name(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _StandIn:
    """Is called in place of a function; no pickle can change it."""

    __slots__ = ("_budget",)

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(self, _state: object) -> None:
        raise ValueError("a function that shall be changed")


class _Class(_StandIn):
    """Stands in for `numpy.ndarray`, which is only ever an argument of `_reconstruct`."""

    __slots__ = ()


class _Reconstruct(_StandIn):
    """Stands in for numpy's `_reconstruct`: an empty array, whose state follows."""

    __slots__ = ()

    def __call__(self, *_arguments: object) -> _Array:
        return _Array(self._budget)


class _MakeDtype(_StandIn):
    """Stands in for `numpy.dtype`, for plain numbers."""

    __slots__ = ()

    def __call__(self, code: object, *_arguments: object) -> _Dtype:
        if code not in DTYPES:
            raise _RefusedError(f"arrays of type {_name(code)}")
        return _Dtype(str(code))


class _FromBuffer(_StandIn):
    """Stands in for numpy's `_frombuffer`, the array of protocol 5."""

    __slots__ = ()

    def __call__(self, data: object, dtype: object, shape: object, order: object) -> _Array:
        array = _Array(self._budget)
        array.values = _build(data, dtype, shape, is_fortran=order == "F")
        return array


class _Encode(_StandIn):
    """Stands in for `_codecs.encode`: Python 3 writes bytes as latin1 text in protocol 2."""

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
    """Answers the globals of numpy arrays with stand-ins and refuses all others."""

    def __init__(self, data: mmap.mmap, budget: _Budget) -> None:
        # Python 2 wrote the bytes of arrays as text: latin1 maps them back one by one.
        super().__init__(cast("IO[bytes]", data), fix_imports=False, encoding="latin1")
        self._budget = budget

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in; nothing is imported."""
        try:
            return ALLOWED[module, name](self._budget)
        except KeyError:
            raise _RefusedError(f"the global {module}.{name}") from None


def _build(data: object, dtype: object, shape: object, *, is_fortran: bool) -> Array:
    """Put the bytes into shape; the size must be the one that the shape announces."""
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
    """Name a value in bounded time: a list may hold itself, or others without end."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _unwrap_dict(content: object, seen: set[int]) -> dict[str, object]:
    """Replace the arrays under construction by the finished ones."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of names")
    if id(content) in seen:  # forty that hold each other twice would have no end
        raise ValueError("a dictionary is in two places")
    seen.add(id(content))
    return {name: _unwrap(value, seen) for name, value in content.items()}


def _unwrap(value: object, seen: set[int]) -> object:
    if isinstance(value, _Array):
        return value.values
    return _unwrap_dict(value, seen) if isinstance(value, dict) else value
