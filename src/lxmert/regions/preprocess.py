"""Image loading into RGB arrays, and preprocessing into the detector's input."""

import io
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from lxmert.images import Pixels, decode_image, read_image
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.download import download_image
from lxmert.schema import FloatArray, IntArray
from lxmert.web import SCHEMES

if TYPE_CHECKING:
    from torch import Tensor

ImageInput = Union[
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    Image.Image,
    Mapping[str, Any],
    npt.NDArray[np.uint8],
    "Tensor",
]
"""One image, in any form that `load_image` reads."""

_BYTES = (bytes, bytearray, memoryview)

MAX_FILE_BYTES = 256 << 20
"""Maximum number of bytes read from an open file."""

MOST_PIXELS = 2**21
"""Maximum resized pixels in a batch; the published backbone needs about 0.7 GB for them."""

MOST_PADDING = 0.1
"""Maximum padding in a batch, as a share of the pixels of its images."""


def load_image(image: ImageInput) -> Pixels:
    """Read an image and rotate it according to its EXIF orientation.

    Args:
        image: a path, an http(s) URL, the bytes of a file, a file opened in binary mode, a PIL
            image, a row of a Hugging Face data set (`{"bytes": ..., "path": ...}`), a uint8 array
            `[height, width, 3]` in RGB or `[height, width]` in gray, or a uint8 tensor
            `[3, height, width]` in RGB.

    Returns:
        `[height, width, 3]` uint8, RGB, 0-255.

    Raises:
        FileNotFoundError: if the path does not exist.
        TypeError: if a file is opened in text mode.
        ValueError: if it is not an image, is truncated, has too many pixels, or cannot be fetched.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if _is_tensor(image):
        return _from_tensor(image)
    if isinstance(image, Mapping):
        return load_image(_from_row(image))
    if not is_image(image):
        raise ValueError(
            f"got {type(image).__name__}; expected a path, bytes, a file, a PIL image, a uint8 "
            "array or a uint8 tensor: pass one of these for each image"
        )
    source, name = _find_source(image)
    try:
        if isinstance(source, Image.Image):
            return decode_image(source)
        return read_image(source)
    except ValueError as error:
        raise ValueError(f"got {name}, which is {error}") from error


def is_image(value: object) -> TypeGuard[ImageInput]:
    """Return whether a value is one image, in any form that `load_image` reads, or else a list."""
    kinds = (str, os.PathLike, *_BYTES, Image.Image, np.ndarray, Mapping)
    return isinstance(value, kinds) or _is_tensor(value) or hasattr(value, "read")


def _is_tensor(value: object) -> TypeGuard["Tensor"]:
    """Return whether a value is a tensor, which only exists if torch has been imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _find_source(image: Any) -> tuple[Path | BinaryIO | Image.Image, str]:
    """Return an image's source and how messages call it."""
    if isinstance(image, Image.Image):
        return image, "a PIL image"
    if isinstance(image, _BYTES):
        return io.BytesIO(image), f"{len(image)} bytes"
    if isinstance(image, str) and image.startswith(SCHEMES):
        return io.BytesIO(download_image(image)), repr(image)
    if isinstance(image, str | os.PathLike):
        return _find_file(os.fspath(image)), repr(os.fspath(image))
    return io.BytesIO(_read_file(image)), f"a {type(image).__name__}"


def _find_file(path: str) -> Path:
    """Return the file with this name, or with its name in another Unicode normal form."""
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    for name in (path, *forms):
        if os.path.isfile(name):
            return Path(name)
    raise FileNotFoundError(
        f"the path {path!r} is not a file; expected an image: check the name and the "
        "folder that it is relative to"
    )


def _read_file(file: BinaryIO) -> bytes:
    """Read an open file from its start, up to a limit."""
    if file.seekable():
        file.seek(0)
    data: object = file.read(MAX_FILE_BYTES + 1)
    if not isinstance(data, bytes):
        raise TypeError(
            f"got a {type(file).__name__} in text mode; expected the bytes of an image: open the "
            "file in mode 'rb'"
        )
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(
            f"got a {type(file).__name__} of more than {MAX_FILE_BYTES} bytes; expected a smaller "
            "image file: pass its path, or shrink it"
        )
    return data


