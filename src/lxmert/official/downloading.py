"""One file from the web: goes on where it was cut off, tries mirrors in turn, checks what came."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from zipfile import is_zipfile

from lxmert.official.downloads import file_checksum
from lxmert.official.sources import Remote, name_within
from lxmert.web import SCHEMES, open_address

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, of which the latter is 0 where nobody knows."""

_CHUNK = 1 << 20
_SILENCE = 60.0
"""Seconds that a server may be silent."""

_ATTEMPTS = 5
"""Times in a row that a server may break off without having sent anything new."""

_logger = logging.getLogger(__name__)


class UselessMirrorError(ValueError):
    """A mirror does not give the file; the next one may."""


class _Part(NamedTuple):
    """What is there of a file: its bytes, and beside them where they are from."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def origin(self) -> dict[str, str]:
        """Return address and version of the bytes; nothing where that is not known."""
        try:
            found: object = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(
    remote: Remote,
    path: Path,
    *,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
    pause: float = 1.0,
) -> str:
    """Download a file to a path; an earlier attempt is continued.

    Args:
        remote: what is known of the file.
        path: gets the file when it is whole.
        mirrors: addresses of folders that have it, as `name_within` says; tried first.
        progress: told after each piece.
        pause: seconds before a server that broke off is asked again; more each time.

    Returns:
        The address that it came from.

    Raises:
        OSError: if no address gives it, with the reason of each.
    """
    part = _Part(path.with_name(f".{path.name}.part"))
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    own = tuple(
        f"{mirror.rstrip('/')}/{name_within(remote.name, PurePosixPath(mirror))}"
        for mirror in mirrors
    )
    urls = (*own, *remote.urls)
    for place, url in enumerate(urls, start=1):
        if not url.startswith(SCHEMES):
            raise ValueError(f"{url} is no address of the web: it must begin with https://")
        try:
            _from_mirror(url, remote, part, progress, pause)
        except UselessMirrorError as error:
            if place < len(urls):
                _logger.warning("%s %s; the next address is tried", url, error)
            reasons.append(f"{url} {error}")
            continue
        part.path.replace(path)
        part.remove()
        return url
    raise OSError(
        f"{remote.name} was not fetched ({'; '.join(reasons)}): try again later, which goes on "
        "where it was cut off, or get the file elsewhere and name its folder with --from"
    )


def _from_mirror(
    url: str, remote: Remote, part: _Part, progress: Progress | None, pause: float
) -> None:
    """Download from one address, again where it breaks off, and check the whole."""
    if remote.sha256 is None and part.origin().get("url") != url:
        part.remove()  # nothing would tell if the two halves were of different files
    failures = 0
    while True:
        before = part.size
        try:
            _request(url, remote, part, progress)
        except HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UselessMirrorError(f"answers {error.code} {error.reason}") from error
            reason: Exception = error
        except (TimeoutError, URLError, HTTPException, OSError) as error:
            reason = error
        else:
            break
        failures = 1 if part.size > before else failures + 1
        if failures >= _ATTEMPTS:
            why = getattr(reason, "reason", reason)  # of an URLError, without its wrapping
            raise UselessMirrorError(f"failed {failures} times: {why}")
        time.sleep(pause * failures)
    _check(remote, part)


def _request(url: str, remote: Remote, part: _Part, progress: Progress | None) -> None:
    """Ask for what is missing and append it.

    Raises:
        OSError: if the connection breaks off.
        UselessMirrorError: if the server has another file.
    """
    headers = {"Accept-Encoding": "identity"}
    origin = part.origin()
    known = origin.get("url") == url and origin.get("version")
    if part.size and (known or remote.sha256):
        headers["Range"] = f"bytes={part.size}-"
        if known:
            headers["If-Range"] = origin["version"]
    try:
        response = open_address(url, headers, timeout=_SILENCE)
    except HTTPError as error:
        if error.code == 416 and part.size:
            _check_rest(error.headers, part)
            return
        raise
    with response:
        continued = response.status == 206
        if continued and not _begins_at(response.headers, part.size):
            part.remove()
            raise OSError("the server sent another part than was asked for")
        start = part.size if continued else 0
        total = _total(response.headers, start)
        if str(response.headers.get("Content-Type", "")).startswith("text/html"):
            raise UselessMirrorError("gives a web page instead of the file")
        if remote.size is not None and total is not None and total != remote.size:
            raise UselessMirrorError(f"has {total} bytes, expected {remote.size}")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        usable = "" if version.startswith("W/") else version
        part.note.write_text(json.dumps({"url": url, "version": usable}), encoding="utf-8")
        with part.path.open("ab" if continued else "wb") as file:
            _copy(response, file, start, total or remote.size or 0, progress)
    if total is not None and part.size != total:
        raise OSError(f"it ended after {part.size} of {total} bytes")


def _copy(response: Any, file: BinaryIO, done: int, total: int, progress: Progress | None) -> None:
    while piece := response.read1(_CHUNK):
        file.write(piece)
        done += len(piece)
        if progress is not None:
            progress(done, max(done, total))


def _begins_at(headers: Any, place: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {place}-")


def _total(headers: Any, start: int) -> int | None:
    """Return the size of the whole file; None where the server does not say."""
    whole = str(headers.get("Content-Range", "")).rpartition("/")[2]
    if whole.isdigit():
        return int(whole)
    length = str(headers.get("Content-Length", ""))
    return start + int(length) if length.isdigit() else None


def _check_rest(headers: Any, part: _Part) -> None:
    """Accept that nothing is missing; throw away what is longer than the file."""
    whole = str(headers.get("Content-Range", "")).rpartition("/")[2]
    if whole != str(part.size):
        part.remove()
        raise OSError("what was there is no beginning of the file")


def _check(remote: Remote, part: _Part) -> None:
    """Refuse, and throw away, what is not the file."""
    size = part.size
    if remote.size is not None and size != remote.size:
        part.remove()
        raise UselessMirrorError(f"has {size} bytes, expected {remote.size}")
    if remote.sha256 is not None and (found := file_checksum(part.path)) != remote.sha256:
        part.remove()
        raise UselessMirrorError(f"has the SHA-256 {found}, expected {remote.sha256}")
    if remote.members and not is_zipfile(part.path):
        part.remove()
        raise UselessMirrorError("gives no ZIP file")
