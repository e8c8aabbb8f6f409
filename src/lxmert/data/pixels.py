"""Resized images of a data set in one mapped file, for eyes that are trained on them.

A store is a folder: `pixels.bin`, one image after the other, and `header.json`, written last,
with the image ids in order; until then they are in `unfinished.json`. Writing goes on where it
stopped.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lxmert.files import read_json_object, write_text
from lxmert.locks import FolderLock
from lxmert.schema import IntArray

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

_MAX_SIDE = 1 << 16
_REMEDY = "remove this folder, and the same command prepares the images again"

_logger = logging.getLogger(__name__)

_HEADER, _UNFINISHED, _PIXELS = "header.json", "unfinished.json", "pixels.bin"


class PixelStore:
    """Read access to resized images by their number; the ids stay in the file.

    Attributes:
        folder: of the store.
        side: height and width of the images in pixels.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a finished store.

        Raises:
            FileNotFoundError: if a file of it is missing.
            ValueError: if one is damaged.
        """
        self.folder = Path(folder)
        header = _read(self.folder / _HEADER)
        self.side: int = header["side"]
        shape = (len(header["image_ids"]), self.side, self.side, 3)
        path, expected = self.folder / _PIXELS, prod(shape)
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise ValueError(f"{path} has {size:,} bytes, expected {expected:,}: {_REMEDY}")
        self._pixels: Pixels = np.memmap(path, np.uint8, "r", shape=shape)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> Pixels:
        """Return `[side, side, 3]` uint8 RGB; a view of the file, not to be written to."""
        return np.asarray(self._pixels[row])

    def rows(self, image_ids: Iterable[str]) -> IntArray:
        """Return the number of each image; -1 for one that is not there."""
        numbers = {image_id: row for row, image_id in enumerate(self.image_ids())}
        return np.array([numbers.get(image_id, -1) for image_id in image_ids], dtype=np.int64)

    def image_ids(self) -> list[str]:
        """Read the ids of all images, in their order."""
        ids: list[str] = _read(self.folder / _HEADER)["image_ids"]
        return ids

    @classmethod
    def write(
        cls,
        folder: str | Path,
        image_ids: Sequence[str],
        read: Callable[[str], Pixels],
        *,
        side: int,
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> "PixelStore":
        """Write the images that are not there yet; of several processes one writes, others wait.

        Args:
            folder: of the store; made if there is none.
            image_ids: all of them, in order.
            read: returns the image of an id, `[side, side, 3]` uint8 RGB.
            side: of the resized images, in pixels.
            progress: called with the numbers of images done and in all.

        Raises:
            ValueError: if the folder holds a finished store of other images.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {"side": side, "image_ids": list(image_ids)}
        # In a file, which on a shared disk holds back the processes of other machines as well.
        with closing(FolderLock(folder, file="lock", wait=True)):
            if not (folder / _HEADER).is_file():
                _begin(folder, header)
                _write_pixels(folder / _PIXELS, image_ids, read, side=side, progress=progress)
                (folder / _UNFINISHED).replace(folder / _HEADER)
        found = _read(folder / _HEADER)
        if found != header:
            raise ValueError(
                f"{folder} holds {len(found['image_ids'])} images of side {found['side']}, "
                f"expected {len(image_ids)} of side {side}: the images or the questions have "
                "changed since it was made; remove it, or train into another folder"
            )
        return cls(folder)


def _read(path: Path) -> dict[str, Any]:
    header = read_json_object(path, remedy=_REMEDY)
    side, ids = header.get("side"), header.get("image_ids")
    if type(side) is not int or not 1 <= side <= _MAX_SIDE or not isinstance(ids, list) or not ids:
        raise ValueError(f"{path} is no header of prepared images: {_REMEDY}")
    return header


def _begin(folder: Path, header: dict[str, Any]) -> None:
    """Note which images are to come; forget what was written for others."""
    path = folder / _UNFINISHED
    try:
        if path.is_file() and _read(path) == header:
            return
    except ValueError as error:
        _logger.warning("the images in %s are prepared again: %s", folder, error)
    (folder / _PIXELS).unlink(missing_ok=True)
    write_text(path, json.dumps(header) + "\n")


def _write_pixels(
    path: Path,
    image_ids: Sequence[str],
    read: Callable[[str], Pixels],
    *,
    side: int,
    progress: Progress,
) -> None:
    """Append the images that a possibly cut file lacks."""
    size = side * side * 3
    with path.open("ab") as file:
        done = file.tell() // size
        file.truncate(done * size)
        for number, image_id in enumerate(image_ids[done:], start=done + 1):
            image = read(image_id)
            assert image.shape == (side, side, 3), image.shape
            file.write(image.tobytes())
            progress(number, len(image_ids))
