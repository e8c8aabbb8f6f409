"""Opens addresses of the web and of nothing else: no files, no FTP, no redirect to them."""

from collections.abc import Mapping
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


def open_address(url: str, headers: Mapping[str, str], *, timeout: float) -> Any:
    """Return the response of a server, to be used in a `with` statement.

    Args:
        url: begins with `http://` or `https://`.
        headers: of the request, beside the one that says who asks.
        timeout: seconds that the server may be silent.

    Raises:
        HTTPError: if the server does not give what is there.
        OSError: if it is not reached.
    """
    opener = OpenerDirector()
    handlers: list[Any] = [
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener.open(Request(url, headers={"User-Agent": "lxmert", **headers}), timeout=timeout)
