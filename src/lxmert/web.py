"""Opens http(s) URLs only: no files, no FTP, no redirects to them."""

import time
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any
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


def open_address(url: str, headers: Mapping[str, str], deadline: Deadline) -> Any:
    """Return the response of a server, for use in a `with` statement.

    Args:
        url: an http(s) URL.
        headers: headers of the request, in addition to the user agent.
        deadline: time limit for the headers, including those of redirects, and the body; a reader
            that makes progress may restart it.

    Raises:
        HTTPError: if the server reports an error.
        OSError: if the server is not reached in time.
    """
    opener = OpenerDirector()
    handlers: list[Any] = [
        ProxyHandler(),
        _Plain(deadline),
        _Secure(deadline),
        HTTPDefaultErrorHandler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    request = Request(url, headers={"User-Agent": "lxmert", **headers})
    return opener.open(request, timeout=deadline.left())


class _Plain(HTTPHandler):
    """Opens `http://`."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connect, HTTPConnection, self._deadline), req)


class _Secure(HTTPSHandler):
    """Opens `https://`."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connect, HTTPSConnection, self._deadline), req)


def _connect(
    kind: type[HTTPConnection], deadline: Deadline, host: str, **arguments: Any
) -> HTTPConnection:
    connection = kind(host, **arguments)
    connection.response_class = partial(_Response, deadline)  # type: ignore[assignment]
    return connection


class _Response(HTTPResponse):
    """A response that is not read after the deadline."""

    def __init__(self, deadline: Deadline, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = BufferedReader(_Awaited(self.fp.detach(), sock, deadline))


class _Awaited(RawIOBase):
    """The bytes of a socket, read until the deadline even if single bytes keep arriving."""

    def __init__(self, stream: Any, sock: socket, deadline: Deadline) -> None:
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
