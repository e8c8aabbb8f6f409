"""Opens http(s) URLs only: no files, no FTP, no redirects to them."""

import socket
import string
import time
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

SCHEMES = ("http://", "https://")

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway translates to IPv4."""


class Deadline:
    """A total time limit for a server, however slowly it sends."""

    def __init__(self, seconds: float) -> None:
        """Start the limit of so many seconds."""
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Start the limit again."""
        self._end = time.monotonic() + self.seconds

    def left(self) -> float:
        """Return the remaining seconds.

        Raises:
            TimeoutError: if none remain.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took more than {self.seconds:g} seconds")
        return left


def open_address(
    url: str, headers: Mapping[str, str], deadline: Deadline, *, public_only: bool = False
) -> Any:
    """Return the response of a server, for use in a `with` statement.

    Args:
        url: an http(s) URL; spaces and letters beyond ASCII are quoted, as browsers do.
        headers: headers of the request, in addition to the user agent.
        deadline: time limit for the headers, including those of redirects, and the body; a reader
            that makes progress may restart it.
        public_only: whether to refuse hosts with a private, local or reserved address, also those
            that a redirect leads to. Proxies, which connect to any host, are then not used.

    Raises:
        HTTPError: if the server reports an error.
        OSError: if the server is not reached in time, or its address is refused.
    """
    opener = OpenerDirector()
    handlers: list[Any] = [
        ProxyHandler({} if public_only else None),
        _Handler(deadline, public_only),
        HTTPDefaultErrorHandler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    quoted = quote(url, safe=string.punctuation, errors="surrogateescape")
    request = Request(quoted, headers={"User-Agent": "lxmert", **headers})
    return opener.open(request, timeout=deadline.left())


class _Handler(HTTPHandler, HTTPSHandler):
    """Opens `http://` and `https://`."""

    def __init__(self, deadline: Deadline, public_only: bool) -> None:
        super().__init__()
        self._limits = deadline, public_only

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connect, HTTPConnection, *self._limits), req)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connect, HTTPSConnection, *self._limits), req)


def _connect(
    kind: type[HTTPConnection], deadline: Deadline, public_only: bool, host: str, **arguments: Any
) -> HTTPConnection:
    connection = kind(host, **arguments)
    connection.response_class = partial(_DeadlineResponse, deadline)  # type: ignore[assignment]
    if public_only:
        connection._create_connection = _connect_public  # type: ignore[attr-defined]
    return connection


def _connect_public(
    address: tuple[str, int], timeout: float, source: tuple[str, int] | None = None
) -> socket.socket:
    """Like `socket.create_connection`, for public addresses only.

    The address that is checked is the one that is connected to, whatever a second look-up of the
    name would return.
    """
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = [str(place[4][0]) for place in found]
    if not places or not all(map(_is_public, places)):
        raise OSError(f"{host} is not a public address")
    return socket.create_connection((places[0], port), timeout, source)


def _is_public(place: str) -> bool:
    """Return whether an IP address is public; one that wraps an IPv4 address never is."""
    address = ip_address(place.partition("%")[0])
    if isinstance(address, IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo or address in _NAT64
    ):
        return False
    return address.is_global and not address.is_multicast


class _DeadlineResponse(HTTPResponse):
    """A response that is not read after the deadline."""

    def __init__(self, deadline: Deadline, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = BufferedReader(_Awaited(self.fp.detach(), sock, deadline))


class _Awaited(RawIOBase):
    """The bytes of a socket, read until the deadline even if single bytes keep arriving."""

    def __init__(self, stream: Any, sock: socket.socket, deadline: Deadline) -> None:
        self._stream, self._socket, self._deadline = stream, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._deadline.left())
        found: int | None = self._stream.readinto(buffer)
        return found

    def close(self) -> None:
        self._stream.close()
        super().close()
