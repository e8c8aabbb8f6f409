"""Columns of numbers and strings that are written incrementally and then memory-mapped.

The files are temporary and unnamed: they disappear with the last process that maps them. Forked
workers share the pages; if workers are not forked, pickling copies the values.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

BATCH = 1024
"""Rows held as Python objects at a time."""

_MOST = 2**32 - 1

_Value = TypeVar("_Value")


def in_batches(values: Iterable[_Value], size: int = BATCH) -> Iterator[list[_Value]]:
    """Yield the values in lists of the given size; the last one may be shorter."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


class ColumnWriter:
    """Appends numbers to a temporary file."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        """Open a file for values of one type."""
        self.dtype = np.dtype(dtype)
        # The file exists as long as its map. The environment variable TMPDIR selects its folder.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, values: npt.ArrayLike) -> None:
        """Append values."""
        self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)

    def finish(self) -> npt.NDArray[Any]:
        """Return all values, mapped and read-only."""
        with self._file as file:
            file.flush()
            if file.tell() == 0:  # an empty file cannot be mapped
                return np.zeros(0, self.dtype)
            return np.asarray(np.memmap(file, dtype=self.dtype, mode="r"))


class Ragged(NamedTuple):
    """Concatenated rows of different lengths.

    Attributes:
        bounds: `[rows + 1]`, the start of each row, and the end of the last one.
        values: values of all rows.
    """

    bounds: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the number of values of each row."""
        bounds = self.bounds.astype(np.int64)
        return bounds[1:] - bounds[:-1]

    def row(self, index: int) -> npt.NDArray[Any]:
        """Return the values of a row."""
        return self.values[self.bounds.item(index) : self.bounds.item(index + 1)]


class RaggedWriter:
    """Appends rows of different lengths."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        """Open files for values of one type."""
        self._values = ColumnWriter(dtype)
        self._bounds = ColumnWriter(np.uint32)
        self._bounds.add([0])
        self._end = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows.

        Raises:
            ValueError: if there are more than 2**32 - 1 values.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        total = int(lengths.sum())
        self.add_flat(np.fromiter(chain.from_iterable(rows), self._values.dtype, total), lengths)

    def add_flat(self, values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        """Append rows given as concatenated values; errors are those of `add`."""
        ends = self._end + np.cumsum(lengths)
        if len(ends):
            self._end = int(ends[-1])
        if self._end > _MOST:
            raise ValueError(
                f"the data set has {self._end} values in one column; expected at most {_MOST}: "
                "split its files and train on a part of them"
            )
        self._values.add(values)
        self._bounds.add(ends)

    def finish(self) -> Ragged:
        """Return all rows, mapped and read-only."""
        return Ragged(self._bounds.finish(), self._values.finish())


class Texts(Sequence[str]):
    """Strings stored as bytes."""

    def __init__(self, stored: Ragged) -> None:
        """Take the UTF-8 bytes of the strings."""
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored.bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return a string, or a list of strings for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = int(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"text {place} of {len(self)}")
        return self._stored.row(place % len(self)).tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (self._stored.row(index).tobytes().decode() for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._stored.bounds.nbytes + self._stored.values.nbytes


class TextWriter:
    """Appends strings."""

    def __init__(self) -> None:
        """Open files."""
        self._rows = RaggedWriter(np.uint8)

    def add(self, texts: Iterable[str]) -> None:
        """Append strings without lone surrogates."""
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._rows.add_flat(np.frombuffer(b"".join(encoded), np.uint8), lengths)

    def finish(self) -> Texts:
        """Return all strings, mapped and read-only."""
        return Texts(self._rows.finish())
