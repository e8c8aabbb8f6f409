"""Checks weights and stores for damage, and compares a detector with published features."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert import boxes as box_arithmetic
from lxmert.data.image_folder import ImageFolder
from lxmert.data.store import RegionStore, is_finished
from lxmert.data.tsv import OBJECTS, read_tsv
from lxmert.images import Pixels
from lxmert.model.checkpoints import read_folder, read_weights
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.preprocess import load_image
from lxmert.schema import FloatArray, Regions
from lxmert.tensor_files import find_faults
from lxmert.weight_files import describe_faults
from lxmert.workflows.extraction import load_for_extraction
from lxmert.workflows.inspection import FileKind, inspect, recognize

EQUAL_IOU = 0.99
"""IoU above which two regions count as equal."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verdict:
    """Result of the check of a file or folder.

    Attributes:
        path: the file or folder.
        kind: its type, as in `lxmert info`.
        facts: what was checked, by name.
        problems: damage and missing or unknown parts; empty if there are none.
    """

    path: str
    kind: str
    facts: dict[str, object]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """Agreement of a detector with the published features of an image.

    Attributes:
        image_id: id of the image.
        regions: fraction of its published regions that the detector also finds, with an IoU above
            `EQUAL_IOU`.
        feature_cosine: mean cosine similarity to the published features, for the published boxes;
            None if the widths differ.
        lowest_cosine: the minimum instead of the mean.
        objects: fraction of the published boxes with the same object class; None if the detector
            has other classes.
        attributes: the same for attributes.
    """

    image_id: str
    regions: float
    feature_cosine: float | None = None
    lowest_cosine: float | None = None
    objects: float | None = None
    attributes: float | None = None


EXPECTED = Agreement("expected", regions=0.95, feature_cosine=0.999, objects=0.98)
"""Minimum agreement of the published weights with the preset "caffe", as mean over images.

It is below 1 because rounding changes the order of regions with almost equal scores.
"""


def verify(path: str | Path, *, progress: Progress = lambda done, total: None) -> Verdict:  # noqa: ARG005
    """Check a file or folder for damage, without running any code in it.

    Args:
        path: region store, or weights of any type that `lxmert info` knows.
        progress: called with the number of images of a store that were read, and of all.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if its type is unknown, or it cannot be read as the type that it appears to
            have.
    """
    path = Path(path)
    if recognize(path) == FileKind.STORE:
        return _verify_store(path, progress)
    report = inspect(path)
    problems = report.problems + _faults_of(path, report.kind)
    facts = report.facts | {"parameters": sum(report.parameters.values())}
    if report.kind == FileKind.PUBLISHED and not problems:
        facts |= {"all tensors": "accounted for", "notes": " ".join(report.notes)}
    return Verdict(report.path, report.kind, facts, problems)


def _faults_of(path: Path, kind: str) -> tuple[str, ...]:
    """Return problems of the values of LXMERT weights, which `inspect` does not read."""
    if kind not in (FileKind.MODEL, FileKind.ORIGINAL):
        return ()  # the weights of a detector were already read
    faults = find_faults(read_folder(path) if path.is_dir() else read_weights(path))
    return (f"of its tensors, {describe_faults(faults)}",) if faults else ()


def _verify_store(folder: Path, progress: Progress) -> Verdict:
    if not is_finished(folder):
        problem = "it is not finished: rerun the interrupted command to resume it"
        return Verdict(str(folder), FileKind.STORE, {}, (problem,))
    try:
        store = RegionStore(folder)
    except ValueError as error:
        return Verdict(str(folder), FileKind.STORE, {}, (str(error),))
    damages = store.verify(progress=progress)
    facts: dict[str, object] = {
        "images": len(store),
        "failed": store.num_failed,
        "fingerprint": store.header.fingerprint,
    }
    problems = [
        f"{damage.file}{f', image {damage.image_id!r}' if damage.image_id else ''}: "
        f"{damage.problem}"
        for damage in damages
    ]
    return Verdict(str(folder), FileKind.STORE, facts, tuple(problems))


