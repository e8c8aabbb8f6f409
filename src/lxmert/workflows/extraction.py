"""Extracts the regions of a folder of images into a region store."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lxmert.data.image_folder import IMAGE_ENDINGS, ImageFolder
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.store_layout import UNIT
from lxmert.data.store_writing import Extracted
from lxmert.explain.figures import draw_regions, save_image
from lxmert.exported import ExportedModel, is_exported
from lxmert.hub import find_extractor, find_model
from lxmert.images import Pixels
from lxmert.regions.cells import cell_labels
from lxmert.regions.exported import ExportedDetector
from lxmert.regions.extract import DetectorExtractor, find_folder
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.regions.inference import Precision
from lxmert.regions.published import load_published_detector, read_names
from lxmert.schema import Failure, Regions
from lxmert.workflows.reading import Loaded, join_batches, load_ahead

_DETECTORS = (DetectorExtractor, ExportedDetector)
"""Extractors with a choice of the number of regions."""

_MOST_WORKERS = 256
_MOST_SHARD_IMAGES = 100_000


@dataclass(frozen=True)
class ExtractionSettings:
    """Settings of an extraction.

    Attributes:
        dtype: data type of the stored features, `float16` or `float32`.
        num_regions: regions per image, or minimum and maximum; absent: the extractor's default.
        workers: number of image-loading threads.
        figures: folder for drawings of the images with their regions; absent: no drawings.
        shard_images: images per shard of the store.
    """

    dtype: str = "float16"
    num_regions: int | tuple[int, int] | None = None
    workers: int = 2
    figures: Path | None = None
    shard_images: int = UNIT

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise ValueError(
                f"--workers is {self.workers}: 1 to {_MOST_WORKERS} threads can be used"
            )
        if not 1 <= self.shard_images <= _MOST_SHARD_IMAGES:
            raise ValueError(
                f"--shard-images is {self.shard_images}: expected 1 to {_MOST_SHARD_IMAGES:,}"
            )


def extract_folder(
    images: Path,
    output: Path,
    extractor: RegionExtractor,
    settings: ExtractionSettings | None = None,
    *,
    image_ids: Sequence[str] | None = None,
    progress: Callable[[int, int], None],
) -> RegionStore:
    """Extract the regions of the images in a folder; resumes an interrupted run.

    Images that cannot be read, or that the extractor rejects, are listed in the store's `failures`
    and retried by the next run. Memory: that of the extractor, twice `reading.MOST_BYTES`, and one
    image per worker.

    Args:
        images: image folder; an image id is a path relative to it.
        output: region store to write.
        extractor: the region extractor.
        settings: absent: `ExtractionSettings()`.
        image_ids: images to extract; absent: all in the folder and below.
        progress: called with the number of finished images and of all.

    Raises:
        FileNotFoundError: if the folder has no image.
        FileExistsError: if the store is already finished and complete.
    """
    settings = settings or ExtractionSettings()
    _check_apart(images, settings.figures)
    image_ids = find_images(images) if image_ids is None else image_ids
    size = settings.shard_images

    def extract(remaining: Sequence[str]) -> Iterator[Extracted]:
        done = len(image_ids) - len(remaining)
        progress(done, len(image_ids))
        # Batches end with shards, so that the workers of a cluster form the same ones.
        ends = [*range((done // size + 1) * size, len(image_ids), size), len(image_ids)]
        for end in ends:
            part = remaining[: end - done]
            remaining = remaining[end - done :]
            for item in extract_images(images, part, extractor, settings):
                yield item
                done += 1
                progress(done, len(image_ids))

    return RegionStore.write(
        output, image_ids, extract, store_header(extractor, settings), shard_images=size
    )


def store_header(extractor: RegionExtractor, settings: ExtractionSettings) -> StoreHeader:
    """Return the header of a store of these regions.

    Raises:
        ValueError: if the extractor does not support the number of regions.
    """
    _check_number(extractor, settings.num_regions)
    return StoreHeader(
        fingerprint=extractor.fingerprint,
        feature_dim=extractor.feature_dim,
        dtype=settings.dtype,
        precision=extractor.precision,
        object_names=extractor.object_names,
        attribute_names=extractor.attribute_names,
        num_regions=_limits(settings.num_regions),
    )


def extract_images(
    folder: Path,
    image_ids: Sequence[str],
    extractor: RegionExtractor,
    settings: ExtractionSettings,
) -> Iterator[Extracted]:
    """Yield the regions of images in order, or why there are none; drawings are saved."""
    with warnings.catch_warnings():
        # Reading an image sets this filter temporarily, which is not thread-safe.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for batch in join_batches(load_ahead(folder, image_ids, workers=settings.workers)):
            yield from _extract_batch(extractor, batch, settings)


def load_for_extraction(
    path: Path | None,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    preset: str | None = None,
    objects: Path | None = None,
    attributes: Path | None = None,
) -> RegionExtractor:
    """Load a region extractor, with options for published detectors.

    Args:
        path: what `load_extractor` reads, a published detector by name, or the folder of an
            exported model; absent: the extractor of the bundled model.
        device: where to compute.
        precision: as for `load_extractor`.
        preset: preset of a published detector; absent: "caffe".
        objects: file with the object names, one per line; absent: the one next to the detector.
        attributes: the same for the attribute names.

    Raises:
        ValueError: if an option is given for an extractor whose configuration already defines it.
    """
    if path is None:
        path = find_model(None) / EXTRACTOR_FOLDER
    path = find_extractor(path)
    if is_exported(path):
        if precision != "fp32" or any((preset, objects, attributes)):
            raise ValueError(
                f"{path} is an exported model, which defines precision and names: leave "
                "--precision, --preset, --objects and --attributes out"
            )
        return ExportedModel(path).extractor
    if preset is None and objects is None and attributes is None:
        return load_extractor(path, device=device, precision=precision)
    if find_folder(path) is not None:
        raise ValueError(
            f"{path} has a configuration with preset and names: --preset, --objects and "
            "--attributes are only for files of a published detector, leave them out"
        )
    detector = load_published_detector(
        path,
        preset=preset or "caffe",
        object_names=None if objects is None else read_names(objects),
        attribute_names=None if attributes is None else read_names(attributes),
    )
    return DetectorExtractor(detector, device=device, precision=precision)


def find_images(folder: Path) -> list[str]:
    """Return the sorted relative paths of all images in a folder and below."""
    found = sorted(ImageFolder(folder).names)
    if not found:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        raise FileNotFoundError(f"no image below {folder}: expected files ending in {endings}")
    return found


def parse_num_regions(text: str) -> int | tuple[int, int]:
    """Parse a number of regions such as `36`, or a range such as `10-100`."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise ValueError(
            f"--num-regions is {text!r}: expected a number, or a range like 10-100, from 1 on"
        )
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _extract_batch(
    extractor: RegionExtractor, batch: Sequence[Loaded], settings: ExtractionSettings
) -> Iterator[Extracted]:
    """Yield the regions of each image of a batch, in order, after drawing them."""
    images = [item for item in batch if not isinstance(item, Failure)]
    found = iter(find_regions(extractor, [pixels for _, pixels in images], settings))
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
            labels = name_regions(extractor, regions)
            _draw(settings.figures / _figure_name(image_id), pixels, regions, labels)
        yield image_id, regions


