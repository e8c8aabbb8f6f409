"""Measures decoding, detection and writing on a user's own images, for a plan."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lxmert.cluster.planning import Figure, Rates
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.images import Pixels
from lxmert.names import count
from lxmert.regions.extractor import RegionExtractor
from lxmert.regions.preprocess import load_image
from lxmert.schema import Regions
from lxmert.workflows.extraction import (
    ExtractionSettings,
    find_images,
    find_regions,
    store_header,
)
from lxmert.workflows.reading import BATCH

MOST_IMAGES = 512
"""Images that are measured at most."""


@dataclass(frozen=True)
class Measured:
    """Rates of one process on this machine, and sizes.

    Attributes:
        decode: images per second of processor time of one core.
        detect: images per second of the extractor on its device, without decoding.
        write: bytes per second into a temporary region store.
        image_bytes: mean size of an image file.
        stored_bytes: mean size of an image in the store.
    """

    decode: Figure
    detect: Figure
    write: Figure
    image_bytes: Figure
    stored_bytes: Figure

    def rates(self, *, on_cpu: bool) -> Rates:
        """Return the rates of a device like the measured one; a CPU decodes and detects in turn."""
        if not on_cpu:
            return Rates(self.detect, decode=self.decode, write=self.write)
        seconds = 1 / self.detect.value + 1 / self.decode.value
        return Rates(Figure(1 / seconds, "measured", self.detect.source), write=self.write)


def measure(
    folder: Path,
    extractor: RegionExtractor,
    settings: ExtractionSettings,
    *,
    seconds: float,
    progress: Callable[[int, int], None],
) -> Measured:
    """Extract images that are spread evenly over a folder, and time each stage on its own.

    Images that cannot be read or have no regions are left out.

    Args:
        folder: image folder.
        extractor: the region extractor.
        settings: settings of the extraction.
        seconds: time after which no further batch is started.
        progress: called with the number of measured images, and of all.

    Raises:
        FileNotFoundError: if the folder has no image.
        ValueError: if no image has regions.
    """
    found = find_images(folder)
    names = found[:: max(1, len(found) // MOST_IMAGES)][:MOST_IMAGES]
    find_regions(extractor, [pixels for _, pixels in _load(folder, names[:BATCH])], settings)
    batches: list[_Batch] = []
    end = time.perf_counter() + seconds
    for start in range(0, len(names), BATCH):
        batches.append(_measure_batch(folder, names[start : start + BATCH], extractor, settings))
        progress(start + BATCH, len(names))
        if time.perf_counter() > end:
            break
    images = [image for batch in batches for image in batch.images]
    if not images:
        raise ValueError(
            f"--measure {folder}: none of {count(len(names), 'image')} has regions; expected "
            "images that the extractor accepts"
        )
    written, writing = _write(images, extractor, settings)
    size = sum((folder / name).stat().st_size for name in names) / len(names)
    number = sum(batch.loaded for batch in batches)
    decoding = sum(batch.decoding for batch in batches)
    detecting = sum(batch.detecting for batch in batches)
    where = f"{count(number, 'image')} of {folder}, on this machine"
    return Measured(
        decode=Figure(number / decoding, "measured", f"images per core-second, {where}"),
        detect=Figure(number / detecting, "measured", where),
        write=Figure(written / writing, "measured", f"bytes/s into {tempfile.gettempdir()}"),
        image_bytes=Figure(size, "measured", f"mean of {folder}"),
        stored_bytes=Figure(written / len(images), "measured", where),
    )


class _Batch(NamedTuple):
    images: list[tuple[str, Regions]]
    loaded: int
    decoding: float
    detecting: float


def _measure_batch(
    folder: Path, names: Sequence[str], extractor: RegionExtractor, settings: ExtractionSettings
) -> _Batch:
    """Extract some images; time decoding by the processor, detection by the clock."""
    started = time.process_time()
    loaded = _load(folder, names)
    decoding, started = time.process_time() - started, time.perf_counter()
    found = find_regions(extractor, [pixels for _, pixels in loaded], settings)
    detecting = time.perf_counter() - started
    pairs = zip(loaded, found, strict=True)
    images = [(name, one) for (name, _), one in pairs if not isinstance(one, str)]
    return _Batch(images, len(loaded), decoding, detecting)


def _load(folder: Path, names: Sequence[str]) -> list[tuple[str, Pixels]]:
    """Return the images that can be read."""
    loaded = []
    for name in names:
        with suppress(OSError, ValueError):
            loaded.append((name, load_image(folder / name)))
    return loaded


def _write(
    images: Sequence[Extracted], extractor: RegionExtractor, settings: ExtractionSettings
) -> tuple[int, float]:
    """Write a temporary store; return its size in bytes and the time."""
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "store"
        started = time.perf_counter()
        with StoreWriter(store, store_header(extractor, settings)) as writer:
            for item in images:
                writer.add(item)
            writer.finish()
        seconds = time.perf_counter() - started
        return sum(path.stat().st_size for path in store.iterdir()), seconds
