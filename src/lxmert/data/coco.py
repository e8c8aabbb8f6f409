"""Reads objects and attributes from JSON files in COCO's detection format.

Two optional keys extend the format: `attributes` lists names for an annotation, and
`attribute_groups` defines which attributes exclude each other.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lxmert import boxes as box_arithmetic
from lxmert.data.report import Case, Finding, Findings
from lxmert.files import child_path, read_json, shorten
from lxmert.images import image_size
from lxmert.names import count
from lxmert.schema import FloatArray, IntArray

LOGGER = logging.getLogger(__name__)
BORDER = 1.0
"""Pixels by which a box may exceed its image: published files are rounded both ways."""
_MAX_SIDE = 1_000_000
"""Maximum side of an image and maximum box coordinate, in pixels."""

_Entry = Mapping[str, Any]

_LISTS = {"image": "images", "category": "categories", "annotation": "annotations"}
_CALLED = {"file_name": "the file", "name": "the category name"}


class Names(NamedTuple):
    """Names of the classes and attributes of a detector.

    Attributes:
        object_names: class names; the class id is the position.
        attribute_groups: attribute names by group.
    """

    object_names: tuple[str, ...]
    attribute_groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DetectionRecord:
    """The objects of one image.

    Attributes:
        image_id: the file's path below the image folder.
        image_path: where the file is.
        image_size: (height, width) in pixels.
        boxes: `[objects, 4]` float32, `(x1, y1, x2, y2)` in absolute pixels.
        object_ids: `[objects]`, 0-based in `DetectionSplit.object_names`.
        attribute_ids: `[objects, groups]`, 0-based in the list of all groups' attributes;
            -1 where unknown.
        visible: `[objects]`, visible fraction in `[0, 1]`; 1 if the file does not specify it.
    """

    image_id: str
    image_path: Path
    image_size: tuple[int, int]
    boxes: FloatArray
    object_ids: IntArray
    attribute_ids: IntArray
    visible: FloatArray


@dataclass(frozen=True)
class DetectionSplit:
    """The content of one file.

    Attributes:
        object_names: class names, in the order of the file's categories.
        attribute_groups: attribute names by group; a single group "attribute" if the file defines
            no groups, and no group if it has no attributes.
        records: one per image, including images without objects.
    """

    object_names: tuple[str, ...]
    attribute_groups: Mapping[str, tuple[str, ...]]
    records: tuple[DetectionRecord, ...]


def read_coco(
    path: str | Path, *, image_folder: str | Path, known: Names | None = None
) -> DetectionSplit:
    """Read and check an annotation file.

    Args:
        path: the JSON file: `images` (`id`, `file_name`, `height`, `width`), `categories` (`id`,
            `name`), `annotations` (`id`, `image_id`, `category_id`, `bbox` as x, y, width, height;
            optional `attributes`, `visible`, `iscrowd`), optional `attribute_groups`. `attributes`
            is a list of names, or an object whose string values are used.
        image_folder: the folder that the file names are relative to.
        known: names of a model, which determine the ids. Other categories and attributes are
            logged and dropped. None: the names of the file.

    Raises:
        FileNotFoundError: if the file or some of its images do not exist.
        ValueError: listing everything in the file that cannot be used.
    """
    path, image_folder = Path(path), Path(image_folder)
    content = _read_lists(path)
    reader = _CocoReader(path, image_folder, Findings())
    split = reader.split(content, known)
    _conclude(path, reader.findings)
    files = Findings()
    for record in split.records:
        _check_image(record, files)
    _conclude(path, files)
    return split


class _Places(NamedTuple):
    """Ids of a file's names: class ids by category id, (attribute id, group) by name."""

    object_ids: Mapping[object, int]
    attributes: Mapping[str, tuple[int, int]]
    num_groups: int


