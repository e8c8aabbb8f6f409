"""Lists an image folder, resolves image names in data sets to its files, and opens the images."""

import os
import unicodedata
import warnings
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from lxmert.data.columns import in_batches
from lxmert.images import image_size, read_image

IMAGE_ENDINGS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"}
)

_THREADS = 8
_CHUNK = 1 << 20


class Match(NamedTuple):
    """The file that an image name in a data set refers to.

    Attributes:
        name: path relative to the folder; None if there is no such file or more than one.
        how: `exact`, `renamed`, `ambiguous` or `missing`.
        detail: an explanation for the user if the match is not exact.
    """

    name: str | None
    how: str
    detail: str


class ImageFolder:
    """The image files in a folder and its subfolders, listed once.

    Attributes:
        folder: the folder, as given.
        names: paths of all images relative to the folder, in the form that data sets use.
    """

    def __init__(self, folder: str | Path) -> None:
        """List the folder.

        Raises:
            FileNotFoundError: if there is no such folder.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"there is no image folder {folder}: check the path")
        self.names = frozenset(_walk(self.folder))
        self._by_lower: dict[str, list[str]] | None = None

    def match(self, name: str) -> Match:
        """Return the file that a name refers to.

        A name may differ from the file in case, Unicode normal form or backslashes; it may be an
        absolute path, or lack the suffix or the subfolders, as long as it refers to a single file.
        """
        if name in self.names:
            return Match(name, "exact", "")
        if name.startswith(("http://", "https://")):
            return Match(None, "missing", f"{name!r} is a web address: download it first")
        found = self._candidates(name)
        if len(found) == 1:
            detail = f"{name!r} is {found[0]!r} below {self.folder}{self._why(name, found[0])}"
            return Match(found[0], "renamed", detail)
        if found:
            several = ", ".join(map(repr, found[:3])) + (", ..." if len(found) > 3 else "")
            return Match(None, "ambiguous", f"{name!r} may be {several} below {self.folder}")
        inside = name and not Path(name).is_absolute() and ".." not in Path(name).parts
        if inside and os.path.isfile(self.folder / name):  # with another suffix
            return Match(name, "exact", "")
        return Match(None, "missing", f"{name!r} is not below {self.folder}")

    def _candidates(self, name: str) -> list[str]:
        """Return the files that a name may refer to, by the strictest rule that finds any."""
        path = PurePosixPath(name.strip().replace("\\", "/"))
        parts = [part for part in path.parts if part not in ("/", ".")]
        folder = PurePosixPath(Path(os.path.abspath(self.folder)).as_posix())
        if path.is_absolute() and path.is_relative_to(folder):
            parts = list(path.relative_to(folder).parts)
        # For a path from another machine, compare its last parts, as many as possible first.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in self.names:
                return [tail]
            known = self._lower.get(_fold(parts[-1]), [])
            suffix = f"/{_fold(tail)}"
            found = [other for other in known if f"/{_fold(other)}".endswith(suffix)]
            if found:
                end = _compose(f"/{tail}")
                exact = [other for other in found if _compose(f"/{other}").endswith(end)]
                return exact or found
        return self._lower.get(f"{_fold(parts[-1])}.", []) if parts else []

    @property
    def _lower(self) -> dict[str, list[str]]:
        """Names by their last part in lower case, with suffix and without (up to a full stop)."""
        if self._by_lower is None:
            self._by_lower = defaultdict(list)
            for name in sorted(self.names):
                last = PurePosixPath(_fold(name))
                self._by_lower[last.name].append(name)
                self._by_lower[f"{last.stem}."].append(name)
        return self._by_lower

    @staticmethod
    def _why(name: str, found: str) -> str:
        """Return how a name differs from the correct one."""
        simple = name.strip().replace("\\", "/")
        if simple.startswith("/") or simple[1:3] == ":/":
            return ": names must be relative to the folder"
        if simple.removeprefix("./") == found:
            return ""
        if _compose(simple) == _compose(found):
            return ": the Unicode normal forms differ"
        if _fold(simple) == _fold(found):
            return ": upper and lower case differ"
        if _fold(found).endswith(f"/{_fold(simple)}"):
            return ": the subfolder is missing"
        if _fold(found).startswith(f"{_fold(simple)}."):
            return ": the suffix is missing"
        return ""

    def same(self, names: Iterable[str]) -> dict[str, str]:
        """Find copies of images: files with the same size and checksum.

        Returns:
            For each copy, the first name (in sorted order) with the same content.
        """
        by_size: dict[int, list[str]] = defaultdict(list)
        for name in sorted(set(names)):
            by_size[(self.folder / name).stat().st_size].append(name)
        copies = {}
        for group in by_size.values():
            first: dict[int, str] = {}
            for name in group if len(group) > 1 else ():
                original = first.setdefault(_checksum(self.folder / name), name)
                if original != name:
                    copies[name] = original
        return copies

    def open_all(
        self,
        names: Sequence[str],
        *,
        decode: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    ) -> Iterator[tuple[str, tuple[int, int] | str]]:
        """Open images in multiple threads.

        Args:
            names: paths relative to the folder.
            decode: whether to decode each image completely; reading only the header does not detect
                truncated files.
            progress: called with the number of opened images and the total.

        Yields:
            The name, and `(height, width)` or the reason of a failure, in the order of the names.
        """
        done = 0
        with ThreadPoolExecutor(_THREADS) as threads:
            for batch in in_batches(names, 512):
                paths = [self.folder / name for name in batch]
                with warnings.catch_warnings():
                    # Set once here: threads that set it temporarily would reset it for others.
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    results = list(threads.map(partial(_open, decode=decode), paths))
                yield from zip(batch, results, strict=True)
                done += len(batch)
                progress(done, len(names))


def _compose(name: str) -> str:
    """Return a name in the Unicode normal form for comparisons."""
    return unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    """Return a name in the form for case-insensitive comparisons."""
    return _compose(_compose(name).lower())


def _walk(folder: Path) -> Iterator[str]:
    """Yield the paths of all images in a folder and its subfolders, each real folder once.

    Real paths take precedence over links: links are followed last.
    """
    visited: set[tuple[int, int]] = set()
    waiting, links = deque([""]), deque[str]()
    while waiting or links:
        prefix = waiting.popleft() if waiting else links.popleft()
        entries = _list_new(folder / prefix, visited)
        for entry in entries:
            name = prefix + entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else waiting).append(f"{name}/")
            elif os.path.splitext(name)[1].lower() in IMAGE_ENDINGS:
                yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _list_new(folder: Path, visited: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """List a folder; return nothing if it was visited before."""
    status = folder.stat()
    place = (status.st_dev, status.st_ino)
    if place in visited:
        return []
    visited.add(place)
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _open(path: Path, *, decode: bool) -> tuple[int, int] | str:
    """Return the upright height and width, or the reason of a failure."""
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
        if not decode:
            return image_size(path)
        height, width, _ = read_image(path).shape
        return height, width
    except (OSError, ValueError) as error:
        return str(error)


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
