"""Downloads one file: resumes interrupted downloads, tries mirrors in turn, verifies the result."""

import errno
import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from zipfile import is_zipfile

from lxmert.files import read_json_object, sha256
from lxmert.web import SCHEMES, Deadline, open_address

Progress = Callable[[int, int], None]
"""Called with bytes done and total bytes; the total is 0 if unknown."""

_CHUNK = 1 << 20
_SILENCE = 30.0
"""Timeout in seconds for the headers and for each chunk of a file."""

_SLOWEST = 1 << 16
"""Minimum bytes per `_SILENCE` seconds, and between two interruptions."""

_LARGEST = 1 << 30
"""Size limit of files of unknown size."""

_ATTEMPTS = 5
"""Successive failures without progress after which a server is given up; timeouts count twice."""

_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")

_logger = logging.getLogger(__name__)


class Remote(NamedTuple):
    """A file to fetch.

    Attributes:
        name: path below the download folder.
        urls: URLs in the order in which they are tried.
        size: size in bytes; None if unknown.
        sha256: checksum; None if unknown.
        members: file names to extract from an archive, which is then removed; empty: not an
            archive.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    members: tuple[str, ...] = ()


class UselessMirrorError(ValueError):
    """A mirror does not deliver the file; the next one may."""


class NotFetchedError(OSError):
    """No address delivers a file.

    Attributes:
        reasons: why each of them does not.
    """

    def __init__(self, name: str, reasons: str, otherwise: str) -> None:
        super().__init__(
            f"{name} was not fetched ({reasons}): rerun the command later to resume, or get the "
            f"file elsewhere and {otherwise}"
        )
        self.reasons = reasons


class FullDiskError(OSError):
    """The disk has no space for the file, so that no other address can help."""


class _Part(NamedTuple):
    """A partial download, with a note of its origin beside it."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def origin(self) -> dict[str, str]:
        """Return URL and version of the bytes; empty if unknown."""
        try:
            found = read_json_object(self.note)
        except (OSError, ValueError):
            return {}
        return {name: str(value) for name, value in found.items()}

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _Pace:
    """Measures the transfer rate and gives up mirrors that are too slow."""

    def __init__(self) -> None:
        self._began, self._size = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count received bytes.

        Raises:
            UselessMirrorError: if the transfer is too slow.
        """
        self._size += size
        if time.monotonic() - self._began > _SILENCE:
            if self._size < _SLOWEST:
                raise UselessMirrorError(f"sent only {self._size} bytes in {_SILENCE:g} seconds")
            self._began, self._size = time.monotonic(), 0


def download(
    remote: Remote,
    path: Path,
    *,
    progress: Progress | None = None,
    pause: float = 1.0,
    otherwise: str = "pass its folder with --from",
) -> str:
    """Download a file, resuming an earlier attempt.

    Args:
        remote: description of the file.
        path: output path, which appears when the file is complete.
        progress: called after each chunk.
        pause: seconds before the first retry after an interruption; increases with each retry.
        otherwise: what errors advise who gets the file elsewhere.

    Returns:
        The URL that it was downloaded from.

    Raises:
        FullDiskError: if the disk has no space for the file.
        NotFetchedError: if all URLs fail, with the reason for each.
    """
    part = _Part(path.with_name(f".{path.name}.part"))
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for place, url in enumerate(remote.urls, start=1):
        if not url.startswith(SCHEMES):
            raise ValueError(f"{url} is not a web address, expected one that starts with https://")
        try:
            _from_mirror(url, remote, part, progress, pause)
        except UselessMirrorError as error:
            if place < len(remote.urls):
                _logger.warning(
                    "%s %s; trying the next address, %s", url, error, remote.urls[place]
                )
            reasons.append(f"{url} {error}")
            continue
        part.path.replace(path)
        part.remove()
        return url
    raise NotFetchedError(remote.name, "; ".join(reasons), otherwise)


def _from_mirror(
    url: str, remote: Remote, part: _Part, progress: Progress | None, pause: float
) -> None:
    """Download from one URL, resuming a partial file of any URL, and verify the file."""
    mixed = part.size > 0 and part.origin().get("url") != url
    if mixed and remote.sha256 is None:
        part.remove()  # without a checksum, a mixture of two files would not be noticed
    _fetch_rest(url, remote, part, progress, pause)
    try:
        _check(remote, part)
    except UselessMirrorError:
        if not mixed or remote.sha256 is None:
            raise
        _fetch_rest(url, remote, part, progress, pause)  # the part from the other URL may be wrong
        _check(remote, part)


def _fetch_rest(
    url: str, remote: Remote, part: _Part, progress: Progress | None, pause: float
) -> None:
    """Download the missing bytes, with retries."""
    failures, furthest, pace = 0, part.size, _Pace()
    while True:
        try:
            _request(url, remote, part, pace, progress)
        except HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UselessMirrorError(f"answers {error.code} {error.reason}") from error
            why: object = error
        except (TimeoutError, URLError, HTTPException, OSError) as error:
            _check_disk(error, part)
            why = getattr(error, "reason", error)  # the cause of a URLError
        else:
            return
        cost = 1
        if isinstance(why, TimeoutError):
            cost, why = 2, f"no complete answer within {_SILENCE:g} seconds"
        if isinstance(why, socket.gaierror) and not part.size:
            raise UselessMirrorError(f"is not reached: {why.strerror}")
        failures = cost if part.size >= furthest + _SLOWEST else failures + cost
        furthest = max(furthest, part.size)
        if failures >= _ATTEMPTS:
            raise UselessMirrorError(f"failed repeatedly: {why}")
        time.sleep(pause * failures)


def _request(url: str, remote: Remote, part: _Part, pace: _Pace, progress: Progress | None) -> None:
    """Request the missing bytes and append them.

    Raises:
        OSError: if the connection is interrupted.
        UselessMirrorError: if the server has another file.
    """
    headers = {"Accept-Encoding": "identity"}
    origin = part.origin()
    known = origin.get("url") == url and origin.get("version")
    if part.size and (known or remote.sha256):
        headers["Range"] = f"bytes={part.size}-"
        if known:
            headers["If-Range"] = origin["version"]
    deadline = Deadline(_SILENCE)
    try:
        response = open_address(url, headers, deadline)
    except HTTPError as error:
        if error.code == 416 and part.size:
            _check_rest(error.headers, part)
            return
        raise
    with response:
        continued = response.status == 206
        if continued and not _starts_at(response.headers, part.size):
            part.remove()
            raise OSError("the server sent another range than requested")
        if continued and known and _version(response.headers) not in ("", known):
            part.remove()
            raise OSError("the server continues with another version of the file")
        start = part.size if continued else 0
        total = _total(response.headers, start)
        _check_headers(response.headers, remote, total, part)
        limit = remote.size or total or _LARGEST
        usable = {"url": url, "version": _version(response.headers)}
        part.note.write_text(json.dumps(usable), encoding="utf-8")
        with part.path.open("ab" if continued else "wb") as file:
            for piece in _pieces(response, deadline):
                file.write(piece)
                pace.add(len(piece))
                start += len(piece)
                if progress is not None:
                    progress(start, max(start, total or remote.size or 0))
                if start > limit:
                    break
    if start > limit:
        part.remove()
        raise UselessMirrorError(f"sends more than {limit} bytes")
    if total is not None and part.size != total:
        raise OSError(f"the connection ended after {part.size} of {total} bytes")


def _version(headers: Any) -> str:
    """Return what the version of a file is recognized by; empty if there is nothing exact."""
    version = str(headers.get("ETag") or headers.get("Last-Modified") or "")
    return "" if version.startswith("W/") else version


def _pieces(response: Any, deadline: Deadline) -> Iterator[bytes]:
    """Yield the chunks of a response, each with its own deadline."""
    deadline.restart()
    while piece := response.read1(_CHUNK):
        yield piece
        deadline.restart()


def _check_headers(headers: Any, remote: Remote, total: int | None, part: _Part) -> None:
    """Raise an error if the headers declare another file or one that the disk has no space for."""
    if str(headers.get("Content-Type", "")).startswith("text/html"):
        raise UselessMirrorError("sends a web page instead of the file")
    if remote.size is not None and total is not None and total != remote.size:
        raise UselessMirrorError(f"has {total} bytes, expected {remote.size}")
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        if total <= _LARGEST:
            raise OSError(errno.ENOSPC, f"it has {total} bytes, and {free} bytes are free")
        raise UselessMirrorError(
            f"has {total} bytes, but {part.path.parent} has only {free} bytes free"
        )


def _check_disk(error: Exception, part: _Part) -> None:
    """Raise `FullDiskError` if the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise FullDiskError(
            f"the disk of {part.path.parent} is full after {part.size} bytes of the file "
            f"({error.strerror}): free space and rerun the same command"
        ) from error


