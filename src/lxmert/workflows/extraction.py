"""From a folder of pictures to a region store."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.store_writing import Extracted
from lxmert.schema import Failure
from lxmert.vision.extract import RegionExtractor
from lxmert.vision.preprocess import Pixels, load_image

IMAGE_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def extract_folder(
    images: Path,
    output: Path,
    eyes: Path,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Callable[[int, int], None],
) -> RegionStore:
    """Extract the regions of all pictures below a folder; an interrupted run is taken up again.

    Files that are no pictures are among the store's `failures`, and are tried again next time.

    Args:
        images: folder of pictures; an image id is the path below it.
        output: the store.
        eyes: folder of the extractor.
        precision: of its convolutions, `fp32` or `bf16`.
        progress: called with the numbers of pictures done and in all.

    Raises:
        FileNotFoundError: if the folder holds no picture.
        FileExistsError: if the store is finished already, and no picture is missing from it.
    """
    image_ids = find_images(images)
    extractor = RegionExtractor.from_pretrained(eyes, precision=precision)
    header = StoreHeader(
        extractor=extractor.fingerprint,
        feature_dim=extractor.detector.config.feature_dim,
        dtype="float16",
        precision=precision,
        object_names=extractor.object_names,
        attribute_names=extractor.attribute_names,
    )

    def extract(remaining: Sequence[str]) -> Iterator[Extracted]:
        done = len(image_ids) - len(remaining)
        for item in _stream(extractor, images, remaining):
            done += 1
            progress(done, len(image_ids))
            yield item

    return RegionStore.write(output, image_ids, extract, header)


def find_images(folder: Path) -> list[str]:
    """Return the sorted paths of all pictures below a folder, relative to it."""
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS
    )
    if not found:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        raise FileNotFoundError(f"no picture below {folder}: expected files ending in {endings}")
    return found


def _stream(
    extractor: RegionExtractor, folder: Path, image_ids: Sequence[str]
) -> Iterator[Extracted]:
    """Yield the regions of each picture; what cannot be read follows the batch it was met in."""
    failures: list[Failure] = []

    def load() -> Iterator[tuple[str, Pixels]]:
        for image_id in image_ids:
            try:
                yield image_id, load_image(folder / image_id)
            except (OSError, ValueError) as error:
                failures.append(Failure(image_id, str(error)))

    for pair in extractor.stream(load()):
        yield pair
        while failures:
            yield failures.pop(0)
    yield from failures
