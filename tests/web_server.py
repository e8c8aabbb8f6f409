"""Servers on this machine: the hub's download protocol, and images with all their faults."""

import hashlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "8" * 40
LARGE = (".bin", ".safetensors", ".h5")
"""Endings of the files that a hub keeps apart: a redirect leads to them."""


class Handler(BaseHTTPRequestHandler):
    """What both servers share."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        self.server.answer(self, path)


class Server(ThreadingHTTPServer):
    """A server on a free port of this machine that writes down what it was asked."""

    daemon_threads = True
    handler = Handler

    def __init__(self, answer: Callable[[Handler, str], None]) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.answer = answer
        self.requests: list[tuple[str, str, str]] = []

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client has had enough; anything else is a fault of a test's."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self, command: str) -> list[str]:
        return [path for asked, path, _ in self.requests if asked == command]


@contextmanager
def serve(answer: Callable[[Handler, str], None]) -> Iterator[Server]:
    server = Server(answer)
    with run(server):
        yield server


@contextmanager
def run(server: Server) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Hub:
    """Repositories in folders, distinguished by name.

    Attributes:
        cut: by file name, after how many bytes each reply breaks off, once.
        held: by file name, after how many bytes a reply waits until `released` is set.
        spoiled: names of files whose last byte is wrong.
    """

    def __init__(self, repositories: dict[str, Path], commit: str = COMMIT) -> None:
        self.repositories = repositories
        self.commit = commit
        self.cut: dict[str, list[int]] = {}
        self.held: dict[str, int] = {}
        self.released = threading.Event()
        self.spoiled: set[str] = set()

    def __call__(self, request: Handler, path: str) -> None:
        match = re.fullmatch(
            r"(?:/api/models)?/([^/]+/[^/]+)/(revision|tree|resolve|cdn)/(.+)", path
        )
        if match is None or match[1] not in self.repositories:
            # The hub does not tell whether a repository is private or not there.
            request.reply(401, b"{}", X_Error_Message="Invalid username or password.")
            return
        folder, kind, rest = self.repositories[match[1]], match[2], match[3]
        revision, _, name = rest.partition("/")
        if kind == "revision":
            self._json(request, {"id": match[1], "sha": self.commit, "siblings": []})
        elif kind == "tree":
            self._json(request, [_entry(folder, file) for file in _files(folder)])
        elif revision not in (self.commit, "main") or not (folder / name).is_file():
            request.reply(404, X_Error_Code="EntryNotFound")
        elif kind == "resolve" and name.endswith(LARGE):
            size, etag = str((folder / name).stat().st_size), _digest(folder / name, "sha256")
            request.reply(
                302,
                Location=f"http://localhost:{request.server.server_port}/{match[1]}/cdn/{rest}",
                X_Linked_Size=size,
                X_Linked_ETag=f'"{etag}"',
                X_Repo_Commit=self.commit,
            )
        else:
            self._file(request, folder / name)

    def _json(self, request: Handler, content: object) -> None:
        body = json.dumps(content).encode()
        request.reply(200, body, Content_Type="application/json", X_Repo_Commit=self.commit)

    def _file(self, request: Handler, path: Path) -> None:
        body, start = path.read_bytes(), 0
        if path.name in self.spoiled:
            body = body[:-1] + bytes([body[-1] ^ 1])
        headers = {"ETag": f'"{_digest(path, "sha1")}"', "X_Repo_Commit": self.commit}
        if asked := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start = int(asked[1])
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        held = self.held.get(path.name)
        if request.command == "GET" and (held or self.cut.get(path.name)):
            end = held or self.cut[path.name].pop(0)
            request.send_response(206 if start else 200)
            for name, value in {"Content-Length": str(len(body) - start), **headers}.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(body[start:end])
            request.wfile.flush()
            if held:
                self.released.wait()
            request.close_connection = True
            return
        request.reply(206 if start else 200, body[start:], **headers)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _entry(folder: Path, path: Path) -> dict[str, object]:
    size, name = path.stat().st_size, path.relative_to(folder).as_posix()
    entry: dict[str, object] = {"type": "file", "path": name, "size": size}
    entry["oid"] = _digest(path, "sha1")
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": _digest(path, "sha256"), "size": size, "pointerSize": 134}
    return entry


class Images:
    """One good image, and all that goes wrong on the web."""

    def __init__(self, image: bytes) -> None:
        self.image = image

    def __call__(self, request: Handler, path: str) -> None:
        name = path.removeprefix("/")
        if name == "good.png":
            request.reply(200, self.image, Content_Type="image/png")
        elif name == "typeless":
            request.reply(200, self.image)
        elif name == "moved.png":
            request.reply(302, Location="/good.png")
        elif name == "to-file":
            request.reply(302, Location="file:///etc/hostname")
        elif name == "circle":
            request.reply(302, Location="/circle")
        elif name == "page.html":
            request.reply(200, b"<html></html>", Content_Type="text/html; charset=utf-8")
        elif name == "text.png":
            request.reply(200, b"no image", Content_Type="image/png")
        elif name == "slow-headers":
            self._drip(request)
        elif name in ("cut.png", "endless", "slow"):
            self._stream(request, name)
        else:
            request.reply(404)

    def _stream(self, request: Handler, name: str) -> None:
        """Send less than was promised, more than anyone wants, or nothing for long."""
        request.close_connection = True
        request.send_response(200)
        if name == "cut.png":
            request.send_header("Content-Length", str(len(self.image)))
        request.end_headers()
        try:
            if name == "cut.png":
                request.wfile.write(self.image[:900])
            for _ in range(0 if name == "cut.png" else 40):
                request.wfile.write(bytes(1 if name == "slow" else 100_000))
                time.sleep(0.1 if name == "slow" else 0)
        except ConnectionError:
            pass  # the client has had enough

    def _drip(self, request: Handler) -> None:
        """Send headers without end, a byte at a time."""
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        try:
            for _ in range(40):
                request.wfile.write(b"x")
                time.sleep(0.1)
        except ConnectionError:
            pass  # the client has had enough
