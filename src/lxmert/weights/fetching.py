"""Fetches published weights: from a local folder, the hub's cache, a mirror, or their addresses."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, errors, get_hf_file_metadata, try_to_load_from_cache
from huggingface_hub.utils.tqdm import tqdm

from lxmert.downloading import Progress, Remote, download
from lxmert.files import child_path, read_json_object, sha256, write_json
from lxmert.weights.table import HUB, File

_LARGE = 10_000_000
"""Bytes from which a file has a progress bar, and a checksum that the hub announces."""

_logger = logging.getLogger(__name__)


class Sources(NamedTuple):
    """Where to look for files before their addresses are tried.

    Attributes:
        mirrors: URLs of folders that have the files under their `File.name`.
        local: folder with the files, by `File.name` or by file name alone.
    """

    mirrors: tuple[str, ...] = ()
    local: Path | None = None


class Origin(NamedTuple):
    """A file on this machine, and where it is from.

    Attributes:
        path: the file.
        url: the address or path that it was read from.
        checked: what its content was compared with.
    """

    path: Path
    url: str
    checked: str

    def to_dict(self) -> dict[str, Any]:
        """Return what is recorded about it: origin, size, checksum."""
        return {
            "file": self.path.name,
            "from": self.url,
            "bytes": self.path.stat().st_size,
            "sha256": sha256(self.path),
            "checked": self.checked,
        }


def fetch_file(name: str, file: File, folder: Path, sources: Sources) -> Origin:
    """Fetch a file, resuming an interrupted download.

    In a terminal a bar shows size and remaining time of a large file.

    Args:
        name: row of `PUBLISHED` that the file belongs to, for messages.
        file: the file.
        folder: where to download it to, under its name.
        sources: where to look first.

    Raises:
        OSError: if it is nowhere, with the reason of each address.
        ValueError: if a local file has another checksum.
    """
    local = find_local(file, sources.local)
    if local is not None:
        return Origin(local, str(local), _check_local(file, local))
    path = child_path(folder, file.name)
    note = origin_note(path)
    if path.is_file():
        before = {"from": str(path), "checked": "downloaded before", **read_record(note)}
        return Origin(path, before["from"], before["checked"])
    command = f"`lxmert weights fetch {name} --from FOLDER`"
    if constants.HF_HUB_OFFLINE:
        raise OSError(
            f"{file.name} is not on this machine, and HF_HUB_OFFLINE forbids downloads: unset it, "
            f"or name a folder that has the file: {command}"
        )
    remote = _remote(file, sources.mirrors)
    with _Bar(file) as progress:
        url = download(remote, path, progress=progress, otherwise=f"run {command}")
    checked = "no checksum is known" if remote.sha256 is None else "its SHA-256"
    write_json(note, {"from": url, "checked": checked})
    return Origin(path, url, checked)


def origin_note(path: Path) -> Path:
    """Return the note of where a downloaded file is from, for when other files come later."""
    return path.with_name(f".{path.name}.origin.json")


def find_local(file: File, folder: Path | None) -> Path | None:
    """Find a file in the user's folder, or in the cache of the hub's client."""
    short = file.name.rsplit("/", 1)[-1]
    if folder is not None:
        for path in (child_path(folder, file.name), folder / short):
            if path.is_file():
                return path
    if not file.urls[0].startswith(HUB):
        return None
    repository = file.name.removesuffix(f"/{short}")
    found = try_to_load_from_cache(repository, short, cache_dir=constants.HF_HUB_CACHE)
    return Path(found) if isinstance(found, str) else None


def addresses(file: File, mirrors: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the addresses of a file in the order in which they are tried."""
    hub = f"{constants.ENDPOINT.rstrip('/')}/"
    own = (f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors)
    return (*own, *(url.replace(HUB, hub) for url in file.urls))


def _remote(file: File, mirrors: Sequence[str]) -> Remote:
    """Return what to download, with the size and checksum that the hub announces."""
    urls = addresses(file, mirrors)
    size, checksum = None, file.sha256
    if checksum is None and file.about >= _LARGE and file.urls[0].startswith(HUB):
        size, checksum = _announced(urls[len(mirrors)])
    return Remote(file.name, urls, size, checksum)


def _announced(url: str) -> tuple[int | None, str | None]:
    """Return size and SHA-256 of a large file on the hub, as far as the hub announces them."""
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        metadata = get_hf_file_metadata(url)
    except (http_error, OSError, ValueError) as error:
        _logger.debug("%s: %s", url, error)
        return None, None
    etag = metadata.etag or ""
    return metadata.size, etag if len(etag) == 64 else None


def _check_local(file: File, path: Path) -> str:
    """Compare a local file with the published checksum, if there is one."""
    if file.sha256 is None:
        return "no checksum is known"
    if (found := sha256(path)) != file.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {file.sha256}: copy it again, or remove it"
        )
    return "its SHA-256"


class _Bar:
    """The progress bar of a large file, on a terminal only."""

    def __init__(self, file: File) -> None:
        name = file.name.rsplit("/", 1)[-1]
        hidden = True if 0 < file.about < _LARGE else None  # None: unless stderr is a terminal
        self._bar: Any = tqdm(  # type: ignore[no-untyped-call]
            desc=name, unit="B", unit_scale=True, disable=hidden
        )
        self._started = False

    def __enter__(self) -> Progress:
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _advance(self, done: int, total: int) -> None:
        if not self._started:  # neither waiting nor earlier downloads count for the speed
            self._started = True
            self._bar.reset(total or None)
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)


def read_record(path: Path) -> dict[str, Any]:
    """Read what was recorded about fetched weights; empty if there is nothing readable."""
    try:
        return read_json_object(path)
    except (OSError, ValueError):
        return {}
