"""Reads the images of a folder while the ones before are looked at, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition

from lxmert.images import Pixels
from lxmert.regions.preprocess import load_image
from lxmert.schema import Failure

BATCH = 8
"""Images that the extractor is given at a time; it joins those of similar size."""

MOST_AHEAD = 4 * BATCH
"""Images that are read before the extractor is ready for them."""

MOST_BYTES = 256 << 20
"""Of pixels that were read ahead, from which on no further image is begun; also of a batch."""

Loaded = tuple[str, Pixels] | Failure


def load_ahead(folder: Path, image_ids: Iterable[str], *, workers: int) -> Iterator[Loaded]:
    """Read images in threads, in order; one that cannot be read is a `Failure`.

    Decoding leaves Python's lock, so that threads suffice; processes took longer to hand over the
    pixels than to read them.
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
    """Reads images in threads that pause while many bytes wait to be taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._change = Condition()
        self._held = 0
        self._wanted = 0
        self._closed = False

    def read(self, number: int, image_id: str) -> Loaded:
        """Read an image when there is room, or when it is the next to be taken."""
        with self._change:
            self._change.wait_for(
                lambda: self._closed or self._held < MOST_BYTES or number == self._wanted
            )
            if self._closed:
                return Failure(image_id, "nobody waits for it any more")
        loaded = _load(self.folder, image_id)
        with self._change:
            self._held += _num_bytes(loaded)
        return loaded

    def take(self, future: Future[Loaded]) -> Loaded:
        """Return the next image, and make room."""
        loaded = future.result()
        with self._change:
            self._held -= _num_bytes(loaded)
            self._wanted += 1
            self._change.notify_all()
        return loaded

    def close(self) -> None:
        """Let all threads end."""
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
    """Join images until they are many or large."""
    batch: list[Loaded] = []
    for item in loaded:
        batch.append(item)
        if len(batch) == BATCH or sum(map(_num_bytes, batch)) >= MOST_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