class _CocoReader:
    """Reads one file and collects its problems."""

    def __init__(self, path: Path, image_folder: Path, findings: Findings) -> None:
        self.path = path
        self.image_folder = image_folder
        self.findings = findings

    def found(self, kind: str, detail: str, *, about: str = "") -> None:
        """Record a finding."""
        self.findings.add(kind, Case("", 0, detail), about=about)

    def split(self, content: _Entry, known: Names | None) -> DetectionSplit:
        """Read all usable entries."""
        images = self._by_id("image", content, "file_name", self._image_problem)
        named = self._by_id("category", content, "name", _category_problem)
        categories = {key: entry["name"] for key, entry in named.items()}
        annotations = self._annotations(content, images, categories)
        names = known or Names(
            tuple(categories.values()),
            self._groups(content.get("attribute_groups"), annotations),
        )
        _stop(self.path, self.findings)  # the following steps need all names and ids
        places = self._places(names, categories, known=known is not None)
        by_image: dict[object, list[_Entry]] = {image_id: [] for image_id in images}
        for entry in annotations:
            if entry["category_id"] in places.object_ids:
                by_image[entry["image_id"]].append(entry)
        records = tuple(
            self._record(image, by_image[image_id], places, known=known is not None)
            for image_id, image in images.items()
        )
        if not any(len(record.boxes) for record in records):
            self.found(
                "coco_no_object",
                f"{count(len(records), 'image')}, {count(len(annotations), 'annotation')}",
            )
        return DetectionSplit(names.object_names, names.attribute_groups, records)

    def _by_id(
        self, kind: str, content: _Entry, key: str, problem: Callable[[_Entry], str | None]
    ) -> dict[object, _Entry]:
        """Return the usable entries of a list by id; neither ids nor values of `key` repeat."""
        found: dict[object, _Entry] = {}
        used: set[str] = set()
        for entry, label in self._objects(kind, content):
            wrong = problem(entry)
            if wrong is not None:
                self.found(f"coco_{kind}", f"{label} has {wrong}")
            elif entry["id"] in found:
                self.found("coco_twice", f"{label} is listed twice")
            elif entry[key] in used:
                self.found("coco_twice", f"{_CALLED[key]} {entry[key]!r} is listed twice")
            else:
                found[entry["id"]] = entry
                used.add(entry[key])
        return found

    def _objects(self, kind: str, content: _Entry) -> Iterator[tuple[_Entry, str]]:
        """Yield the entries of a list with their names in messages: the id, or else the place."""
        for number, entry in enumerate(content[_LISTS[kind]], start=1):
            key = entry.get("id") if isinstance(entry, dict) else None
            label = f"{kind} {key!r}" if _is_id(key) else f"{kind} number {number} of the list"
            if isinstance(entry, dict):
                yield entry, label
            else:
                self.found(f"coco_{kind}", f"{label} is {shorten(entry)}; expected an object")

    def _image_problem(self, entry: _Entry) -> str | None:
        if not _is_id(entry.get("id")):
            return f"{_given(entry, 'id')}; expected an integer or a string"
        for side in ("height", "width"):
            if not _is_side(entry.get(side)):
                return f"{_given(entry, side)}; expected a number of pixels"
        if not isinstance(entry.get("file_name"), str):
            return f"{_given(entry, 'file_name')}; expected a path below the image folder"
        try:
            child_path(self.image_folder, entry["file_name"])
        except ValueError as error:
            return f"an invalid file_name: {error}"
        return None

    def _annotations(
        self,
        content: _Entry,
        images: Mapping[object, _Entry],
        categories: Mapping[object, str],
    ) -> list[_Entry]:
        """Return the valid annotations of single objects."""
        usable: list[_Entry] = []
        for entry, label in self._objects("annotation", content):
            problem = _annotation_problem(entry)
            if problem is not None:
                self.found("coco_annotation", f"{label} has {problem}")
            elif entry["image_id"] not in images:
                detail = f"{label} belongs to image {entry['image_id']!r}, which is not in `images`"
                self.found("coco_unknown", detail)
            elif entry["category_id"] not in categories:
                detail = (
                    f"{label} has the category {entry['category_id']!r}, which is not among the "
                    f"{len(categories)} in `categories`"
                )
                self.found("coco_unknown", detail)
            elif entry.get("iscrowd"):
                self.found("coco_crowd", label)
            elif not _is_box(entry.get("bbox")):
                detail = f"{label} has {_given(entry, 'bbox')}; expected [x, y, width, height]"
                self.found("coco_box", detail)
            else:
                usable.append({**entry, "label": label})
        return usable

    def _groups(
        self, groups: object, annotations: Sequence[_Entry]
    ) -> Mapping[str, tuple[str, ...]]:
        """Return the file's attribute groups, or one group of all used attributes."""
        if groups is None:
            used = {name for entry in annotations for name in _attributes(entry)}
            return {"attribute": tuple(sorted(used))} if used else {}
        if not isinstance(groups, dict) or not all(map(_is_group, groups.values())):
            self.found("coco_groups", shorten(groups))
            return {}
        counts = Counter(name for group in groups.values() for name in group)
        for name in (name for name, number in counts.items() if number > 1):
            self.found("coco_groups", f"the attribute {name!r} is listed twice")
        return {group: tuple(names) for group, names in groups.items()}

    def _places(self, names: Names, categories: Mapping[object, str], *, known: bool) -> _Places:
        """Map the names of the file to their ids."""
        ids = {name: number for number, name in enumerate(names.object_names)}
        if known:
            for name in categories.values():
                if name not in ids:
                    self.found("coco_unknown_category", repr(name))
            if categories and not ids.keys() & set(categories.values()):
                few = ", ".join(map(repr, names.object_names[:5]))
                self.found("coco_none_known", f"{self.path} has none of {few}, ...")
        pairs = [
            (name, group)
            for group, listed in enumerate(names.attribute_groups.values())
            for name in listed
        ]
        return _Places(
            {key: ids[name] for key, name in categories.items() if name in ids},
            {name: (number, group) for number, (name, group) in enumerate(pairs)},
            len(names.attribute_groups),
        )

    def _record(
        self, image: _Entry, entries: Sequence[_Entry], places: _Places, *, known: bool
    ) -> DetectionRecord:
        """Combine the annotations of one image."""
        size = (int(image["height"]), int(image["width"]))
        boxes = box_arithmetic.from_xywh([entry["bbox"] for entry in entries])
        clipped = np.asarray(box_arithmetic.clip(boxes, size), dtype=np.float32)
        keep = self._usable_boxes(boxes, clipped, entries, size)
        attribute_ids = np.full((len(entries), places.num_groups), -1, dtype=np.int64)
        for row, entry in zip(attribute_ids, entries, strict=True):
            self._place_attributes(row, entry, places, known=known)
        object_ids = [places.object_ids[entry["category_id"]] for entry in entries]
        return DetectionRecord(
            image_id=image["file_name"],
            image_path=child_path(self.image_folder, image["file_name"]),
            image_size=size,
            boxes=clipped[keep],
            object_ids=np.array(object_ids, dtype=np.int64)[keep],
            attribute_ids=attribute_ids[keep],
            visible=np.array([entry.get("visible", 1.0) for entry in entries], np.float32)[keep],
        )

    def _usable_boxes(
        self,
        boxes: FloatArray,
        clipped: FloatArray,
        entries: Sequence[_Entry],
        size: tuple[int, int],
    ) -> IntArray:
        """Return the indices of the boxes that lie in their image and have an area."""
        height, width = size
        valid = box_arithmetic.are_valid(boxes, size, pixels=BORDER)
        flat = np.asarray(box_arithmetic.area(clipped) <= 0)
        for number in np.flatnonzero(~valid | flat).tolist():
            entry = entries[number]
            detail = f"{entry['label']} has the bbox {entry['bbox']}"
            if not valid[number]:
                detail += (
                    "; expected [x, y, width, height] with an area inside its image of "
                    f"{width} x {height} pixels"
                )
                self.found("coco_box", detail)
            else:
                self.found("coco_flat", detail)
        return np.flatnonzero(valid & ~flat)

    def _place_attributes(
        self, row: IntArray, entry: _Entry, places: _Places, *, known: bool
    ) -> None:
        """Set the attribute ids of one object."""
        for name in _attributes(entry):
            if name in places.attributes:
                attribute, group = places.attributes[name]
                if row[group] == -1:  # the first attribute of a group is used
                    row[group] = attribute
            elif known:
                self.found("coco_unknown_attribute", repr(name), about=name)
            else:
                detail = (
                    f"{entry['label']} has the attribute {name!r}, which is in none of the "
                    "`attribute_groups`"
                )
                self.found("coco_unknown", detail)


