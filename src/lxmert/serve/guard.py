"""The outermost layer: access, size, number and time of requests, errors, headers, log, metrics."""

import asyncio
import logging
import time
import traceback
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lxmert.serve.errors import RequestError, failed, too_large, too_many_requests, too_slow
from lxmert.serve.metrics import ServeMetrics
from lxmert.serve.security import HEADERS, check_host, check_login, check_origin
from lxmert.serve.settings import ServeSettings

_OPEN = ("/health",)
"""Paths without login: they only report whether the server is ready."""

_POLLED = ("/health", "/metrics")
"""Paths that monitoring asks for every few seconds: not logged."""

_LEFT = 499
"""Status of a request whose client has left before its response."""

_LINGER_SECONDS = 10.0
"""How long a client may go on sending a request that was refused, before its connection is cut."""

_logger = logging.getLogger(__name__)


class Guard:
    """Wraps the application; every error becomes one JSON sentence with its status.

    The log has method, route, status and milliseconds: nothing that the client chooses.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: ServeMetrics) -> None:
        """Wrap an application."""
        self._app, self._settings, self._metrics = app, settings, metrics
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        body, response = _Body(receive, self._settings.max_body_bytes), _Response(send)
        self._metrics.accepted += 1
        try:
            await self._handle(scope, body, response)
        except RequestError as error:
            await response.refuse(error, body)
        except Exception as error:
            _logger.error("unexpected error: %s", describe(error))
            await response.refuse(failed(), body)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.answered += response.status != _LEFT
            path = _route(scope)
            self._metrics.count_request(path, response.status, seconds)
            level = logging.DEBUG if path in _POLLED else logging.INFO
            _logger.log(
                level, "%s %s %d %.0f ms", _method(scope), path, response.status, 1000 * seconds
            )

    async def _handle(self, scope: Scope, body: "_Body", response: "_Response") -> None:
        headers, settings = Headers(scope=scope), self._settings
        check_host(headers, settings)
        check_origin(headers, settings)
        if scope["path"] not in _OPEN:
            check_login(headers, settings)
        response.origin = headers.get("origin") if settings.allow_origins else None
        if scope["method"] == "OPTIONS" and response.origin is not None:
            await response.preflight(scope)
            return
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, body, response)
            return
        if self._active >= settings.max_queue:
            raise too_many_requests(self._active)
        body.check_length(headers.get("content-length", "0"))
        self._active += 1
        self._metrics.active.set(self._active)
        try:
            async with asyncio.timeout(settings.timeout):
                await self._app(scope, body, response)
        except TimeoutError as error:
            raise too_slow(settings.timeout) from error
        finally:
            self._active -= 1
            self._metrics.active.set(self._active)


class _Body:
    """Receives the body of a request up to a size."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._size, self._more = 0, True

    def check_length(self, declared: str) -> None:
        """Refuse a `Content-Length` above the limit."""
        if declared.isdigit() and int(declared[:19]) > self._limit:
            raise too_large(self._limit)

    async def __call__(self) -> Message:
        message = await self._receive()
        self._more = message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise too_large(self._limit)
        return message

    async def discard(self) -> None:
        """Read what the client still sends.

        Closing a connection with unread bytes resets it, and the client may lose the response.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._more:
                    self._more = (await self._receive()).get("more_body", False)


class _Response:
    """Sends a response with the common headers, and records whether one has started."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.origin: str | None = None
        self.status = _LEFT  # until a response begins

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self.origin is not None:
                headers["Access-Control-Allow-Origin"] = self.origin
                headers["Vary"] = "Origin"
        await self._send(message)

    async def refuse(self, error: RequestError, body: _Body) -> None:
        """Send an error, unless a response has started."""
        if self.status != _LEFT:
            return
        headers = {}
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="lxmert", charset="UTF-8"'
        closes = error.status in (413, 429)
        if closes:
            headers["Connection"] = "close"
        content = {"status": error.status, "error": str(error)}
        response = JSONResponse(content, error.status, headers)
        begin = {"type": "http.response.start", "status": error.status}
        await self({**begin, "headers": response.raw_headers})
        await self({"type": "http.response.body", "body": response.body, "more_body": closes})
        if closes:
            await body.discard()
            await self({"type": "http.response.body"})

    async def preflight(self, scope: Scope) -> None:
        """Answer the question of a browser whether a page of another host may send a request."""
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-API-Key",
            "Access-Control-Max-Age": "600",
        }
        await JSONResponse({}, 200, headers)(scope, _no_body, self)


def describe(error: BaseException) -> str:
    """Return an error in one line: its escaped message, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-6:]))
    return f"{type(error).__name__}: {str(error)[:300]!a} at {places}"


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def _route(scope: Scope) -> str:
    """Return the path of the route, with names in place of what the client chooses."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE")
    return scope["method"] if scope["method"] in known else "other"