def _from_row(row: Mapping[str, Any]) -> ImageInput:
    """Return the bytes or the path of an image in a row of a Hugging Face data set."""
    image = row.get("bytes") or row.get("path")
    if not isinstance(image, str | os.PathLike | bytes):
        raise ValueError(
            f"got a {type(row).__name__} with {', '.join(map(repr, row)) or 'nothing'}; expected "
            "'bytes' or 'path' of an image: pass the column that holds it, such as row['image']"
        )
    return image


def _from_array(array: npt.NDArray[np.uint8]) -> Pixels:
    if array.dtype == np.uint8 and array.size and array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or not array.size or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"got an array of {array.dtype} {list(array.shape)}; expected uint8 [height, width, 3] "
            "in RGB, 0-255: convert it with PIL.Image.fromarray or numpy"
        )
    return np.ascontiguousarray(array)  # torch rejects negative strides (array[:, :, ::-1])


def _from_tensor(tensor: "Tensor") -> Pixels:
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type == "meta" or tensor.layout != torch.strided:
        kind += " on the meta device" if tensor.device.type == "meta" else f" ({tensor.layout})"
    elif (
        tensor.dtype == torch.uint8 and tensor.numel() and tensor.ndim == 3 and tensor.shape[0] == 3
    ):
        return np.ascontiguousarray(tensor.permute(1, 2, 0).cpu().numpy())
    raise ValueError(
        f"got a tensor of {kind} {list(tensor.shape)}; expected uint8 [3, height, width] in "
        "RGB, 0-255: use torchvision.io.decode_image or scale and convert it"
    )


@dataclass(frozen=True)
class Prepared:
    """A preprocessed image.

    Attributes:
        pixel_values: `[3, height, width]` float32, normalized, in the detector's channel order.
        scale: resized pixels per original pixel, before rounding the sides.
        image_size: (height, width) of the original.
        box_scale: `[4]` float32, factors from original to resized boxes; equal to `scale` unless
            the resize uses the rounded sides.
    """

    pixel_values: FloatArray
    scale: float
    image_size: tuple[int, int]
    box_scale: npt.NDArray[np.float32]

    @property
    def scaled_size(self) -> tuple[int, int]:
        """(height, width) after resizing."""
        return (self.pixel_values.shape[1], self.pixel_values.shape[2])


def choose_scale(image_size: tuple[int, int], config: DetectorConfig) -> float:
    """Return the resize factor for the shorter side, reduced if the longer side gets too long."""
    scale = config.shorter_side / min(image_size)
    longer = max(image_size) * scale
    if (round(longer) if config.round_before_limit else longer) > config.longer_side:
        scale = config.longer_side / max(image_size)
    return scale


def choose_size(
    image_size: tuple[int, int], scale: float, config: DetectorConfig
) -> tuple[int, int]:
    """Return (height, width) after resizing, at least one pixel each."""
    sides = (side * scale for side in image_size)
    if config.size_rounding == "half_up":
        sides = (math.floor(side + 0.5) for side in sides)
    height, width = (max(1, round(side)) for side in sides)
    return (height, width)


def prepare(pixels: Pixels, config: DetectorConfig) -> Prepared:
    """Resize and normalize an image `[height, width, 3]` (uint8, RGB)."""
    image_size = (pixels.shape[0], pixels.shape[1])
    scale = choose_scale(image_size, config)
    size = choose_size(image_size, scale, config)
    values = RESIZES[config.resize](pixels, size, scale)
    if config.channel_order == "BGR":
        values = values[:, :, ::-1]
    mean = np.asarray(config.pixel_mean, np.float32)
    deviation = np.asarray(config.pixel_std, np.float32)
    values = ((values - mean) / deviation).transpose(2, 0, 1)
    rows, columns = (
        (size[0] / image_size[0], size[1] / image_size[1])
        if config.resize in ("size", "pillow")
        else (scale, scale)
    )
    box_scale = np.array([columns, rows, columns, rows], dtype=np.float32)
    return Prepared(np.ascontiguousarray(values), scale, image_size, box_scale)