def _read_lists(path: Path) -> _Entry:
    """Read the file and check that its three lists are there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"the annotations {str(path)!r} are not a file; expected JSON in COCO's "
            "detection format: check the path in the recipe's [data] table"
        )
    content = read_json(path, remedy="export it again")
    for name in _LISTS.values():
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(
                f"{path} has no list `{name}`; expected COCO's detection format with the lists "
                "images, categories and annotations: export the file again"
            )
    assert isinstance(content, dict)
    return content


def _category_problem(entry: _Entry) -> str | None:
    if not _is_id(entry.get("id")):
        return _given(entry, "id")
    if not isinstance(entry.get("name"), str) or not entry["name"].strip():
        return _given(entry, "name")
    return None


def _annotation_problem(entry: _Entry) -> str | None:
    """Return the problem of an annotation, apart from its box."""
    for key in ("image_id", "category_id"):
        if not _is_id(entry.get(key)):
            return f"{_given(entry, key)}; expected an id"
    visible = entry.get("visible", 1.0)
    if not _is_number(visible) or not 0 <= visible <= 1:
        return f"{_given(entry, 'visible')}; expected a fraction in [0, 1]"
    attributes = entry.get("attributes")
    if isinstance(attributes, list):
        names = all(isinstance(name, str) for name in attributes)
    else:
        names = attributes is None or isinstance(attributes, dict)
    return None if names else f"{_given(entry, 'attributes')}; expected a list of names"


def _attributes(entry: _Entry) -> list[str]:
    """Return the names of an annotation's attributes, without flags and numbers of tools."""
    attributes = entry.get("attributes") or []
    values = attributes.values() if isinstance(attributes, dict) else attributes
    return [value for value in values if isinstance(value, str)]


