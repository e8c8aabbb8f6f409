"""Resized pictures of a data set in one mapped file, for eyes that are trained on them.

A store is a folder: `pixels.bin`, one picture after the other, and `header.json`, written last,
with the image ids in order. Writing to an unfinished one goes on where it stopped.
"""

import fcntl
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

_HEADER, _PIXELS = "header.json", "pixels.bin"


class PixelStore:
    """Read access to resized pictures by their number."""

    def __init__(self, folder: str | Path) -> None:
        """Open a finished store."""
        self.folder = Path(folder)
        header = json.loads((self.folder / _HEADER).read_text(encoding="utf-8"))
        self.side: int = header["side"]
        self.rows = {image_id: row for row, image_id in enumerate(header["image_ids"])}
        shape = (len(self.rows), self.side, self.side, 3)
        self._pixels: Pixels = np.memmap(self.folder / _PIXELS, np.uint8, "r", shape=shape)

    def __getitem__(self, image_id: str) -> Pixels:
        """Return `[side, side, 3]` uint8 RGB; a view of the file, not to be written to."""
        return np.asarray(self._pixels[self.rows[image_id]])

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
        """Write the pictures that are not there yet; of several processes one writes, others wait.

        Args:
            folder: of the store; made if there is none.
            image_ids: all of them, in order.
            read: returns the picture of an id, `[side, side, 3]` uint8 RGB.
            side: of the resized pictures, in pixels.
            progress: called with the numbers of pictures done and in all.

        Raises:
            ValueError: if the folder holds other pictures.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {"side": side, "image_ids": list(image_ids)}
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _HEADER).is_file():
                _write_pixels(folder / _PIXELS, image_ids, read, side=side, progress=progress)
                partial = folder / f"{_HEADER}.partial"
                partial.write_text(json.dumps(header) + "\n", encoding="utf-8")
                partial.replace(folder / _HEADER)
        store = cls(folder)
        if (store.side, list(store.rows)) != (side, header["image_ids"]):
            raise ValueError(
                f"{folder} holds {len(store.rows)} pictures of side {store.side}, expected "
                f"{len(image_ids)} of side {side}: remove it, or train into another folder"
            )
        return store


def _write_pixels(
    path: Path,
    image_ids: Sequence[str],
    read: Callable[[str], Pixels],
    *,
    side: int,
    progress: Progress,
) -> None:
    """Append the pictures that a possibly cut file lacks."""
    size = side * side * 3
    with path.open("ab") as file:
        done = file.tell() // size
        file.truncate(done * size)
        for number, image_id in enumerate(image_ids[done:], start=done + 1):
            picture = read(image_id)
            assert picture.shape == (side, side, 3), picture.shape
            file.write(picture.tobytes())
            progress(number, len(image_ids))
