"""One file from the web: goes on where it was cut off, tries mirrors in turn, checks what came."""

import errno
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from zipfile import is_zipfile

from lxmert.datasets.sources import Remote, name_within
from lxmert.files import read_json_object, sha256
from lxmert.web import SCHEMES, Deadline, open_address

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, of which the latter is 0 where nobody knows."""

_CHUNK = 1 << 20
_SILENCE = 30.0
"""Seconds that a server has for its headers, and for each piece of a file."""

_SLOWEST = 1 << 16
"""Bytes that must come in as many seconds, and from one interruption to the next."""

_LARGEST = 1 << 30
"""Size up to which a file is taken whose size nobody says."""

_ATTEMPTS = 5
"""Times in a row that a server may break off without getting on; its silence counts twice."""

_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")

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
            found = read_json_object(self.note)
        except (OSError, ValueError):
            return {}
        return {name: str(value) for name, value in found.items()}

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _Pace:
    """Counts what a mirror sends, and gives up one that would never end."""

    def __init__(self) -> None:
        self._began, self._size = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            UselessMirrorError: if too few have come of late.
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
    """Download from one address and check the whole; what another one began is continued."""
    mixed = part.size > 0 and part.origin().get("url") != url
    if mixed and remote.sha256 is None:
        part.remove()  # nothing would tell if the two halves were of different files
    _fetch_rest(url, remote, part, progress, pause)
    try:
        _check(remote, part)
    except UselessMirrorError:
        if not mixed or remote.sha256 is None:
            raise
        _fetch_rest(url, remote, part, progress, pause)  # the half of the other one may be wrong
        _check(remote, part)


def _fetch_rest(
    url: str, remote: Remote, part: _Part, progress: Progress | None, pause: float
) -> None:
    """Download what is missing, again where it breaks off."""
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
            why = getattr(error, "reason", error)  # of an URLError, without its wrapping
        else:
            return
        cost = 1
        if isinstance(why, TimeoutError):
            cost, why = 2, f"no answer, or no end of it, within {_SILENCE:g} seconds"
        failures = cost if part.size >= furthest + _SLOWEST else failures + cost
        furthest = max(furthest, part.size)
        if failures >= _ATTEMPTS:
            raise UselessMirrorError(f"failed again and again: {why}")
        time.sleep(pause * failures)


def _request(url: str, remote: Remote, part: _Part, pace: _Pace, progress: Progress | None) -> None:
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
        if continued and not _begins_at(response.headers, part.size):
            part.remove()
            raise OSError("the server sent another part than was asked for")
        start = part.size if continued else 0
        total = _total(response.headers, start)
        _check_headers(response.headers, remote, total, part)
        limit = remote.size or total or _LARGEST
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        usable = "" if version.startswith("W/") else version
        part.note.write_text(json.dumps({"url": url, "version": usable}), encoding="utf-8")
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
        raise UselessMirrorError(f"sends more than {limit} bytes, perhaps without end")
    if total is not None and part.size != total:
        raise OSError(f"it ended after {part.size} of {total} bytes")


def _pieces(response: Any, deadline: Deadline) -> Iterator[bytes]:
    """Yield what a server sends; each piece has its own time."""
    deadline.restart()
    while piece := response.read1(_CHUNK):
        yield piece
        deadline.restart()


def _check_headers(headers: Any, remote: Remote, total: int | None, part: _Part) -> None:
    """Refuse what the server itself says is not the file, or is too large."""
    if str(headers.get("Content-Type", "")).startswith("text/html"):
        raise UselessMirrorError("gives a web page instead of the file")
    if remote.size is not None and total is not None and total != remote.size:
        raise UselessMirrorError(f"has {total} bytes, expected {remote.size}")
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise UselessMirrorError(
            f"has {total} bytes, for which {part.path.parent} with {free} free bytes is too full"
        )


def _check_disk(error: Exception, part: _Part) -> None:
    """Raise if it is the disk that failed, for which no other server can do anything."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise OSError(
            f"the disk of {part.path.parent} is full after {part.size} bytes of the file: free "
            "space and give the same command again"
        ) from error


def _begins_at(headers: Any, place: int) -> bool:
    """Tell whether a partial answer begins at a place, and says nothing that cannot be."""
    match = _RANGE.fullmatch(str(headers.get("Content-Range", "")))
    if match is None:
        return False
    first, last = int(match[1]), int(match[2])
    size = _number(str(headers.get("Content-Length", "")))
    whole = _number(match[3])
    return (
        first == place
        and last >= first
        and size in (None, last - first + 1)
        and (whole is None or whole > last)
    )


def _total(headers: Any, start: int) -> int | None:
    """Return the size of the whole file; None where the server does not say."""
    whole = _number(str(headers.get("Content-Range", "")).rpartition("/")[2])
    length = _number(str(headers.get("Content-Length", "")))
    return whole if whole is not None or length is None else start + length


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


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
    if remote.sha256 is not None and (found := sha256(part.path)) != remote.sha256:
        part.remove()
        raise UselessMirrorError(f"has the SHA-256 {found}, expected {remote.sha256}")
    if remote.members and not is_zipfile(part.path):
        part.remove()
        raise UselessMirrorError("gives no ZIP file")
