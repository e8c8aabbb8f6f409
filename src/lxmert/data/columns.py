"""Columns of numbers and texts that are written piece by piece and then mapped, not held.

The files are temporary and have no name: they go with the last process that maps them, however it
ends. A forked worker shares the pages; where workers are not forked, pickling copies the values.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

BATCH = 1024
"""Rows that are held as Python objects at a time."""

_MOST = 2**32 - 1

_Value = TypeVar("_Value")


def in_batches(values: Iterable[_Value], size: int = BATCH) -> Iterator[list[_Value]]:
    """Yield the values in lists of a size, the last one of what is left."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


class ColumnWriter:
    """Appends numbers to a temporary file."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        """Open a file for values of one type."""
        self.dtype = np.dtype(dtype)
        # The file lives until its map is gone; a folder for it can be chosen by TMPDIR.
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
    """Rows of different lengths, one after the other.

    Attributes:
        bounds: `[rows + 1]`, where each row starts, and the end of the last.
        values: of all rows.
    """

    bounds: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]

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
            ValueError: if there are more than four thousand million values.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        total = int(lengths.sum())
        self.add_flat(np.fromiter(chain.from_iterable(rows), self._values.dtype, total), lengths)

    def add_flat(self, values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        """Append rows whose values come one after the other; errors are those of `add`."""
        ends = self._end + np.cumsum(lengths)
        if len(ends):
            self._end = int(ends[-1])
        if self._end > _MOST:
            raise ValueError(
                f"the data set has {self._end} values in one column, more than {_MOST}: "
                "split its files and train on a part"
            )
        self._values.add(values)
        self._bounds.add(ends)

    def finish(self) -> Ragged:
        """Return all rows, mapped and read-only."""
        return Ragged(self._bounds.finish(), self._values.finish())


class Texts(Sequence[str]):
    """Texts that are held as bytes."""

    def __init__(self, stored: Ragged) -> None:
        """Take the bytes of the texts in UTF-8."""
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored.bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return a text, or a list of texts for a slice."""
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
    """Appends texts."""

    def __init__(self) -> None:
        """Open files."""
        self._rows = RaggedWriter(np.uint8)

    def add(self, texts: Iterable[str]) -> None:
        """Append texts, none of which has half of a surrogate pair."""
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._rows.add_flat(np.frombuffer(b"".join(encoded), np.uint8), lengths)

    def finish(self) -> Texts:
        """Return all texts, mapped and read-only."""
        return Texts(self._rows.finish())
