"""From a folder of pictures to a region store."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lxmert.data.store import RegionStore, StoreHeader
from lxmert.schema import Regions
from lxmert.vision.extract import RegionExtractor

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

    Args:
        images: folder of pictures; an image id is the path below it.
        output: the store.
        eyes: folder of the extractor.
        precision: of its convolutions, `fp32` or `bf16`.
        progress: called with the numbers of pictures done and in all.

    Raises:
        FileNotFoundError: if the folder holds no picture.
        FileExistsError: if the store is finished already.
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

    def extract(remaining: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        done = len(image_ids) - len(remaining)
        for pair in extractor.stream(_locate(images, remaining)):
            done += 1
            progress(done, len(image_ids))
            yield pair

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


def _locate(folder: Path, image_ids: Iterable[str]) -> Iterator[tuple[str, Path]]:
    return ((image_id, folder / image_id) for image_id in image_ids)
