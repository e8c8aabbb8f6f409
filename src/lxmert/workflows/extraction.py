"""From a folder of pictures to a region store."""

import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lxmert.data.image_folder import IMAGE_ENDINGS, ImageFolder
from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.store_writing import Extracted
from lxmert.explain.figures import draw_regions
from lxmert.schema import Failure, Regions
from lxmert.vision.extract import RegionExtractor
from lxmert.vision.preprocess import Pixels, load_image

BATCH = 16
"""Pictures that the extractor is given at a time; it joins those of similar size."""

MOST_AHEAD = 2 * BATCH
"""Pictures that are read before the extractor is ready for them."""

MOST_BYTES = 256 << 20
"""Of pixels that wait to be looked at, above which no further picture is begun."""

Loaded = tuple[str, Pixels] | Failure


@dataclass(frozen=True)
class ExtractionSettings:
    """How the pictures of a folder are looked at.

    Attributes:
        dtype: of the stored features, `float16` or `float32`.
        num_regions: how many regions of each picture, or the fewest and the most; absent: as the
            extractor was made.
        workers: threads that read pictures while the extractor computes.
        figures: folder for a drawing of each picture with its regions; absent: none is drawn.
    """

    dtype: str = "float16"
    num_regions: int | tuple[int, int] | None = None
    workers: int = 2
    figures: Path | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"--workers is {self.workers}: at least 1 has to read the pictures")


def extract_folder(
    images: Path,
    output: Path,
    extractor: RegionExtractor,
    settings: ExtractionSettings | None = None,
    *,
    progress: Callable[[int, int], None],
) -> RegionStore:
    """Extract the regions of all pictures below a folder; an interrupted run is taken up again.

    Pictures that cannot be read, or that the extractor refuses, are among the store's `failures`,
    and are tried again next time. Besides the extractor's own memory, `MOST_BYTES` of pixels are
    held twice, and for each worker the picture that it reads.

    Args:
        images: folder of pictures; an image id is the path below it.
        output: the store.
        extractor: the eyes.
        settings: absent: `ExtractionSettings()`.
        progress: called with the numbers of pictures done and in all.

    Raises:
        FileNotFoundError: if the folder holds no picture.
        FileExistsError: if the store is finished already, and no picture is missing from it.
    """
    settings = settings or ExtractionSettings()
    _check_apart(images, settings.figures)
    image_ids = find_images(images)
    header = StoreHeader(
        extractor=extractor.fingerprint,
        feature_dim=extractor.detector.config.feature_dim,
        dtype=settings.dtype,
        precision=extractor.precision,
        object_names=extractor.object_names,
        attribute_names=extractor.attribute_names,
    )

    def extract(remaining: Sequence[str]) -> Iterator[Extracted]:
        done = len(image_ids) - len(remaining)
        progress(done, len(image_ids))
        for batch in _batches(load_ahead(images, remaining, workers=settings.workers)):
            yield from _look(extractor, batch, settings)
            done += len(batch)
            progress(done, len(image_ids))

    with warnings.catch_warnings():
        # Reading a picture sets this filter for a moment. Threads would undo that for one another.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return RegionStore.write(output, image_ids, extract, header)


def find_images(folder: Path) -> list[str]:
    """Return the sorted paths of all pictures below a folder, relative to it."""
    found = sorted(ImageFolder(folder).names)
    if not found:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        raise FileNotFoundError(f"no picture below {folder}: expected files ending in {endings}")
    return found


