"""Opens image files, for all of the package: by their content, and of a few formats only.

Pillow itself tries some forty formats, of which EPS starts Ghostscript on the file.
"""

import struct
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_PLUGIN_FORMATS = ("AVIF", "HEIF")
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg"}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)


def read_image(file: Path | BinaryIO, *, max_pixels: int | None = None) -> Pixels:
    """Read an image file, turned upright if its EXIF data say so.

    Args:
        file: path, or file opened in binary mode.
        max_pixels: maximum number of pixels; None: Pillow's `MAX_IMAGE_PIXELS`.

    Returns:
        `[height, width, 3]` uint8, RGB, 0-255.

    Raises:
        ValueError: saying what the file is instead of an image that is read here: a text to stand
            behind "which is", or alone.
    """
    with _open(file, max_pixels) as image:
        return decode_image(image)


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file when upright, without decoding its pixels.

    Raises:
        ValueError: as `read_image`; a file that is cut short behind its header is not noticed.
    """
    with _open(path) as image:
        try:
            sideways = _orientation(image, path) in _SIDEWAYS
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size Pillow has turned, or not yet
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
        except Exception as error:  # Pillow has no type of its own for damaged metadata
            raise ValueError(_damaged(error)) from error
    return (width, height) if sideways else (height, width)


def image_suffix(file: BinaryIO) -> str:
    """Return the suffix that the name of an image file should have, such as `.jpg`.

    Raises:
        ValueError: as `read_image`; only the header is read.
    """
    with _open(file) as image:
        name = str(image.format)
        return _SUFFIXES.get(name, f".{name.lower()}")


def decode_image(image: Image.Image) -> Pixels:
    """Return the pixels of a Pillow image; as `read_image`."""
    _check(image)
    full_range = image.format == "PNG"
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode[0] not in "IF":
            if "transparency" in upright.info:
                upright = upright.convert("RGBA")  # a palette's transparent entry is a color too
            return np.asarray(upright.convert("RGB"))
        levels = np.asarray(upright)
    except Exception as error:  # Pillow has no type of its own for damaged files
        raise ValueError(_damaged(error)) from error
    gray = _to_bytes(levels, full_range=full_range)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _open(file: Path | BinaryIO, max_pixels: int | None = None) -> Image.Image:
    """Open an image file, whatever its name, without decoding it."""
    if isinstance(file, Path) and not file.is_file():
        raise ValueError("no regular file; expected an image: check the path")
    try:
        with warnings.catch_warnings():
            # Sizes are checked below: this does not depend on filters, which threads share.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ValueError(_needs_heif() if _is_heic(file) else _unknown()) from error
    except Exception as error:  # Pillow has no type of its own for damaged files
        raise ValueError(_damaged(error)) from error
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise ValueError(_too_large(max_pixels))
    return image


@cache
def _formats() -> tuple[str, ...]:
    """Return the names of the formats that are read, with those of plug-ins that are installed."""
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    return (*FORMATS, *(name for name in _PLUGIN_FORMATS if name in Image.OPEN))


def _is_heic(file: Path | BinaryIO) -> bool:
    """Return whether a file starts as HEIC and HEIF files do (ISO/IEC 23008-12, section 10)."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            head = opened.read(12)
    else:
        file.seek(0)
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS


def _check(image: Image.Image) -> None:
    """Refuse an image without pixels, and one that another plug-in of Pillow would decode."""
    if 0 in image.size:
        raise ValueError(f"of {image.width} x {image.height} pixels; expected at least one pixel")
    undecoded = isinstance(image, ImageFile.ImageFile) and bool(image.tile)
    if undecoded and image.format not in (*_formats(), "MPO"):  # MPO: several JPEG in one file
        raise ValueError(f"a file of the format {image.format}, {_unknown()}")


def _orientation(image: Image.Image, path: Path) -> int:
    """Return the EXIF orientation; of PNG, whose metadata may follow the pixels, without these."""
    known = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
    if image.format == "PNG" and not known and not _has_late_metadata(path):
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _has_late_metadata(path: Path) -> bool:
    """Return whether a PNG file has texts or EXIF data behind its pixels."""
    seen = False
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if seen and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            seen = seen or kind == b"IDAT"
            file.seek(length + 4, 1)
    return False


def _to_bytes(levels: npt.NDArray[np.generic], *, full_range: bool) -> Pixels:
    """Scale gray levels of 16 or 32 bits to 0-255, where their values say what white is.

    Args:
        levels: `[height, width]`, integers or floats.
        full_range: whether the format says that 65535 is white.
    """
    low, high = float(levels.min()), float(levels.max())
    whole = levels.dtype.kind in "iu"
    if low >= 0 and whole and high <= 65535 and (full_range or high > 4095):
        return (levels.astype(np.int64) >> 8).astype(np.uint8)
    if low >= 0 and high <= 255 and (whole or high >= 16):
        return levels.astype(np.float64).round().astype(np.uint8)
    if low >= 0 and high <= 1:
        return (levels.astype(np.float64) * 255).round().astype(np.uint8)
    expected = "0 to 255 or 0 to 65535" if whole else "0 to 1 or 0 to 255"
    raise ValueError(
        f"of gray levels from {low:g} to {high:g}, of which it is not known what white is; "
        f"expected {expected}: scale it to 8 bits"
    )


def _unknown() -> str:
    return (
        "no image that is read here; expected PNG, JPEG, WebP, GIF, BMP or TIFF, or HEIC or AVIF "
        "where Pillow has a plug-in for it: convert it first"
    )


def _needs_heif() -> str:
    if "HEIF" in _formats():
        return "a HEIC image that is damaged; expected a whole image: fetch or export it again"
    return (
        "a HEIC image, which needs pillow-heif; expected it to be installed: pip install "
        "'lxmert[heic]', or convert the image to JPEG"
    )


def _too_large(limit: int | None) -> str:
    if limit is not None:
        return f"an image of too many pixels; expected at most {limit}: shrink it"
    return (
        f"an image of too many pixels; expected at most {Image.MAX_IMAGE_PIXELS}: shrink it, or "
        "raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def _damaged(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:  # not one of Pillow's own
        return f"a file that cannot be read ({error.strerror}): check its permissions and the disk"
    reason = str(error) or type(error).__name__
    return f"cut short or damaged ({reason}); expected a complete image: fetch or export it again"
