"""Loads images ahead of the extractor in threads, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition

from lxmert.images import Pixels
from lxmert.regions.preprocess import load_image
from lxmert.schema import Failure

BATCH = 8
"""Images per call of the extractor, which batches those of similar size."""

MOST_AHEAD = 4 * BATCH
"""Maximum number of images loaded ahead."""

MOST_BYTES = 256 << 20
"""Size of the loaded pixels from which loading pauses; also the maximum size of a batch."""

Loaded = tuple[str, Pixels] | Failure


def load_ahead(folder: Path, image_ids: Iterable[str], *, workers: int) -> Iterator[Loaded]:
    """Load images in threads, in order; an unreadable one becomes a `Failure`.

    Decoding releases the GIL, so threads suffice; processes spent more time on transferring the
    pixels than on decoding.
    """
    reader = _Reader(folder)
    waiting: deque[Future[Loaded]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for number, image_id in enumerate(image_ids):
                waiting.append(threads.submit(reader.read, number, image_id))
                if len(waiting) > MOST_AHEAD:
                    yield reader.take(waiting.popleft())
            while waiting:
                yield reader.take(waiting.popleft())
        finally:
            reader.close()


class _Reader:
    """Loads images in threads that pause while too many bytes are loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._change = Condition()
        self._held = 0
        self._wanted = 0
        self._closed = False

    def read(self, number: int, image_id: str) -> Loaded:
        """Load an image when there is memory for it, or when it is the next one."""
        with self._change:
            self._change.wait_for(
                lambda: self._closed or self._held < MOST_BYTES or number == self._wanted
            )
            if self._closed:
                return Failure(image_id, "loading was stopped")
        loaded = _load(self.folder, image_id)
        with self._change:
            self._held += _num_bytes(loaded)
        return loaded

    def take(self, future: Future[Loaded]) -> Loaded:
        """Return the next image, and release its memory budget."""
        loaded = future.result()
        with self._change:
            self._held -= _num_bytes(loaded)
            self._wanted += 1
            self._change.notify_all()
        return loaded

    def close(self) -> None:
        """Stop all threads."""
        with self._change:
            self._closed = True
            self._change.notify_all()


def _num_bytes(loaded: Loaded) -> int:
    return 0 if isinstance(loaded, Failure) else loaded[1].nbytes


def _load(folder: Path, image_id: str) -> Loaded:
    try:
        return image_id, load_image(folder / image_id)
    except (OSError, ValueError) as error:
        return Failure(image_id, str(error))


def join_batches(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    """Group images into batches of bounded count and size."""
    batch: list[Loaded] = []
    for item in loaded:
        batch.append(item)
        if len(batch) == BATCH or sum(map(_num_bytes, batch)) >= MOST_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
