"""Resized images of a dataset in memory-mapped shards, for extractors that are trained on them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np

from lxmert.data.shards import Shards
from lxmert.data.store_layout import (
    INDEX,
    LOCK,
    PixelHeader,
    encode_id,
    find_all,
    read_header,
)
from lxmert.data.store_writing import StoreWriter
from lxmert.data.tensor_maps import map_tensors
from lxmert.images import Pixels
from lxmert.locks import FolderLock
from lxmert.schema import IntArray

Progress = Callable[[int, int], None]

_logger = logging.getLogger(__name__)


class PixelStore(Shards[PixelHeader]):
    """Read access to resized images by their position.

    Attributes:
        folder: the folder of the store.
        header: the size of the images.
    """

    header_type = PixelHeader

    def __getitem__(self, row: int) -> Pixels:
        """Return `[height, width, 3]` uint8 RGB; a view of the file, not to be written to."""
        [(shard, place)] = self.locate([row])
        pixels: Pixels = shard.file.tensors["pixels"][place]
        return pixels

    def positions(self, image_ids: Iterable[str]) -> IntArray:
        """Return the position of each image; -1 for one that is not there."""
        found = self.find(list(image_ids))
        return np.array([-1 if row is None else row for row in found], dtype=np.int64)

    @classmethod
    def write(
        cls,
        folder: str | Path,
        image_ids: Sequence[str],
        read: Callable[[str], Pixels],
        *,
        height: int,
        width: int,
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> "PixelStore":
        """Write the images that are not there yet; of several processes one writes, others wait.

        Args:
            folder: the folder of the store; it is created if necessary.
            image_ids: all image ids, in order.
            read: returns the image of an id, `[height, width, 3]` uint8 RGB.
            height: height of the resized images in pixels.
            width: width of the resized images in pixels.
            progress: called with the number of images done, and of all.

        Raises:
            ValueError: if the folder holds a finished store of other images.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = b"\0".join(encode_id(image_id) for image_id in image_ids)
        header = PixelHeader(height=height, width=width, images=sha256(names).hexdigest()[:16])
        with closing(FolderLock(folder, file=LOCK, wait=True)):
            if not (folder / INDEX).is_file():
                _restart_if_changed(folder, header)
                with StoreWriter(folder, header, lock=False) as writer:
                    for number in range(len(writer.done), len(image_ids)):
                        writer.add((image_ids[number], read(image_ids[number])))
                        progress(number + 1, len(image_ids))
                    writer.finish()
        store = cls(folder)
        if store.header != header:
            raise ValueError(
                f"{folder} holds {len(store)} images of {store.header.width}x{store.header.height} "
                f"pixels, expected {len(image_ids)} of {width}x{height}: the images or the "
                "questions have changed since it was made; remove it, or train into another folder"
            )
        return store


def _restart_if_changed(folder: Path, header: PixelHeader) -> None:
    """Remove what an interrupted run wrote of other images."""
    written = find_all(folder)
    try:
        changed = any(read_header(map_tensors(path), PixelHeader) != header for path in written)
    except ValueError as error:
        _logger.warning("the images in %s are prepared again: %s", folder, error)
        changed = True
    for path in written if changed else ():
        path.unlink()