def verify_rows(
    path: Path,
    images: Path,
    rows: Path,
    preset: str | None = None,
    *,
    device: str = "cpu",
    progress: Progress,
) -> dict[str, Any]:
    """Compare a detector with published features, and list what falls short.

    Args:
        path: detector.
        images: as for `compare_rows`.
        rows: as for `compare_rows`.
        preset: as for `load_for_extraction`.
        device: where to compute.
        progress: as for `compare_rows`.

    Returns:
        `photos`, a list, `mean` and `expected`, each with the fields of `Agreement`, and
        `problems`, one sentence each.

    Raises:
        ValueError: if the path is not a detector.
    """
    kind = recognize(path)
    if kind not in (FileKind.DETECTOR, FileKind.PUBLISHED):
        raise ValueError(f"{path} ({kind}) is not a detector: leave out --images and --rows")
    extractor = load_for_extraction(path, preset=preset, device=device)
    assert isinstance(extractor, DetectorExtractor)
    photos = compare_rows(extractor, images, rows, progress=progress)
    mean = average(photos)
    return {
        "photos": [asdict(photo) for photo in photos],
        "mean": asdict(mean),
        "expected": asdict(EXPECTED),
        "problems": find_disagreements(mean),
    }


def compare_rows(
    extractor: DetectorExtractor,
    images: Path,
    rows: Path,
    *,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> list[Agreement]:
    """Compare a detector with published features of images.

    Args:
        extractor: the detector.
        images: image folder; rows and images are matched by name without suffix.
        rows: TSV file of the published features.
        progress: called with the number of finished rows and of all.

    Raises:
        FileNotFoundError: if an image is missing.
        ValueError: if a row is damaged, or an image has another size than in its row.
    """
    photos = {Path(name).stem: images / name for name in sorted(ImageFolder(images).names)}
    published = list(read_tsv(rows))
    agreements = []
    for done, (image_id, regions) in enumerate(published, start=1):
        if image_id not in photos:
            raise FileNotFoundError(
                f"{images} has no image {image_id}, which {rows} has a row for: name the folder "
                "with all images"
            )
        pixels = _load(photos[image_id], regions)
        agreements.append(compare(extractor, image_id, pixels, regions))
        progress(done, len(published))
    if not agreements:
        raise ValueError(f"{rows} has no rows: name a TSV file with the published regions")
    return agreements


def compare(
    extractor: DetectorExtractor, image_id: str, pixels: Pixels, regions: Regions
) -> Agreement:
    """Compare a detector with the published regions of one image.

    Args:
        extractor: the detector.
        image_id: id of the image.
        pixels: `[height, width, 3]` uint8 RGB.
        regions: its published regions.
    """
    (found,) = extractor(
        [pixels], num_regions=min(len(regions), extractor.detector.config.proposals)
    )
    overlaps = box_arithmetic.iou(regions.boxes, found.boxes)
    equal = float((overlaps.max(axis=1) > EQUAL_IOU).mean())
    inside = box_arithmetic.clip(regions.boxes, regions.image_size).astype(np.float32)
    (described,) = extractor([pixels], boxes=[inside])
    cosines = _cosines(described.features, regions.features)
    same_names = len(extractor.object_names) == OBJECTS
    return Agreement(
        image_id,
        regions=equal,
        feature_cosine=None if cosines is None else float(cosines.mean()),
        lowest_cosine=None if cosines is None else float(cosines.min()),
        objects=_share(described.object_ids == regions.object_ids) if same_names else None,
        attributes=_share(described.attribute_ids == regions.attribute_ids) if same_names else None,
    )


def average(agreements: Sequence[Agreement]) -> Agreement:
    """Return the mean over images, and the lowest cosine similarity."""
    columns = [asdict(agreement) for agreement in agreements]
    values = {
        name: None if columns[0][name] is None else float(np.mean([row[name] for row in columns]))
        for name in ("regions", "feature_cosine", "objects", "attributes")
    }
    lows = [row["lowest_cosine"] for row in columns if row["lowest_cosine"] is not None]
    regions = values.pop("regions")
    assert regions is not None
    return Agreement("mean", regions, lowest_cosine=min(lows, default=None), **values)


def find_disagreements(mean: Agreement) -> list[str]:
    """Return the values that are below `EXPECTED`, one sentence each."""
    wanted, reached = asdict(EXPECTED), asdict(mean)
    return [
        f"{name.replace('_', ' ')}: {reached[name]:.4f}, expected at least {least}"
        for name, least in wanted.items()
        if isinstance(least, float) and reached[name] is not None and reached[name] < least
    ]


def _load(path: Path, regions: Regions) -> Pixels:
    pixels = load_image(path)
    if pixels.shape[:2] != regions.image_size:
        raise ValueError(
            f"{path} has {pixels.shape[:2]} pixels (height, width), but its row says "
            f"{regions.image_size}: it is another image, or was resized"
        )
    return pixels


def _cosines(first: FloatArray, second: FloatArray) -> FloatArray | None:
    """Return the cosine similarity of each pair of rows; None if the widths differ."""
    if first.shape != second.shape:
        return None
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(norms, 1e-12), dtype=np.float32)


def _share(equal: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(equal.mean())
