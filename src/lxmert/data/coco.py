"""Reads objects and their attributes from JSON files in the format of COCO's detection task.

Two things are ours, both optional: an annotation may list its `attributes` by name, and
`attribute_groups` says which of them exclude each other.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert import boxes as box_arithmetic
from lxmert.schema import FloatArray, IntArray

LOGGER = logging.getLogger(__name__)
BORDER = 1.0
"""Pixels by which a box may stick out of its image: published files are rounded both ways."""


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
        visible: `[objects]`, visible fraction in `[0, 1]`; 1 where the file does not say.
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
        object_names: names of the classes, in the order of the file's categories.
        attribute_groups: attributes by group; all in the group "attribute" if the file has no
            groups, and no group if it has no attributes.
        records: one for each image, those without objects included.
    """

    object_names: tuple[str, ...]
    attribute_groups: Mapping[str, tuple[str, ...]]
    records: tuple[DetectionRecord, ...]


def read_coco(path: str | Path, *, image_folder: str | Path) -> DetectionSplit:
    """Read and check a file of annotations.

    Args:
        path: the JSON file: `images` (`id`, `file_name`, `height`, `width`), `categories` (`id`,
            `name`), `annotations` (`id`, `image_id`, `category_id`, `bbox` as x, y, width,
            height; optional `attributes`, `visible`, `iscrowd`), optional `attribute_groups`.
        image_folder: the folder that the file names are relative to.

    Raises:
        FileNotFoundError: if the file or one of its images is missing.
        ValueError: if an annotation contradicts the rest of the file.
    """
    path, image_folder = Path(path), Path(image_folder)
    content = _read_json(path)
    annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    crowds = 0
    for annotation in content["annotations"]:
        if annotation["image_id"] not in annotations:
            raise ValueError(
                f"{path}: annotation {annotation['id']} belongs to image {annotation['image_id']}, "
                "which is not in `images`: add the image or drop the annotation."
            )
        if annotation.get("iscrowd"):
            crowds += 1
        else:
            annotations[annotation["image_id"]].append(annotation)
    if crowds:
        LOGGER.info("%s: left out %d crowd annotations, which box no single object", path, crowds)
    groups = _attribute_groups(content, path)
    reader = _RecordReader(
        path=path,
        image_folder=image_folder,
        object_ids={entry["id"]: index for index, entry in enumerate(content["categories"])},
        attribute_places=_attribute_places(groups, path),
        num_groups=len(groups),
    )
    records = tuple(reader.record(image, annotations[image["id"]]) for image in content["images"])
    _check_files(records, path)
    return DetectionSplit(
        tuple(str(entry["name"]) for entry in content["categories"]), groups, records
    )


@dataclass(frozen=True)
class _RecordReader:
    """What is needed to read one image's annotations: ids by name, and names for messages."""

    path: Path
    image_folder: Path
    object_ids: Mapping[Any, int]
    attribute_places: Mapping[str, tuple[int, int]]
    num_groups: int

    def record(
        self, image: Mapping[str, Any], annotations: list[dict[str, Any]]
    ) -> DetectionRecord:
        """Join the annotations of one image."""
        size = (int(image["height"]), int(image["width"]))
        boxes = box_arithmetic.from_xywh([entry["bbox"] for entry in annotations])
        for box, entry in zip(boxes, annotations, strict=True):
            self._check_box(box, entry, size)
        attribute_ids = np.full((len(annotations), self.num_groups), -1, dtype=np.int64)
        for row, entry in zip(attribute_ids, annotations, strict=True):
            for name in entry.get("attributes", ()):
                attribute, group = self._place(name, entry)
                if row[group] == -1:  # in a single group of many, the first named attribute counts
                    row[group] = attribute
        return DetectionRecord(
            image_id=str(image["file_name"]),
            image_path=self.image_folder / str(image["file_name"]),
            image_size=size,
            boxes=np.asarray(box_arithmetic.clip(boxes, size), dtype=np.float32),
            object_ids=np.array([self._object_id(entry) for entry in annotations], dtype=np.int64),
            attribute_ids=attribute_ids,
            visible=np.array([entry.get("visible", 1.0) for entry in annotations], np.float32),
        )

    def _check_box(self, box: FloatArray, entry: Mapping[str, Any], size: tuple[int, int]) -> None:
        height, width = size
        inside = (
            bool((box >= -BORDER).all())
            and bool(box[2] <= width + BORDER)
            and bool(box[3] <= height + BORDER)
        )
        if not inside or not box_arithmetic.area(box_arithmetic.clip(box, size)) > 0:
            raise ValueError(
                f"{self.path}: annotation {entry['id']} has the bbox {entry['bbox']}; expected "
                f"[x, y, width, height] with an area inside its image of {width} x {height} "
                "pixels: clip or drop it."
            )

    def _object_id(self, entry: Mapping[str, Any]) -> int:
        if entry["category_id"] not in self.object_ids:
            raise ValueError(
                f"{self.path}: annotation {entry['id']} has the category {entry['category_id']}, "
                f"which is not among the {len(self.object_ids)} in `categories`: add it there."
            )
        return self.object_ids[entry["category_id"]]

    def _place(self, name: str, entry: Mapping[str, Any]) -> tuple[int, int]:
        if name not in self.attribute_places:
            raise ValueError(
                f"{self.path}: annotation {entry['id']} has the attribute {name!r}, which is in "
                f"none of the `attribute_groups`, that know {sorted(self.attribute_places)}: "
                "add it to one."
            )
        return self.attribute_places[name]


def _read_json(path: Path) -> dict[str, Any]:
    """Read the file and check that its three lists are there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Got the annotations {str(path)!r}, which is no file; expected JSON in COCO's "
            "detection format: check the path in the recipe's [data] table."
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); export it again.") from error
    for name in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(
                f"{path} has no list `{name}`; expected COCO's detection format with the lists "
                "images, categories and annotations."
            )
    return content


def _attribute_groups(content: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """Return the file's groups, or one group of all attributes in use."""
    groups = content.get("attribute_groups")
    if groups is None:
        used = {name for entry in content["annotations"] for name in entry.get("attributes", ())}
        return {"attribute": tuple(sorted(used))} if used else {}
    if not isinstance(groups, dict) or not all(groups.values()):
        raise ValueError(
            f"{path}: `attribute_groups` is {groups!r}; expected a name and a list of attributes "
            'for each group, such as {"color": ["red", "blue"]}.'
        )
    return {str(group): tuple(names) for group, names in groups.items()}


def _attribute_places(
    groups: Mapping[str, tuple[str, ...]], path: Path
) -> dict[str, tuple[int, int]]:
    """Return the id and the group's position of each attribute."""
    places: dict[str, tuple[int, int]] = {}
    for group, (label, names) in enumerate(groups.items()):
        for name in names:
            if name in places:
                raise ValueError(
                    f"{path}: the attribute {name!r} is named twice, the second time in the group "
                    f"{label!r}; expected each once: rename one."
                )
            places[name] = (len(places), group)
    return places


def _check_files(records: tuple[DetectionRecord, ...], path: Path) -> None:
    missing = [record.image_path for record in records if not record.image_path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} names {len(missing)} images that are no files, the first of them "
            f"{str(missing[0])!r}; expected all below one folder: check the image folder."
        )
