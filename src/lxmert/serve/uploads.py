"""Images from clients: decoded and checked before they enter a batch."""

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass

from lxmert.images import Pixels, read_image
from lxmert.regions.download import download_image
from lxmert.serve.errors import RequestError
from lxmert.web import SCHEMES

_DATA_PREFIX = re.compile(r"data:[\w.+/-]{0,100}(?:;[\w=.-]{0,100})*;base64,", re.ASCII)
_URL_TIMEOUT = 10.0


@dataclass(frozen=True)
class Upload:
    """An image file, with its pixels unless its regions are known.

    Attributes:
        image_id: SHA-256 of the file.
        data: the file.
        pixels: `[height, width, 3]` uint8 RGB; None: not decoded.
    """

    image_id: str
    data: bytes
    pixels: Pixels | None


def image_id_of(data: bytes) -> str:
    """Return the SHA-256 of an image file."""
    return hashlib.sha256(data).hexdigest()


def decode_upload(data: bytes, *, max_bytes: int, max_pixels: int) -> Pixels:
    """Decode an image file, whatever its name and declared type.

    Raises:
        RequestError: 413 for too many bytes, 400 for anything but an image of a known format.
    """
    if len(data) > max_bytes:
        raise RequestError(
            413,
            f"the image file has {len(data)} bytes; expected at most {max_bytes}: shrink it",
        )
    try:
        return read_image(io.BytesIO(data), max_pixels=max_pixels)
    except ValueError as error:
        raise RequestError(400, f"the image is {error}") from error


def from_base64(text: str) -> bytes:
    """Return the bytes of an image in base64, with or without a `data:` prefix.

    Raises:
        RequestError: 400 if it is not base64.
    """
    prefix = _DATA_PREFIX.match(text)
    try:
        return base64.b64decode(text[prefix.end() :] if prefix else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            400, f"the image is not base64 ({error}): encode the image file, without line breaks"
        ) from error


def fetch_public(url: str, *, max_bytes: int) -> bytes:
    """Download an image from a public address; private addresses are refused.

    Raises:
        RequestError: 400 if the address is private or does not lead to an image.
    """
    if not url.startswith(SCHEMES):
        raise RequestError(400, "the image address is refused: expected http:// or https://")
    try:
        return download_image(url, timeout=_URL_TIMEOUT, max_bytes=max_bytes, public_only=True)
    except ValueError as error:
        raise RequestError(400, f"the image address is refused. {error}") from error
