"""A cache of regions on disk, so that the same image is extracted once.

It is a folder with one file per image and extractor: `EXTRACTOR/IMAGE.npz`, where EXTRACTOR is the
hash of the extractor's fingerprint and precision, and IMAGE the SHA-256 of the decoded pixels. The
least recently used files are removed if the folder exceeds its size. Several processes may share
it.
"""

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lxmert.files import atomic_path, cache_folder
from lxmert.images import Pixels
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import REGION_ARRAYS, Regions

if TYPE_CHECKING:
    from lxmert.regions.extractor import RegionExtractor

MAX_BYTES = 2_000_000_000
"""Default size: about 7,000 images with 36 regions of 2,048 features."""

_KEPT = 0.9
"""Share of the maximum size that is kept when files are removed."""

_logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A file of the cache."""

    path: Path
    size: int
    used: int  # nanoseconds


def default_folder() -> Path:
    """Return the cache folder of the user."""
    return cache_folder() / "regions"


class DiskCache:
    """Regions of images, by the content of the image and the extractor.

    Attributes:
        folder: where the files are; created when the first one is written.
        max_bytes: size above which the least recently used files are removed.
    """

    def __init__(self, folder: str | Path | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        """Use a folder.

        Args:
            folder: the folder; None: `default_folder()`.
            max_bytes: maximum size of its files.
        """
        self.folder = default_folder() if folder is None else Path(folder)
        self.max_bytes = max_bytes
        self._known_bytes: int | None = None

    def extract(
        self, extractor: "RegionExtractor", fingerprint: str, images: Sequence[ImageInput]
    ) -> list[Regions]:
        """Return the regions of images; only those that are not in the cache are extracted.

        A damaged file is replaced. If a file cannot be written, a warning is logged.

        Args:
            extractor: the extractor.
            fingerprint: its fingerprint, which takes long to compute.
            images: images in any form that `load_image` reads.
        """
        pixels = [load_image(image) for image in images]
        group = hashlib.sha256(f"{fingerprint} {extractor.precision}".encode()).hexdigest()[:16]
        paths = [self.folder / group / f"{_hash_pixels(image)}.npz" for image in pixels]
        found = {path: _read(path, extractor.feature_dim) for path in dict.fromkeys(paths)}
        new = {
            path: image for path, image in zip(paths, pixels, strict=True) if found[path] is None
        }
        extracted = extractor([*new.values()]) if new else []
        for path, regions in zip(new, extracted, strict=True):
            found[path] = regions
            self._write(path, regions)
        return [regions for regions in map(found.get, paths) if regions is not None]

    def entries(self) -> list[Entry]:
        """Return the files, least recently used first."""
        entries = []
        for path in self.folder.glob("*/*.npz"):
            with suppress(FileNotFoundError):  # removed by another process
                status = path.stat()
                entries.append(Entry(path, status.st_size, status.st_mtime_ns))
        return sorted(entries, key=lambda entry: entry.used)

    def clear(self) -> int:
        """Remove all files, and return their number."""
        entries = self.entries()
        _remove(entries)
        self._known_bytes = None
        return len(entries)

    def _write(self, path: Path, regions: Regions) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial, partial.open("wb") as file:
                arrays = {name: getattr(regions, name) for name in REGION_ARRAYS}
                size, found = np.array(regions.image_size), np.array(regions.found)
                np.savez(file, **arrays, image_size=size, found=found)
            self._limit(path.stat().st_size)
        except OSError as error:
            _logger.warning("regions are not cached in %s: %s", self.folder, error)

    def _limit(self, added: int) -> None:
        """Remove the least recently used files if the folder is too large."""
        if self._known_bytes is None:
            self._known_bytes = sum(entry.size for entry in self.entries()) - added
        self._known_bytes += added
        if self._known_bytes <= self.max_bytes:
            return
        entries = self.entries()
        self._known_bytes = sum(entry.size for entry in entries)
        surplus, old = self._known_bytes - int(_KEPT * self.max_bytes), []
        for entry in entries:
            if surplus <= 0:
                break
            old.append(entry)
            surplus -= entry.size
        _remove(old)
        self._known_bytes -= sum(entry.size for entry in old)


def _hash_pixels(pixels: Pixels) -> str:
    """Return the SHA-256 of an image of some size."""
    header = "x".join(map(str, pixels.shape))
    return hashlib.sha256(header.encode() + pixels.tobytes()).hexdigest()


def _read(path: Path, feature_dim: int) -> Regions | None:
    """Read a file; None if there is none, or it is damaged (zip files have checksums)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in REGION_ARRAYS}
            height, width = file["image_size"].tolist()
            regions = Regions(**arrays, image_size=(height, width), found=bool(file["found"]))
        number = len(regions)
        fits = regions.boxes.shape == (number, 4) and all(
            len(array) == number for array in arrays.values()
        )
        if not fits or regions.features.shape != (number, feature_dim):
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    with suppress(OSError):  # the folder can only be read
        os.utime(path)
    return regions


def _remove(entries: Sequence[Entry]) -> None:
    for entry in entries:
        entry.path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            entry.path.parent.rmdir()
