"""Names of images: which COCO and Visual Genome share, which are held out, which have regions."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from lxmert.data.store import RegionStore
from lxmert.datasets.build import LeftOut
from lxmert.datasets.downloads import Downloads, check_is
from lxmert.metrics.fields import Record, int_field, text_field
from lxmert.metrics.files import read_list

SUBSETS = ("train2014", "val2014")
"""COCO's parts whose sentences may be read."""

_VALIDATION = "COCO_val2014_"
_MINIVAL, _VAL2014 = 5_000, 40_504


def coco_image(subset: str, image_id: int) -> str:
    """Return the name of an image of COCO, without ending."""
    return f"COCO_{subset}_{image_id:012d}"


def read_coco_images(downloads: Downloads, subset: str) -> dict[int, str]:
    """Return the names of the images of a caption file, by number.

    Raises:
        ValueError: if the file is about another part of COCO.
    """
    path = captions_file(downloads, subset)

    def parse(entry: Record) -> tuple[int, str]:
        name = PurePosixPath(text_field(entry, "file_name")).stem
        check_is(path, name.split("_")[1] if name.count("_") == 2 else name, subset, "COCO's")
        return int_field(entry, "id"), name

    return dict(read_list(path, parse, member="images"))


def captions_file(downloads: Downloads, subset: str) -> Path:
    """Return COCO's caption file of a part."""
    return downloads.find(f"captions_{subset}.json", fetch="coco-captions")


def read_partners(downloads: Downloads, left_out: LeftOut) -> dict[str, str]:
    """Return for each image of Visual Genome that COCO has too, COCO's name of it."""
    names = {
        number: name
        for subset in SUBSETS
        for number, name in read_coco_images(downloads, subset).items()
    }
    partners = {}

    def parse(entry: Record) -> tuple[str, int | None]:
        shared = None if entry.get("coco_id") is None else int_field(entry, "coco_id")
        return str(int_field(entry, "image_id")), shared

    for image, coco_id in read_list(downloads.find("image_data.json", fetch="vg-regions"), parse):
        if coco_id in names:
            partners[image] = names[coco_id]
        elif coco_id is not None:
            left_out.add("COCO's number is in neither train2014 nor val2014: not joined", image)
    return partners


def held_out(minival: Path | None) -> Callable[[str], bool]:
    """Return what tells whether an image is kept for validation.

    Args:
        minival: names the images: the original's `mscoco_minival.json` or `minival.json`, a COCO
            file with `images`, or one name on each line; None: about 5,000 of the 40,504 images of
            val2014, chosen by the SHA-256 of their names.

    Raises:
        ValueError: if a name is not one of val2014.
    """
    if minival is None:
        return _is_chosen
    names = frozenset(PurePosixPath(name).stem for name in _read_names(minival))
    strange = next((name for name in sorted(names) if not name.startswith(_VALIDATION)), None)
    if strange is not None or not names:
        raise ValueError(
            f"{minival} names {strange or 'no image'}, but only images of val2014, such as "
            f"{_VALIDATION}000000000042, may be held out"
        )
    return names.__contains__


def _is_chosen(image: str) -> bool:
    """Return whether the hash of a name of val2014 is among the lowest of its share."""
    if not image.startswith(_VALIDATION):
        return False
    draw = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big")
    return draw * _VAL2014 < _MINIVAL << 64


def _read_names(path: Path) -> Iterable[str]:
    """Return the names of images in a file of one of several kinds."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with the images to hold out")
    with path.open(encoding="utf-8-sig") as file:
        first = file.read(1)
    if first == "[":
        return list(read_list(path, lambda entry: text_field(entry, "img_id")))
    if first == "{":
        return list(read_list(path, lambda entry: text_field(entry, "file_name"), member="images"))
    return path.read_text(encoding="utf-8-sig").split()


class StoredImages:
    """The ids of images that have regions, found by their official names.

    Attributes:
        missing: official names that were asked for and are in no store, with how often.
    """

    def __init__(self, stores: Iterable[str | Path]) -> None:
        """Read the ids of all stores; an id is an official name, with folder and ending or not."""
        self.missing: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        for folder in stores:
            for image_id in RegionStore(folder).image_ids:
                other = self._ids.setdefault(_stem(image_id), image_id)
                if other != image_id:
                    raise ValueError(
                        f"{other!r} and {image_id!r} of the region stores may both be the image "
                        f"{_stem(image_id)!r}: leave one of the stores out"
                    )

    def resolve(self, name: str) -> str | None:
        """Return the id of an image; None, and remember it, where it is in no store."""
        found = self._ids.get(name)
        if found is None:
            self.missing[name] = self.missing.get(name, 0) + 1
        return found

    def list_missing(self) -> str:
        """Return a text with a line for each missing image."""
        return "".join(f"{json.dumps(name)[1:-1]}\n" for name in sorted(self.missing))


def _stem(image_id: str) -> str:
    """Return an id without folder and without the ending of an image."""
    path = PurePosixPath(image_id)
    return path.stem if path.suffix.lower() in (".jpg", ".jpeg", ".png") else path.name
