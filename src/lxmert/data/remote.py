"""A local cache of bounded size for the files of a store on a remote file system, by fsspec."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lxmert.files import atomic_path, is_partial

CACHE_BYTES = 20 << 30
"""Default size of the cache."""

_HTTP_MARKS = ("size", "ETag", "Content-MD5", "Digest", "Last-Modified")
"""What servers say of a file that changes with it."""


def is_remote(location: str | Path) -> bool:
    """Return whether a location is a URL such as `s3://bucket/regions`."""
    return "://" in str(location)


class RemoteFolder:
    """The files of a remote folder, which are copied into a cache when they are needed.

    Several processes may share a cache. A file that another one removed is copied again.

    Attributes:
        url: the remote folder.
        folder: the local folder of its copies.
    """

    def __init__(self, url: str, cache: Path | None, most_bytes: int) -> None:
        """Connect to the file system of a URL.

        Args:
            url: URL of any scheme that fsspec knows.
            cache: folder of all copies; None: `~/.cache/lxmert/stores`.
            most_bytes: size of the copies above which those used longest ago are removed.

        Raises:
            ModuleNotFoundError: if fsspec, or what it needs for the scheme, is not installed.
            ValueError: if the scheme is unknown.
        """
        try:
            import fsspec  # type: ignore[import-untyped]

            self._files, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ModuleNotFoundError(
                f"{url} needs a package that is not installed: pip install 'lxmert[cluster]', and "
                f"the package of the file system ({error})"
            ) from error
        self.url, self._most_bytes = url, most_bytes
        self._cache = Path.home() / ".cache/lxmert/stores" if cache is None else cache
        self.folder = self._cache / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, name: str, version: str | None = None) -> Path:
        """Return the local copy of a file.

        Args:
            name: the file name.
            version: text that changes with the content, such as a checksum; None: what the file
                system knows of the file, which takes a request or two.

        Raises:
            FileNotFoundError: if there is no such file.
            OSError: if it cannot be copied.
        """
        source = f"{self._root.rstrip('/')}/{name}"
        with _report(f"{self.url.rstrip('/')}/{name}"):
            version = self._version(source) if version is None else version
            path = self.folder / f"{version}-{name}"
            if not path.is_file():
                with atomic_path(path) as partial:
                    self._files.get_file(source, str(partial))
                self._evict(keep=path)
        with suppress(OSError):
            path.touch()  # the order of removal
        return path

    def _version(self, source: str) -> str:
        """Return a text that changes with a file, as far as its file system can tell."""
        # The key that fsspec gives to a file of http is that of its address alone.
        key, known = self._files.ukey(source), {}
        with suppress(FileNotFoundError):  # http says so of any failure; copying tells which
            known = self._files.info(source)
        marks = [key, *(known.get(name) for name in _HTTP_MARKS)]
        return hashlib.sha256(str(marks).encode()).hexdigest()[:16]

    def _evict(self, *, keep: Path) -> None:
        """Remove the copies used longest ago until all fit."""
        found = []
        for path in self._cache.glob("*/*"):
            with suppress(OSError):  # another process may remove it
                if not is_partial(path):
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size


@contextmanager
def _report(url: str) -> Iterator[None]:
    """Turn what a file system raises into an `OSError` that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {url}: check the address") from error
    # The packages of the file systems raise exceptions of their own, without a common base.
    except Exception as error:
        raise OSError(
            f"{url} cannot be read ({type(error).__name__}: {error}): check the network and your "
            "credentials"
        ) from error
