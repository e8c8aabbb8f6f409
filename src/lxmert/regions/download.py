"""Downloads an image over http(s), with limits for time and size."""

from http.client import HTTPException
from re import fullmatch
from typing import Any
from urllib.error import HTTPError, URLError

from lxmert.web import Deadline, open_address

_CHUNK = 1 << 16
_PLAIN_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")


def download_image(
    url: str, *, timeout: float = 20.0, max_bytes: int = 64 << 20, public_only: bool = False
) -> bytes:
    """Download an image file; redirects are followed to http(s) addresses only.

    Args:
        url: starts with `http://` or `https://`.
        timeout: seconds for the complete download.
        max_bytes: maximum file size.
        public_only: whether to refuse private addresses, as `open_address` does.

    Raises:
        ValueError: if the download fails, takes too long, is too large, or is not an image.
    """
    try:
        with open_address(
            url, {"Accept": "image/*"}, Deadline(timeout), public_only=public_only
        ) as response:
            _check_headers(url, response.headers, max_bytes)
            parts, size = [], 0
            while part := response.read1(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise ValueError(_too_large(url, f"more than {max_bytes}", max_bytes))
            declared = response.headers.get("Content-Length")
    except HTTPError as error:
        raise ValueError(
            f"{url!r}: the server answers {error.code} {error.reason}; expected an "
            "image: check the address in a browser"
        ) from error
    except (TimeoutError, URLError, HTTPException, OSError) as error:
        late = isinstance(error, TimeoutError) or isinstance(
            getattr(error, "reason", None), TimeoutError
        )
        reason = f"took more than {timeout:g} seconds" if late else f"failed ({error})"
        raise ValueError(
            f"{url!r}: fetching it {reason}; expected an image: try again, or download "
            "it and pass the file"
        ) from error
    if declared is not None and size != int(declared):
        raise ValueError(
            f"{url!r} ended after {size} of {declared} bytes; expected the complete file: try again"
        )
    return b"".join(parts)


def _check_headers(url: str, headers: Any, max_bytes: int) -> None:
    """Raise `ValueError` if the headers declare another content type or too many bytes."""
    kind = headers.get("Content-Type")
    if kind is not None and not kind.strip().lower().startswith(_PLAIN_TYPES):
        raise ValueError(
            f"{url!r} is {kind}; expected an image: give the address of the image "
            "itself, not of the page that shows it"
        )
    size = headers.get("Content-Length")
    if size is not None and not fullmatch("[0-9]{1,18}", size):
        raise ValueError(
            f"{url!r}: the server declares a size of {size[:20]!r} bytes; expected a number: "
            "download the image in a browser and pass the file"
        )
    if size is not None and int(size) > max_bytes:
        raise ValueError(_too_large(url, size, max_bytes))


def _too_large(url: str, size: str, max_bytes: int) -> str:
    return (
        f"{url!r} has {size} bytes; expected at most {max_bytes}: download and shrink "
        "it, and pass the file"
    )
