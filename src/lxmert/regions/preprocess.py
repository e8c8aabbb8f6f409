"""Reads images of any kind into RGB arrays, and turns these into the detector's input."""

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.download import download_image
from lxmert.web import SCHEMES

ImageInput = str | Path | bytes | Image.Image | npt.NDArray[np.uint8] | Tensor
Pixels = npt.NDArray[np.uint8]

MOST_PIXELS = 2**21
"""Resized pixels in a batch; the published backbone takes about 0.7 GB for so many."""

MOST_PADDING = 0.1
"""Share of the pixels of a batch that may be added to make its images equally large."""


def load_image(image: ImageInput) -> Pixels:
    """Read an image, turned upright if its EXIF data say so.

    Args:
        image: a path, a web address, the bytes of a file, a PIL image, a uint8 array
            `[height, width, 3]` in RGB or `[height, width]` in grey, or a uint8 tensor
            `[3, height, width]` in RGB.

    Returns:
        `[height, width, 3]` uint8, RGB, 0-255.

    Raises:
        FileNotFoundError: if the path names no file.
        ValueError: if it is not an image, is cut short, has too many pixels, or cannot be fetched.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, Image.Image):
        return _decode(image, "the PIL image")
    if isinstance(image, bytes):
        return _open(io.BytesIO(image), f"{len(image)} bytes")
    if not isinstance(image, str | Path):
        raise ValueError(
            f"Got {type(image).__name__}; expected a path, bytes, a PIL image, a uint8 array or a "
            "uint8 tensor: pass one of these for each image."
        )
    if isinstance(image, str) and image.startswith(SCHEMES):
        return _open(io.BytesIO(download_image(image)), repr(image))
    path = Path(image)
    if not path.is_file():
        raise FileNotFoundError(
            f"Got the path {str(image)!r}, which is no file; expected an image: check the name, "
            "and the folder that it is relative to."
        )
    return _open(path, repr(str(image)))


def _open(file: Path | io.BytesIO, name: str) -> Pixels:
    """Open and decode a file, with one sentence for each thing that may be wrong with it."""
    try:
        with warnings.catch_warnings():
            # PIL only warns between one and two times its limit; both are refused here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                return _decode(opened, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"Got {name}, which would unpack to too many pixels; expected at most "
            f"{Image.MAX_IMAGE_PIXELS}: shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you "
            "trust it."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"Got {name}, which is no image that can be read; expected PNG, JPEG or another "
            "format that Pillow knows: convert it first."
        ) from error
    except OSError as error:  # a file that ends within its header
        raise ValueError(_damaged(name, error)) from error


def _decode(image: Image.Image, name: str) -> Pixels:
    """Unpack an image, turn it upright and convert it to RGB."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":
            # PIL would cut 16 bits at 255 instead of scaling them.
            return _grey_to_rgb((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        if "transparency" in image.info:
            image = image.convert("RGBA")  # a palette's transparent entry is a colour as well
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(_damaged(name, error)) from error


def _damaged(name: str, error: Exception) -> str:
    return (
        f"Got {name}, which is cut short or damaged ({error}); expected a whole image: "
        "fetch or export it again."
    )


def _from_array(array: npt.NDArray[np.uint8]) -> Pixels:
    if array.dtype == np.uint8 and array.size and array.ndim == 2:
        return _grey_to_rgb(array)
    if array.dtype != np.uint8 or not array.size or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"Got an array of {array.dtype} {list(array.shape)}; expected uint8 [height, width, 3] "
            "in RGB, 0-255: convert it with PIL.Image.fromarray or numpy."
        )
    return array


def _from_tensor(tensor: Tensor) -> Pixels:
    if (
        tensor.dtype != torch.uint8
        or not tensor.numel()
        or tensor.ndim != 3
        or tensor.shape[0] != 3
    ):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(
            f"Got a tensor of {kind} {list(tensor.shape)}; expected uint8 [3, height, width] in "
            "RGB, 0-255: use torchvision.io.decode_image or scale and convert it."
        )
    return np.ascontiguousarray(tensor.permute(1, 2, 0).cpu().numpy())


def _grey_to_rgb(array: npt.NDArray[np.uint8]) -> Pixels:
    return np.repeat(array[:, :, None], 3, axis=2)


@dataclass(frozen=True)
class Prepared:
    """An image as the detector reads it.

    Attributes:
        pixel_values: `[3, height, width]` float32, normalised, in the detector's channel order.
        scale: resized pixels per original pixel, before the sides were rounded.
        image_size: (height, width) of the original.
        box_scale: `[4]` float32, what boxes of the original are multiplied by; `scale` unless the
            resize goes by the rounded sides.
    """

    pixel_values: Tensor
    scale: float
    image_size: tuple[int, int]
    box_scale: npt.NDArray[np.float32]

    @property
    def scaled_size(self) -> tuple[int, int]:
        """(height, width) after resizing."""
        return (self.pixel_values.shape[1], self.pixel_values.shape[2])


def choose_scale(image_size: tuple[int, int], config: DetectorConfig) -> float:
    """Return the factor that brings the shorter side to its length, unless the longer forbids."""
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
    """Resize and normalise an image `[height, width, 3]` (uint8, RGB)."""
    image_size = (pixels.shape[0], pixels.shape[1])
    scale = choose_scale(image_size, config)
    size = choose_size(image_size, scale, config)
    values = RESIZES[config.resize](pixels, size, scale)
    if config.channel_order == "BGR":
        values = values.flip(0)
    mean = torch.tensor(config.pixel_mean).view(3, 1, 1)
    deviation = torch.tensor(config.pixel_std).view(3, 1, 1)
    rows, columns = (
        (size[0] / image_size[0], size[1] / image_size[1])
        if config.resize in ("size", "pillow")
        else (scale, scale)
    )
    box_scale = np.array([columns, rows, columns, rows], dtype=np.float32)
    return Prepared((values - mean) / deviation, scale, image_size, box_scale)


def _to_planes(pixels: Pixels) -> Tensor:
    """Return `[3, height, width]` float32."""
    return torch.tensor(pixels).permute(2, 0, 1).float()


def _resize_averaging(pixels: Pixels, size: tuple[int, int], scale: float) -> Tensor:
    """Step by the true scale, and average what is skipped."""
    values = _to_planes(pixels)
    if size == pixels.shape[:2]:
        return values
    # The kernel gets the true scale beside the rounded size: a step derived from the size
    # alone would shift the far border by up to half a pixel against the boxes.
    resized: Tensor = torch.ops.aten._upsample_bilinear2d_aa(
        values[None], list(size), False, scale, scale
    )[0]
    return resized


def _resize_by_scale(pixels: Pixels, size: tuple[int, int], scale: float) -> Tensor:
    """Do as `cv2.resize(fx=scale, fy=scale)`, within 0.001 grey levels.

    Torch's own kernel is up to 0.03 away in large images, as it places points in float32.
    """
    values = _to_planes(pixels)
    for dimension in (1, 2):
        lower, upper, share = _neighbors(values.shape[dimension], size[dimension - 1], scale)
        shares = share[:, None] if dimension == 1 else share
        first = values.index_select(dimension, lower)
        values = torch.lerp(first, values.index_select(dimension, upper), shares)
    return values


def _neighbors(length: int, size: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two pixels around each of `size` points, and the share of the second."""
    points = (torch.arange(size, dtype=torch.float64) + 0.5) / scale - 0.5
    points = points.clamp(0, length - 1)
    lower = points.long()
    return lower, (lower + 1).clamp(max=length - 1), (points - lower).float()


def _resize_by_size(pixels: Pixels, size: tuple[int, int], scale: float) -> Tensor:  # noqa: ARG001
    """Do as `torch.nn.functional.interpolate(size=size)`."""
    resized = torch.nn.functional.interpolate(
        _to_planes(pixels)[None], size=size, mode="bilinear", align_corners=False
    )
    return resized[0]


def _resize_as_pillow(pixels: Pixels, size: tuple[int, int], scale: float) -> Tensor:  # noqa: ARG001
    """Average what is skipped, in whole grey levels."""
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
    return _to_planes(np.asarray(resized))


RESIZES: dict[str, Callable[[Pixels, tuple[int, int], float], Tensor]] = {
    "antialias": _resize_averaging,
    "scale": _resize_by_scale,
    "size": _resize_by_size,
    "pillow": _resize_as_pillow,
}


def pad_batch(images: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Join images, padded with 0 below and on the right.

    Returns:
        `[batch, 3, height, width]` in channels-last layout, and `[batch, 2]` sizes without
        padding, (height, width).
    """
    sizes = torch.tensor([image.scaled_size for image in images])
    height, width = sizes.amax(dim=0).tolist()
    batch = torch.zeros(len(images), 3, height, width).contiguous(memory_format=torch.channels_last)
    for values, image in zip(batch, images, strict=True):
        values[:, : image.scaled_size[0], : image.scaled_size[1]] = image.pixel_values
    return batch, sizes


def plan_batches(images: Sequence[Prepared]) -> list[list[int]]:
    """Return the indices of images by batch: of similar size, and not too many at once."""
    order = sorted(range(len(images)), key=lambda index: images[index].scaled_size)
    batches: list[list[int]] = []
    for index in order:
        if batches and _fits(images, [*batches[-1], index]):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _fits(images: Sequence[Prepared], indices: Sequence[int]) -> bool:
    """Return whether images may be joined: little padding, and within the memory."""
    sizes = [images[index].scaled_size for index in indices]
    own = sum(height * width for height, width in sizes)
    joined = len(sizes) * max(h for h, _ in sizes) * max(w for _, w in sizes)
    return joined <= min(MOST_PIXELS, (1 + MOST_PADDING) * own)
