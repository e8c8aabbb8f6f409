"""The published detector from one of its files, with the names of what it knows."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lxmert.regions.checkpoints import load_published
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.layouts import PREDICTOR

OBJECTS_FILE, ATTRIBUTES_FILE = "objects_vocab.txt", "attributes_vocab.txt"
"""Lists of names that are read if they lie beside the weights: a line for each name, in the order
of ids; synonyms follow after a comma."""

PUBLISHED_NAMES = ("pytorch_model.bin",)
"""What a folder of the published detector holds, and no folder of ours."""

_logger = logging.getLogger(__name__)


def load_published_detector(
    path: str | Path,
    *,
    preset: str = "caffe",
    object_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
) -> Detector:
    """Load the published ResNet-101 detector.

    Names are part of the fingerprint, as the ids in a store mean nothing without them: give them
    before the first extraction.

    Args:
        path: what `lxmert.regions.checkpoints.load_published` reads: a `.caffemodel`, a detectron2
            `.pkl`, a `.pth`, a `.bin` with its `config.yaml`, or a folder with one of the latter.
        preset: the program whose preprocessing and choice of regions are followed; "caffe" wrote
            the features that LXMERT was trained on, 36 regions for each image.
        object_names: by class id, 1600. Absent: those of `objects_vocab.txt` beside the weights;
            without one `object 0`, `object 1`, ...
        attribute_names: by attribute id, 400; absent: likewise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another kind, or there are more or fewer names.
    """
    path = Path(path)
    published = load_published(path)
    for note in published.notes:
        _logger.info("%s: %s", path, note)
    folder = path if path.is_dir() else path.parent
    counts = {
        part: len(published.state[f"{PREDICTOR}.{part}.bias"]) - 1
        for part in ("cls_score", "attr_score")
    }
    config = DetectorConfig.preset(
        preset,
        object_names=_choose_names(
            "object", object_names, folder / OBJECTS_FILE, counts["cls_score"]
        ),
        attribute_names=_choose_names(
            "attribute", attribute_names, folder / ATTRIBUTES_FILE, counts["attr_score"]
        ),
    )
    detector = Detector(config)
    detector.load_state_dict(published.state)
    return detector.eval()


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a list of names: a line for each, of whose synonyms the first is taken.

    Raises:
        ValueError: naming the line that is empty.
    """
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    names = tuple(line.split(",")[0].strip() for line in lines)
    if "" in names:
        raise ValueError(f"{path}, line {names.index('') + 1}, is empty; expected a name in each.")
    return names


def _choose_names(
    kind: str, given: Sequence[str] | None, path: Path, count: int
) -> tuple[str, ...]:
    """Return names that were given, or those of a file, or numbers."""
    if given is None and not path.is_file():
        return tuple(f"{kind} {index}" for index in range(count))
    names = read_names(path) if given is None else tuple(given)
    if len(names) != count:
        source = str(path) if given is None else f"{kind}_names"
        raise ValueError(
            f"Got {len(names)} names in {source}; expected {count}, one for each {kind} that the "
            "detector knows, background and 'none' left out."
        )
    return names
