"""Reads pictures of any kind into RGB arrays, and turns these into the detector's input."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lxmert.vision.configuration import DetectorConfig

ImageInput = str | Path | bytes | Image.Image | npt.NDArray[np.uint8] | Tensor
Pixels = npt.NDArray[np.uint8]


def load_image(image: ImageInput) -> Pixels:
    """Read a picture, turned upright if its EXIF data say so.

    Args:
        image: a path, the bytes of a file, a PIL image, a uint8 array `[height, width, 3]` in RGB
            or `[height, width]` in grey, or a uint8 tensor `[3, height, width]` in RGB.

    Returns:
        `[height, width, 3]` uint8, RGB, 0-255.

    Raises:
        FileNotFoundError: if the path names no file.
        ValueError: if it is not a picture, is cut short, or has too many pixels.
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
            "uint8 tensor: pass one of these for each picture."
        )
    path = Path(image)
    if not path.is_file():
        raise FileNotFoundError(
            f"Got the path {str(image)!r}, which is no file; expected a picture: check the name, "
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
            f"Got {name}, which is no picture that can be read; expected PNG, JPEG or another "
            "format that Pillow knows: convert it first."
        ) from error
    except OSError as error:  # a file that ends within its header
        raise ValueError(_damaged(name, error)) from error


def _decode(image: Image.Image, name: str) -> Pixels:
    """Unpack a picture, turn it upright and convert it to RGB."""
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
        f"Got {name}, which is cut short or damaged ({error}); expected a whole picture: "
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
    """A picture as the detector reads it.

    Attributes:
        pixel_values: `[3, height, width]` float32, normalised, in the detector's channel order.
        scale: resized pixels per original pixel, the same in both directions.
        image_size: (height, width) of the original.
    """

    pixel_values: Tensor
    scale: float
    image_size: tuple[int, int]

    @property
    def scaled_size(self) -> tuple[int, int]:
        """(height, width) after resizing."""
        return (self.pixel_values.shape[1], self.pixel_values.shape[2])


def choose_scale(image_size: tuple[int, int], config: DetectorConfig) -> float:
    """Return the factor that brings the shorter side to its length, unless the longer forbids."""
    return min(config.shorter_side / min(image_size), config.longer_side / max(image_size))


def prepare(pixels: Pixels, config: DetectorConfig) -> Prepared:
    """Resize and normalise a picture `[height, width, 3]` (uint8, RGB)."""
    image_size = (pixels.shape[0], pixels.shape[1])
    scale = choose_scale(image_size, config)
    height, width = (max(1, round(side * scale)) for side in image_size)
    values = torch.tensor(pixels).permute(2, 0, 1).float()  # [3, height, width]
    if (height, width) != image_size:
        # The kernel gets the true scale beside the rounded size: a step derived from the size
        # alone would shift the far border by up to half a pixel against the boxes.
        values = torch.ops.aten._upsample_bilinear2d_aa(
            values[None], [height, width], False, scale, scale
        )[0]
    if config.channel_order == "BGR":
        values = values.flip(0)
    mean = torch.tensor(config.pixel_mean).view(3, 1, 1)
    deviation = torch.tensor(config.pixel_std).view(3, 1, 1)
    return Prepared((values - mean) / deviation, scale, image_size)


def pad_batch(pictures: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Join pictures, padded with 0 below and on the right.

    Returns:
        `[batch, 3, height, width]` in channels-last layout, and `[batch, 2]` sizes without
        padding, (height, width).
    """
    sizes = torch.tensor([picture.scaled_size for picture in pictures])
    height, width = sizes.amax(dim=0).tolist()
    batch = torch.zeros(len(pictures), 3, height, width).contiguous(
        memory_format=torch.channels_last
    )
    for values, picture in zip(batch, pictures, strict=True):
        values[:, : picture.scaled_size[0], : picture.scaled_size[1]] = picture.pixel_values
    return batch, sizes


def group_by_size(pictures: Sequence[Prepared]) -> list[list[int]]:
    """Return the indices of pictures by their resized size: padding would change the features."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, picture in enumerate(pictures):
        groups.setdefault(picture.scaled_size, []).append(index)
    return list(groups.values())