def _resize_averaging(pixels: Pixels, size: tuple[int, int], scale: float) -> FloatArray:
    """Resize by the exact scale with antialiasing.

    The exact scale, not the ratio of the rounded sizes: that would shift the far border by up to
    half a pixel relative to the boxes.
    """
    values = pixels.astype(np.float32)
    if size == pixels.shape[:2]:
        return values
    for axis in (1, 0):
        values = _average(values, size[axis], scale, axis)
    return values


def _average(values: FloatArray, size: int, scale: float, axis: int) -> FloatArray:
    """Resize one axis with a triangular filter, which covers all pixels of a reduced one."""
    length, step = values.shape[axis], 1 / scale
    support = max(step, 1.0)
    centers = (np.arange(size) + 0.5) * step
    first = np.maximum(np.floor(centers - support + 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(centers + support + 0.5), length).astype(np.int64)
    places = first[:, None] + np.arange(int((last - first).max()))  # [size, pixels of a filter]
    weights = np.maximum(1 - np.abs(places + 0.5 - centers[:, None]) / support, 0)
    weights = np.where(places < last[:, None], weights, 0)
    shares = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    shape = (-1, 1, 1) if axis == 0 else (-1, 1)
    total = np.zeros(1, np.float32)
    for place, share in zip(np.minimum(places, length - 1).T, shares.T, strict=True):
        total = total + values.take(place, axis=axis) * share.reshape(shape)
    return total


def _interpolate(pixels: Pixels, size: tuple[int, int], scales: tuple[float, float]) -> FloatArray:
    """Interpolate without antialiasing; the points are computed in float64."""
    values = pixels.astype(np.float32)
    for axis, shape in ((0, (-1, 1, 1)), (1, (-1, 1))):
        lower, upper, share = _neighbors(values.shape[axis], size[axis], scales[axis])
        first = values.take(lower, axis=axis)
        values = first + (values.take(upper, axis=axis) - first) * share.reshape(shape)
    return values


def _neighbors(length: int, size: int, scale: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the two pixels around each of `size` points, and the weight of the second."""
    points = np.clip((np.arange(size) + 0.5) / scale - 0.5, 0, length - 1)
    lower = points.astype(np.int64)
    return lower, np.minimum(lower + 1, length - 1), (points - lower).astype(np.float32)


def _resize_by_scale(pixels: Pixels, size: tuple[int, int], scale: float) -> FloatArray:
    """Resize as `cv2.resize(fx=scale, fy=scale)`, within 0.001 gray levels."""
    return _interpolate(pixels, size, (scale, scale))


def _resize_by_size(pixels: Pixels, size: tuple[int, int], scale: float) -> FloatArray:  # noqa: ARG001
    """Resize as `torch.nn.functional.interpolate(size=size)`."""
    height, width = pixels.shape[:2]
    return _interpolate(pixels, size, (size[0] / height, size[1] / width))


def _resize_as_pillow(pixels: Pixels, size: tuple[int, int], scale: float) -> FloatArray:  # noqa: ARG001
    """Resize with antialiasing, rounded to integer gray levels."""
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


RESIZES: dict[str, Callable[[Pixels, tuple[int, int], float], FloatArray]] = {
    "antialias": _resize_averaging,
    "scale": _resize_by_scale,
    "size": _resize_by_size,
    "pillow": _resize_as_pillow,
}


def plan_batches(images: Sequence[Prepared]) -> list[list[int]]:
    """Group the indices of images into batches of similar size and limited memory."""
    order = sorted(range(len(images)), key=lambda index: images[index].scaled_size)
    batches: list[list[int]] = []
    for index in order:
        if batches and _fits(images, [*batches[-1], index]):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _fits(images: Sequence[Prepared], indices: Sequence[int]) -> bool:
    """Return whether images may form a batch: little padding, and within the memory limit."""
    sizes = [images[index].scaled_size for index in indices]
    own = sum(height * width for height, width in sizes)
    joined = len(sizes) * max(h for h, _ in sizes) * max(w for _, w in sizes)
    return joined <= min(MOST_PIXELS, (1 + MOST_PADDING) * own)