def _given(entry: _Entry, key: str) -> str:
    return f"the {key} {shorten(entry[key])}" if key in entry else f"no {key}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    return _is_number(value) and 1 <= value <= _MAX_SIDE and value == int(value)


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(_is_number(number) and abs(number) <= _MAX_SIDE for number in value)
    )


def _is_group(names: object) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(n, str) for n in names)


def _check_image(record: DetectionRecord, findings: Findings) -> None:
    """Compare the size in an image's header with the annotated size."""
    if not record.image_path.is_file():
        findings.add("coco_missing_image", Case("", 0, str(record.image_path)))
        return
    try:
        size = image_size(record.image_path)
    except ValueError as error:
        findings.add("coco_broken_image", Case("", 0, f"{record.image_path}, which is {error}"))
        return
    if size != record.image_size:
        detail = (
            f"{record.image_path} has {size} pixels (height, width); the annotations have "
            f"{record.image_size}"
        )
        findings.add("coco_size", Case("", 0, detail))


def _stop(path: Path, findings: Findings) -> None:
    """Raise an error if there are `stop` findings."""
    found = findings.report({}, {}).findings
    stops = [finding for finding in found if finding.severity == "stop"]
    if stops:
        missing = all(finding.kind == "coco_missing_image" for finding in stops)
        error = FileNotFoundError if missing else ValueError
        raise error(f"{path} cannot be used: {'; '.join(map(_describe, stops))}")


def _conclude(path: Path, findings: Findings) -> None:
    """Raise an error if there are `stop` findings; otherwise log the others."""
    _stop(path, findings)
    for finding in findings.report({}, {}).findings:
        level = logging.WARNING if finding.severity == "warn" else logging.INFO
        LOGGER.log(level, "%s: %s", path, _describe(finding))


def _describe(finding: Finding) -> str:
    """Return a finding as text with its first cases."""
    cases = ", ".join(str(case) for case in finding.cases[:3])
    more = ", ..." if finding.count > 3 else ""
    return f"{finding} ({cases}{more})"
