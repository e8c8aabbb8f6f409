"""Settings of a server, checked where they are made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lxmert.files import read_text
from lxmert.records import Count, Items, Positive, Record

_MIB = 1 << 20


class ServeSettings(Record):
    """What is served, to whom, and within which limits."""

    model: str | None = None
    extractor: Path | None = None
    answers: Path | None = None
    device: str | None = "cpu"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    page: bool = True
    mcp: bool = False

    max_batch: Annotated[Count, Field(description="Images in a batch.")] = 16
    batch_wait: Annotated[
        float, Field(ge=0, le=10, description="Seconds to wait for more requests.")
    ] = 0.002
    max_queue: Annotated[Count, Field(description="Requests accepted and not yet answered.")] = 64
    timeout: Annotated[Positive, Field(description="Seconds for a request.")] = 30.0
    cache_mib: Annotated[int, Field(ge=0, le=1 << 20, description="Region cache in MiB.")] = 256
    max_image_mib: Annotated[Count, Field(description="Size of an image file in MiB.")] = 20
    max_megapixels: Annotated[Count, Field(description="Pixels of an image in millions.")] = 50

    user: str | None = None
    password: str | None = None
    api_keys: Items[str] = ()
    allow_urls: bool = False
    allow_origins: Items[str] = ()
    examples: Path | None = None
    reports: Path | None = None

    @property
    def max_image_bytes(self) -> int:
        """Maximum size of an image file in bytes."""
        return self.max_image_mib * _MIB

    @property
    def max_pixels(self) -> int:
        """Maximum number of pixels of an image."""
        return self.max_megapixels * 1_000_000

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of a request in bytes: one image of the maximum size in base64."""
        return self.max_image_bytes * 4 // 3 + _MIB

    @property
    def needs_login(self) -> bool:
        """Whether requests must be authenticated."""
        return self.user is not None or bool(self.api_keys)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong between fields."""
        if (self.user is None) != (self.password is None):
            yield "a user name and a password are needed together: write USER:PASSWORD"
        if any(len(key) < 16 for key in self.api_keys):
            yield "an API key has fewer than 16 characters: use a long random one"


def read_keys(path: Path) -> tuple[str, ...]:
    """Read API keys from a file with one key per line; empty lines and `#` lines are skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no key.
    """
    lines = (line.strip() for line in read_text(path, limit=_MIB).splitlines())
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError(f"{path} has no API key; expected one per line: write a long random one")
    return keys
