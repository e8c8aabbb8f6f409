"""Files of tensors in the safetensors format with checksums, written atomically and memory-mapped.

The header of a file names two CRC-32 checksums: `checksum`, of the data of all tensors, and
`header_checksum`, of the header itself with zeros in the place of this value.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert.files import atomic_path, parse_json

Array = npt.NDArray[Any]

_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}

_ALIGNMENT = 64
"""Bytes of which the start of the data is a multiple, so that each tensor is aligned."""

_MAX_HEADER = 64 << 20
_MARK = b'"header_checksum": "'
_UNSET = "00000000"


class TensorMap(NamedTuple):
    """A mapped file.

    Attributes:
        path: the file.
        metadata: texts by name.
        tensors: views of the mapped file; changes stay in this process.
        data: the bytes of all tensors.
    """

    path: Path
    metadata: dict[str, str]
    tensors: dict[str, Array]
    data: npt.NDArray[np.uint8]

    def begin(self, name: str) -> int:
        """Return the first byte of a tensor in `data`."""
        return self.tensors[name].ctypes.data - self.data.ctypes.data

    def is_intact(self) -> bool:
        """Read all data and compare them with their checksum."""
        return f"{zlib.crc32(self.data.data):08x}" == self.metadata.get("checksum")


def write_tensors(
    path: Path,
    tensors: Mapping[str, Sequence[Array]],
    metadata: Mapping[str, str],
    *,
    sync: bool = True,
) -> None:
    """Write tensors atomically; the same content always gives the same bytes.

    Args:
        path: the file.
        tensors: the parts of each tensor, at least one, which are joined along their first axis.
        metadata: texts for the header.
        sync: whether to wait until the content has reached the disk.
    """
    # Readers require this order: with it, each tensor is aligned to the size of its numbers.
    names = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    entries, end, checksum = {}, 0, 0
    for name in names:
        parts = tensors[name]
        begin, end = end, end + sum(part.nbytes for part in parts)
        entries[name] = {
            "dtype": _CODES[parts[0].dtype],
            "shape": [sum(map(len, parts)), *parts[0].shape[1:]],
            "data_offsets": [begin, end],
        }
        for part in parts:
            checksum = zlib.crc32(part.data, checksum)
    texts = {**metadata, "checksum": f"{checksum:08x}"}
    header = encode_header({"__metadata__": texts, **entries})
    with atomic_path(path) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            for part in tensors[name]:
                file.write(part.data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def encode_header(content: dict[str, Any]) -> bytes:
    """Return the header of a file with its own checksum, padded for alignment."""
    content["__metadata__"]["header_checksum"] = _UNSET
    header = json.dumps(content).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    place = header.index(_MARK) + len(_MARK)
    return b"%b%08x%b" % (header[:place], zlib.crc32(header), header[place + len(_UNSET) :])


def map_tensors(path: Path, *, descriptor: bool = False) -> TensorMap:
    """Map a file that `write_tensors` wrote. Its header is checked, its data are not read.

    Args:
        path: the file.
        descriptor: whether a file descriptor may stay open. If not, thousands of files can be
            mapped, but PyTorch is imported.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the header is damaged, or the file has another size than it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged(path, f"its header would have {length} of its {size} bytes")
        header = file.read(length)
    place = header.find(_MARK) + len(_MARK)
    stored = header[place : place + len(_UNSET)]
    unset = header[:place] + _UNSET.encode() + header[place + len(_UNSET) :]
    if place < len(_MARK) or stored != b"%08x" % zlib.crc32(unset):
        raise _damaged(path, "its header does not have the checksum that it names")
    entries = parse_json(header, str(path), remedy="make it again")
    start = 8 + length
    data = _map(path, size, descriptor)[start:]
    try:
        metadata = {str(key): str(text) for key, text in entries.pop("__metadata__").items()}
        tensors = {name: _view(data, **entry) for name, entry in entries.items()}
        expected = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"its header is no list of tensors ({error})") from error
    if len(data) != expected:
        raise _damaged(path, f"it has {size} bytes, its header needs {start + expected}")
    return TensorMap(path, metadata, tensors, data)


def _map(path: Path, size: int, descriptor: bool) -> npt.NDArray[np.uint8]:
    """Map a file; NumPy keeps its file descriptor open, PyTorch does not."""
    if descriptor or find_spec("torch") is None:
        return np.asarray(np.memmap(path, np.uint8, "c"))
    import torch

    return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()


def _view(
    data: npt.NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]
) -> Array:
    begin, end = data_offsets
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError(f"shape {shape}, data_offsets {data_offsets}")
    view: Array = data[begin:end].view(_TYPES[dtype])
    return view.reshape(shape)


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged: {reason}; make the store again")