def parse_num_regions(text: str) -> int | tuple[int, int]:
    """Read a number of regions, such as `36`, or the fewest and the most, such as `10-100`."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"--num-regions is {text!r}: expected a number, or a range like 10-100")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def load_ahead(folder: Path, image_ids: Iterable[str], *, workers: int) -> Iterator[Loaded]:
    """Read pictures in threads, in order; one that cannot be read is a `Failure`.

    Decoding leaves Python's lock, so that threads suffice; processes took longer to hand over the
    pixels than to read them.
    """
    names = iter(image_ids)
    waiting: deque[Future[Loaded]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            while True:
                while _has_room(waiting) and (name := next(names, None)) is not None:
                    waiting.append(threads.submit(_load, folder, name))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _has_room(waiting: deque[Future[Loaded]]) -> bool:
    """Return whether a further picture may be begun; one always is."""
    held = sum(_num_bytes(future.result()) for future in waiting if future.done())
    return len(waiting) < MOST_AHEAD and held < MOST_BYTES


def _num_bytes(loaded: Loaded) -> int:
    return 0 if isinstance(loaded, Failure) else loaded[1].nbytes


def _load(folder: Path, image_id: str) -> Loaded:
    try:
        return image_id, load_image(folder / image_id)
    except (OSError, ValueError) as error:
        return Failure(image_id, str(error))


def _batches(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    """Join pictures until they are many or large."""
    batch: list[Loaded] = []
    for item in loaded:
        batch.append(item)
        if len(batch) == BATCH or sum(map(_num_bytes, batch)) >= MOST_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _look(
    extractor: RegionExtractor, batch: Sequence[Loaded], settings: ExtractionSettings
) -> Iterator[Extracted]:
    """Yield the regions of each picture of a batch, in order; draw them first."""
    pictures = [item for item in batch if not isinstance(item, Failure)]
    found = iter(_find(extractor, [pixels for _, pixels in pictures], settings))
    for item in batch:
        if isinstance(item, Failure):
            yield item
            continue
        image_id, pixels = item
        regions = next(found)
        if isinstance(regions, str):
            yield Failure(image_id, f"{image_id}: {regions}")
            continue
        if settings.figures is not None:
            _draw(settings.figures / f"{image_id}.png", pixels, regions, name_regions(extractor, regions))
        yield image_id, regions


def _find(
    extractor: RegionExtractor, pictures: list[Pixels], settings: ExtractionSettings
) -> list[Regions | str]:
    """Return the regions of each picture, or why there are none."""
    if not pictures:
        return []
    try:
        found = extractor(pictures, num_regions=settings.num_regions)
    except ValueError as error:
        if len(pictures) == 1:
            return [str(error)]
        # One of them is to blame: the others must not suffer.
        return [item for picture in pictures for item in _find(extractor, [picture], settings)]
    return [_check_finite(regions, settings.dtype) for regions in found]


def _check_finite(regions: Regions, dtype: str) -> Regions | str:
    """Return the regions, or what keeps their features from being stored."""
    largest = float(np.abs(regions.features).max(initial=0))
    if largest <= float(np.finfo(dtype).max):  # not so for NaN
        return regions
    return f"it has features up to {largest}, which {dtype} cannot hold: store float32, or mend it"


def name_regions(extractor: RegionExtractor, regions: Regions) -> list[str]:
    """Name each region by its surest attribute and its object."""
    if not regions.found:
        return ["whole image"] * len(regions)
    names = [extractor.object_names[object_id] for object_id in regions.object_ids]
    if not regions.attribute_ids.shape[1]:
        return names
    best = regions.attribute_scores.argmax(axis=1)[:, None]
    attributes = np.take_along_axis(regions.attribute_ids, best, axis=1)[:, 0]
    return [
        f"{extractor.attribute_names[attribute]} {name}"
        for attribute, name in zip(attributes, names, strict=True)
    ]


def _draw(path: Path, pixels: Pixels, regions: Regions, labels: list[str]) -> None:
    """Save a drawing under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    draw_regions(pixels, regions.boxes, labels=labels).save(partial, format="PNG")
    partial.replace(path)


def _check_apart(images: Path, figures: Path | None) -> None:
    """Refuse to put drawings where the next run would take them for pictures."""
    if figures is not None and figures.resolve().is_relative_to(images.resolve()):
        raise ValueError(f"--figures {figures} lies among the pictures: name a folder elsewhere")