def find_regions(
    extractor: RegionExtractor, images: list[Pixels], settings: ExtractionSettings
) -> list[Regions | str]:
    """Return the regions of each image, or the reason why there are none."""
    if not images:
        return []
    try:
        found = (
            extractor(images, num_regions=settings.num_regions)
            if isinstance(extractor, _DETECTORS)
            else extractor(images)
        )
    except ValueError as error:
        if len(images) == 1:
            return [str(error)]
        # Find the image that fails; the others are extracted.
        return [item for image in images for item in find_regions(extractor, [image], settings)]
    return [_check_finite(regions, settings.dtype) for regions in found]


def _check_finite(regions: Regions, dtype: str) -> Regions | str:
    """Return the regions, or the reason why their features cannot be stored."""
    largest = float(np.abs(regions.features).max(initial=0))
    if largest <= float(np.finfo(dtype).max):  # False for NaN
        return regions
    return f"it has features up to {largest}, which {dtype} cannot hold: store float32, or fix it"


def name_regions(extractor: RegionExtractor, regions: Regions) -> list[str]:
    """Label each region by its most confident attribute and object; a grid cell by its position."""
    if not regions.found:
        return ["whole image"] * len(regions)
    if not extractor.recognizes:
        return cell_labels(regions.boxes)
    names = [extractor.object_names[object_id] for object_id in regions.object_ids]
    if not regions.attribute_ids.shape[1]:
        return names
    best = regions.attribute_scores.argmax(axis=1)[:, None]
    attributes = np.take_along_axis(regions.attribute_ids, best, axis=1)[:, 0]
    return [
        f"{extractor.attribute_names[attribute]} {name}"
        for attribute, name in zip(attributes, names, strict=True)
    ]


def _figure_name(image_id: str) -> str:
    """Return the relative path of a drawing, a PNG file."""
    return image_id if image_id.lower().endswith(".png") else f"{image_id}.png"


def _draw(path: Path, pixels: Pixels, regions: Regions, labels: list[str]) -> None:
    """Save a drawing atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(draw_regions(pixels, regions.boxes, labels=labels), path)


def _limits(num_regions: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (num_regions, num_regions) if isinstance(num_regions, int) else num_regions


def _check_number(extractor: RegionExtractor, num_regions: int | tuple[int, int] | None) -> None:
    """Raise `ValueError` for a number of regions that the extractor does not support."""
    if num_regions is None:
        return
    if not isinstance(extractor, _DETECTORS):
        raise ValueError(
            f"--num-regions is for detectors, and {type(extractor).__name__} has a fixed number of "
            "regions: leave it out"
        )
    extractor([], num_regions=num_regions)


def _check_apart(images: Path, figures: Path | None) -> None:
    """Raise `ValueError` if drawings would become input images of the next run."""
    if figures is not None and figures.resolve().is_relative_to(images.resolve()):
        raise ValueError(f"--figures {figures} is inside the image folder: name another folder")
