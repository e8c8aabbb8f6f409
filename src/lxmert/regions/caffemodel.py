"""Reads the blobs of a Caffe network file without Caffe: the part of protocol buffers it uses.

Source: Protocol Buffers encoding, sections "Base 128 Varints" and "Message Structure"; field
numbers from Caffe's `caffe.proto`. Knows nothing of detectors.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Blob = npt.NDArray[np.float32]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10

# NetParameter: field of its layers -> the layer's fields (name, blobs), by generation of Caffe.
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}
LEGACY_SHAPE = (1, 2, 3, 4)  # BlobProto: num, channels, height, width
DATA, SHAPE = 5, 7  # BlobProto
DIM = 1  # BlobShape


class _Field(NamedTuple):
    """One field of a message: its byte range in the file, and its value if it is a varint."""

    number: int
    wire: int
    start: int
    end: int
    value: int


def read_caffemodel(path: Path) -> dict[str, list[Blob]]:
    """Read the blobs of every layer that has any.

    Args:
        path: a `.caffemodel` of either generation (`layer` or `layers`).

    Returns:
        Layer name -> its blobs in order. The arrays are read-only views of the mapped file and may
        be unaligned: copy them before computing.

    Raises:
        ValueError: if the file is not a Caffe network or damaged; gives the byte offset.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a Caffe network: copy it again")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _read_net(memoryview(mapped))
    except _DamageError as error:
        raise ValueError(
            f"{path} is damaged or not a Caffe network: {error}. Expected a complete .caffemodel: "
            "download it again"
        ) from error


class _DamageError(ValueError):
    """A problem and its byte offset; the caller adds the file name."""


def _read_net(data: memoryview) -> dict[str, list[Blob]]:
    layers: dict[str, list[Blob]] = {}
    for field in _fields(data, 0, len(data)):
        if field.number not in LAYER_FIELDS or field.wire != BYTES:
            continue
        name, blobs = _read_layer(data, field)
        if not blobs:
            continue
        if name in layers:
            raise _DamageError(f"a second layer {name!r} with blobs at byte {field.start}")
        layers[name] = blobs
    if not layers:
        raise _DamageError(f"no layer with blobs in its {len(data)} bytes")
    return layers


def _read_layer(data: memoryview, layer: _Field) -> tuple[str, list[Blob]]:
    name_field, blobs_field = LAYER_FIELDS[layer.number]
    name, blobs = "", []
    for field in _fields(data, layer.start, layer.end):
        if field.number == name_field and field.wire == BYTES:
            try:
                name = str(data[field.start : field.end], "utf-8")
            except UnicodeDecodeError as error:
                raise _DamageError(
                    f"the layer's name at byte {field.start} is not UTF-8 text"
                ) from error
        elif field.number == blobs_field and field.wire == BYTES:
            blobs.append(_read_blob(data, field))
    return name, blobs


def _read_blob(data: memoryview, blob: _Field) -> Blob:
    """Return the values of a blob in its shape; without a shape it is a single number."""
    values: memoryview | bytearray | None = None
    legacy: dict[int, int] = {}
    shape: list[int] = []
    for field in _fields(data, blob.start, blob.end):
        if field.number == DATA:
            part = _floats(data, field)
            # Usually there is one packed run, which is not copied; further parts are appended.
            if values is None:
                values = part
            else:
                values = bytearray(values) if isinstance(values, memoryview) else values
                values += part
        elif field.number == SHAPE and field.wire == BYTES:
            shape = _read_shape(data, field)
        elif field.number in LEGACY_SHAPE and field.wire == VARINT:
            legacy[field.number] = field.value
    if legacy:
        shape = [legacy.get(number, 0) for number in LEGACY_SHAPE]
    array = np.frombuffer(b"" if values is None else values, dtype="<f4")
    if math.prod(shape) != array.size:
        raise _DamageError(
            f"the blob at byte {blob.start} has {array.size} values and the shape {shape}"
        )
    return array.reshape(shape)


def _floats(data: memoryview, field: _Field) -> memoryview:
    """Return the bytes of one float or of a packed run of floats."""
    if field.wire not in (BYTES, FIXED32) or (field.end - field.start) % 4:
        raise _DamageError(f"the data at byte {field.start} are not 4-byte floats")
    return data[field.start : field.end]


def _read_shape(data: memoryview, message: _Field) -> list[int]:
    shape = []
    for field in _fields(data, message.start, message.end):
        if field.number == DIM and field.wire == VARINT:
            shape.append(field.value)
        elif field.number == DIM and field.wire == BYTES:
            position = field.start
            while position < field.end:
                value, position = _varint(data, position, field.end)
                shape.append(value)
    return shape


def _fields(data: memoryview, position: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message in `data[position:end]`."""
    while position < end:
        tag_position = position
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        value, start = 0, position
        if wire == VARINT:
            value, position = _varint(data, position, end)
        elif wire == BYTES:
            length, start = _varint(data, position, end)
            position = start + length
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
        if number == 0 or wire not in (VARINT, FIXED64, BYTES, FIXED32):
            raise _DamageError(f"byte {tag_position} does not start a field (tag {tag})")
        if position > end:
            raise _DamageError(
                f"the field at byte {tag_position} ends at byte {position}, beyond byte {end}"
            )
        yield _Field(number, wire, start, position, value)


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """Return a varint (7 bits per byte, lowest first) and the position after it."""
    value = 0
    for index, byte in enumerate(data[position : min(end, position + MAX_VARINT_BYTES)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _DamageError(f"the number at byte {position} has no end")