def _starts_at(headers: Any, place: int) -> bool:
    """Return whether a partial response starts at a position and has consistent headers."""
    match = _RANGE.fullmatch(str(headers.get("Content-Range", "")))
    if match is None:
        return False
    first, last = int(match[1]), int(match[2])
    size = _number(str(headers.get("Content-Length", "")))
    total = _number(match[3])
    return (
        first == place
        and last >= first
        and size in (None, last - first + 1)
        and (total is None or total > last)
    )


def _total(headers: Any, start: int) -> int | None:
    """Return the size of the complete file; None if the server does not declare it."""
    total = _number(str(headers.get("Content-Range", "")).rpartition("/")[2])
    length = _number(str(headers.get("Content-Length", "")))
    return total if total is not None or length is None else start + length


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_rest(headers: Any, part: _Part) -> None:
    """Check that no bytes are missing; remove a partial file that is longer than the file."""
    total = str(headers.get("Content-Range", "")).rpartition("/")[2]
    if total != str(part.size):
        part.remove()
        raise OSError("the partial file is not the start of this file")


def _check(remote: Remote, part: _Part) -> None:
    """Verify the file; remove it if it is wrong."""
    size = part.size
    if remote.size is not None and size != remote.size:
        part.remove()
        raise UselessMirrorError(f"has {size} bytes, expected {remote.size}")
    if remote.sha256 is not None and (found := sha256(part.path)) != remote.sha256:
        part.remove()
        raise UselessMirrorError(f"has SHA-256 {found}, expected {remote.sha256}")
    if remote.members and not is_zipfile(part.path):
        part.remove()
        raise UselessMirrorError("does not send a ZIP file")
