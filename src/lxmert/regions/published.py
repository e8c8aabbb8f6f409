"""Loads the published detector from one of its files, with its class and attribute names."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lxmert.regions.checkpoints import load_published
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.layouts import PREDICTOR
from lxmert.vocabularies import ATTRIBUTES, NUM_ATTRIBUTES, NUM_OBJECTS, OBJECTS

OBJECTS_FILE, ATTRIBUTES_FILE = "objects_vocab.txt", "attributes_vocab.txt"
"""Name lists that are read if they are next to the weights: one name per line, in the order of
ids; synonyms follow after a comma."""

PUBLISHED_NAMES = ("pytorch_model.bin",)
"""Files that identify a folder of the published detector."""

_PUBLISHED_LISTS = {"object": (NUM_OBJECTS, OBJECTS), "attribute": (NUM_ATTRIBUTES, ATTRIBUTES)}
"""Length and file of the published list of each kind of name."""

_logger = logging.getLogger(__name__)


def load_published_detector(
    path: str | Path,
    *,
    preset: str = "caffe",
    object_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
) -> Detector:
    """Load the published ResNet-101 detector.

    Names are part of the fingerprint, because ids in a region store depend on them: pass them
    before the first extraction.

    Args:
        path: a `.caffemodel`, a detectron2 `.pkl`, a `.pth`, a `.bin` with its `config.yaml`, or a
            folder, as for `lxmert.regions.checkpoints.load_published`.
        preset: the program whose preprocessing and region selection are used; "caffe" wrote the
            features that LXMERT was trained on, 36 regions for each image.
        object_names: names by class id. None: those of `objects_vocab.txt` next to the weights;
            without such a file the published names of the 1600 classes, or `object 0`, `object 1`,
            ... if the detector has another number of classes.
        attribute_names: names of the 400 attributes by id. None: likewise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another kind, or the number of names is wrong.
    """
    path = Path(path)
    published = load_published(path)
    for note in published.notes:
        _logger.debug("%s: %s", path, note)  # `lxmert verify` shows them
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
    """Read a list of names, one per line; of comma-separated synonyms the first is used.

    Raises:
        ValueError: if a line is empty.
    """
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    names = tuple(line.split(",")[0].strip() for line in lines)
    if "" in names:
        raise ValueError(
            f"{path}, line {names.index('') + 1}, is empty; expected one name per line: fill it in"
        )
    return names


def _choose_names(
    kind: str, given: Sequence[str] | None, path: Path, count: int
) -> tuple[str, ...]:
    """Return the given names, or those of a file, the published ones, or numbered names."""
    if given is None and not path.is_file():
        packaged = _PUBLISHED_LISTS[kind]
        if count == packaged[0]:
            return read_names(packaged[1])
        return tuple(f"{kind} {index}" for index in range(count))
    names = read_names(path) if given is None else tuple(given)
    if len(names) != count:
        source = str(path) if given is None else f"{kind}_names"
        raise ValueError(
            f"got {len(names)} names in {source}; expected {count}, one for each {kind} that the "
            "detector predicts, without background and 'none': correct the list"
        )
    return names
