"""Who may send requests: login, keys, and pages of other hosts."""

import base64
import binascii
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from lxmert.serve.errors import RequestError
from lxmert.serve.settings import ServeSettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the page: nothing is loaded from another host."""

REPORT_POLICY = "sandbox allow-scripts; frame-ancestors 'none'"
"""Policy of a saved report, besides its own: its scripts cannot reach this server."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every response."""


def is_loopback(host: str) -> bool:
    """Return whether a server on this host is reached from this machine only."""
    return host in _LOOPBACK or host.startswith("127.")


def check_host(headers: Headers, settings: ServeSettings) -> None:
    """Refuse another host name on a loopback address, to which a foreign page may be bound.

    Raises:
        RequestError: 421 for a foreign host name.
    """
    name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    if is_loopback(settings.host) and name not in (*_LOOPBACK, settings.host):
        raise RequestError(421, "this server is reached as localhost or 127.0.0.1 only: use these")


def check_origin(headers: Headers, settings: ServeSettings) -> None:
    """Refuse requests that a page of another host sends.

    Raises:
        RequestError: 403 for a foreign origin.
    """
    origin = headers.get("origin")
    if origin is None or origin in settings.allow_origins:
        return
    if urlsplit(origin).netloc != headers.get("host"):
        raise RequestError(
            403,
            f"requests from pages of {origin} are refused: start the server with "
            f"--allow-origin {origin} to accept them",
        )


def check_login(headers: Headers, settings: ServeSettings) -> None:
    """Check the user's password, or an API key as bearer token or as the password of any user.

    Raises:
        RequestError: 401 without valid credentials.
    """
    if not settings.needs_login:
        return
    scheme, _, value = headers.get("authorization", "").partition(" ")
    user, password = "", headers.get("x-api-key", "")
    if scheme.lower() == "bearer":
        password = value.strip()
    elif scheme.lower() == "basic":
        user, password = _read_basic(value)
    known = f"{settings.user}:{settings.password}" if settings.user is not None else None
    by_user = known is not None and _equal(f"{user}:{password}", known)
    if not (_any_equal(password, settings.api_keys) or by_user):
        raise RequestError(401, "a user name with password, or an API key, is needed")


def _read_basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password


def _any_equal(given: str, known: Iterable[str]) -> bool:
    """Compare with every key, so that the time is independent of the key."""
    found = False
    for key in known:
        found |= _equal(given, key)
    return found


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())
