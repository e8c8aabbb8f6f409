"""Whether weights and stores are whole, and whether eyes see what the published rows say."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert import boxes as box_arithmetic
from lxmert.data.image_folder import ImageFolder
from lxmert.data.store import RegionStore
from lxmert.data.store_layout import HEADER
from lxmert.data.tsv import OBJECTS, read_tsv
from lxmert.images import Pixels
from lxmert.model.checkpoints import read_folder, read_weights
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.preprocess import load_image
from lxmert.schema import FloatArray, Regions
from lxmert.tensor_files import describe_faults, find_faults
from lxmert.workflows.extraction import load_for_extraction
from lxmert.workflows.inspection import (
    DETECTOR,
    MODEL,
    ORIGINAL,
    PUBLISHED,
    STORE,
    inspect,
    recognise,
)

EQUAL_IOU = 0.99
"""Regions that overlap by more are the same region."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verdict:
    """What was found out about a file or folder.

    Attributes:
        path: where it is.
        kind: what it is, as `lxmert info` names it.
        facts: what was looked at, by name.
        problems: what is damaged, missing or unknown; empty if it is sound.
    """

    path: str
    kind: str
    facts: dict[str, object]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """How far eyes agree with the published row of a photo.

    Attributes:
        image_id: the row's.
        regions: share of its regions that the eyes find as well, with an IoU above `EQUAL_IOU`.
        feature_cosine: mean cosine of the features of its boxes, described by the eyes, to the
            published ones; None if they are not as wide.
        lowest_cosine: the lowest of them.
        objects: share of its boxes that the eyes give the same object; None if they know other
            objects.
        attributes: the same for attributes.
    """

    image_id: str
    regions: float
    feature_cosine: float | None = None
    lowest_cosine: float | None = None
    objects: float | None = None
    attributes: float | None = None


EXPECTED = Agreement("expected", regions=0.95, feature_cosine=0.999, objects=0.98)
"""What the published weights reach with the preset "caffe", in the mean over the photos.

Not all of it, as rounding decides between regions that score almost alike.
"""


def verify(path: str | Path, *, progress: Progress = lambda done, total: None) -> Verdict:  # noqa: ARG005
    """Check that a file or folder is whole; nothing of it is run.

    Args:
        path: region store, or weights of any kind that `lxmert info` knows.
        progress: called with the images of a store that were read, and all.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is nothing that is known, or the file cannot be read as what it looks
            like; the message says what it looks like.
    """
    path = Path(path)
    if recognise(path) == STORE:
        return _verify_store(path, progress)
    report = inspect(path)
    problems = report.problems + _faults_of(path, report.kind)
    facts = report.facts | {"parameters": sum(report.parameters.values())}
    if report.kind == PUBLISHED and not problems:
        facts |= {"all tensors": "accounted for", "notes": " ".join(report.notes)}
    return Verdict(report.path, report.kind, facts, problems)


def _faults_of(path: Path, kind: str) -> tuple[str, ...]:
    """Return what is wrong with the values of an LXMERT, which `inspect` does not read."""
    if kind not in (MODEL, ORIGINAL):
        return ()  # a detector is read as a whole
    faults = find_faults(read_folder(path) if path.is_dir() else read_weights(path))
    return (f"of its tensors, {describe_faults(faults)}",) if faults else ()


def _verify_store(folder: Path, progress: Progress) -> Verdict:
    if not (folder / HEADER).is_file():
        problem = "it is not finished: the command that was interrupted goes on with it"
        return Verdict(str(folder), STORE, {}, (problem,))
    try:
        store = RegionStore(folder)
    except ValueError as error:
        return Verdict(str(folder), STORE, {}, (str(error),))
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
    return Verdict(str(folder), STORE, facts, tuple(problems))


def verify_rows(
    path: Path,
    images: Path,
    rows: Path,
    preset: str | None = None,
    *,
    device: str = "cpu",
    progress: Progress,
) -> dict[str, Any]:
    """Let a detector look at photos whose regions were published, and judge it.

    Args:
        path: the detector.
        images: as for `compare_rows`.
        rows: as for `compare_rows`.
        preset: as for `load_for_extraction`.
        device: where to compute.
        progress: as for `compare_rows`.

    Returns:
        `photos`, a list, `mean` and `expected`, each with the fields of `Agreement`, and
        `problems`, what falls short, one sentence each.

    Raises:
        ValueError: if it is no detector.
    """
    kind = recognise(path)
    if kind not in (DETECTOR, PUBLISHED):
        raise ValueError(f"{path} is a {kind}: photos with --images and --rows are for detectors")
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
    """Let eyes look at photos whose regions were published, and compare.

    Args:
        extractor: the detector.
        images: folder of the photos; a row belongs to the photo of its name, whatever its ending.
        rows: TSV file of the published rows.
        progress: called with the numbers of rows done and in all.

    Raises:
        FileNotFoundError: if a photo is missing.
        ValueError: if a row is damaged, or a photo has another size than its row says.
    """
    photos = {Path(name).stem: images / name for name in sorted(ImageFolder(images).names)}
    published = list(read_tsv(rows))
    agreements = []
    for done, (image_id, regions) in enumerate(published, start=1):
        if image_id not in photos:
            raise FileNotFoundError(
                f"{images} has no photo {image_id}, which {rows} has a row for: name the folder "
                "with all of them"
            )
        pixels = _load(photos[image_id], regions)
        agreements.append(compare(extractor, image_id, pixels, regions))
        progress(done, len(published))
    if not agreements:
        raise ValueError(f"{rows} has no row: there is nothing to compare with")
    return agreements


def compare(
    extractor: DetectorExtractor, image_id: str, pixels: Pixels, regions: Regions
) -> Agreement:
    """Compare what eyes see in one photo with its published regions.

    Args:
        extractor: the detector.
        image_id: of the photo.
        pixels: `[height, width, 3]` uint8 RGB.
        regions: the published ones.
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
    """Return the mean over photos; the lowest cosine of all."""
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
    """Return what falls short of `EXPECTED`, one sentence each."""
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
            f"{path} has {pixels.shape[:2]} pixels (height, width), its row says "
            f"{regions.image_size}: it is another photo, or was resized"
        )
    return pixels


def _cosines(first: FloatArray, second: FloatArray) -> FloatArray | None:
    """Return the cosine of each pair of rows; None if they are not as wide."""
    if first.shape != second.shape:
        return None
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(norms, 1e-12), dtype=np.float32)


def _share(equal: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(equal.mean())
