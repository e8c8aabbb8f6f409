"""Image names: shared by COCO and Visual Genome, held out for validation, available as regions."""

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
"""COCO subsets whose sentences may be used."""

_VALIDATION = "COCO_val2014_"
_MINIVAL, _VAL2014 = 5_000, 40_504


def coco_image(subset: str, image_id: int) -> str:
    """Return the name of a COCO image without extension."""
    return f"COCO_{subset}_{image_id:012d}"


def read_coco_images(downloads: Downloads, subset: str) -> dict[int, str]:
    """Return the image names of a caption file by image number.

    Raises:
        ValueError: if the file covers another COCO subset.
    """
    path = captions_file(downloads, subset)

    def parse(entry: Record) -> tuple[int, str]:
        name = PurePosixPath(text_field(entry, "file_name")).stem
        check_is(path, name.split("_")[1] if name.count("_") == 2 else name, subset, "COCO's")
        return int_field(entry, "id"), name

    return dict(read_list(path, parse, member="images"))


def captions_file(downloads: Downloads, subset: str) -> Path:
    """Return the COCO caption file of a subset."""
    return downloads.find(f"captions_{subset}.json", fetch="coco-captions")


def read_partners(downloads: Downloads, left_out: LeftOut) -> dict[str, str]:
    """Map Visual Genome images that COCO also has to their COCO names."""
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
            left_out.add("COCO number in neither train2014 nor val2014: not joined", image)
    return partners


def held_out(minival: Path | None) -> Callable[[str], bool]:
    """Return a function that decides whether an image is held out for validation.

    Args:
        minival: file with the image names: the original `mscoco_minival.json` or `minival.json`, a
            COCO file with `images`, or one name per line. None: about 5,000 of the 40,504 images of
            val2014, selected by the SHA-256 of their names.

    Raises:
        ValueError: if a name does not belong to val2014.
    """
    if minival is None:
        return _is_chosen
    names = frozenset(PurePosixPath(name).stem for name in _read_names(minival))
    strange = next((name for name in sorted(names) if not name.startswith(_VALIDATION)), None)
    if strange is not None or not names:
        raise ValueError(
            f"{minival} names {strange or 'no image'}, expected images of val2014, such as "
            f"{_VALIDATION}000000000042: only these can be held out"
        )
    return names.__contains__


def _is_chosen(image: str) -> bool:
    """Return whether the hash of a val2014 name falls into the held-out fraction."""
    if not image.startswith(_VALIDATION):
        return False
    draw = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big")
    return draw * _VAL2014 < _MINIVAL << 64


def _read_names(path: Path) -> Iterable[str]:
    """Return image names from any of the supported file formats."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path} with the images to hold out: check --minival"
        )
    with path.open(encoding="utf-8-sig") as file:
        first = file.read(1)
    if first == "[":
        return list(read_list(path, lambda entry: text_field(entry, "img_id")))
    if first == "{":
        return list(read_list(path, lambda entry: text_field(entry, "file_name"), member="images"))
    return path.read_text(encoding="utf-8-sig").split()


class StoredImages:
    """Ids of images with regions, found by official image name.

    Attributes:
        missing: number of lookups of each official name that no store has.
    """

    def __init__(self, stores: Iterable[str | Path]) -> None:
        """Read the ids of all stores: official names, optionally with folder and extension."""
        self.missing: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self._numbers: dict[str, str] = {}  # of COCO's images, whose names of 2017 are the number
        for folder in stores:
            for image_id in RegionStore(folder).image_ids:
                stem = _stem(image_id)
                if stem.startswith("COCO_"):
                    self._numbers[stem.rpartition("_")[2]] = image_id
                other = self._ids.setdefault(stem, image_id)
                if other != image_id:
                    raise ValueError(
                        f"the region stores have {other!r} and {image_id!r} for the image "
                        f"{_stem(image_id)!r}, expected one id: remove one of the stores"
                    )

    def resolve(self, name: str) -> str | None:
        """Return the id of an image; None if no store has it, which is counted in `missing`."""
        found = self._ids.get(name) or self._numbers.get(name)
        if found is None:
            self.missing[name] = self.missing.get(name, 0) + 1
        return found

    def list_missing(self) -> str:
        """Return a text with one missing image per line."""
        return "".join(f"{json.dumps(name)[1:-1]}\n" for name in sorted(self.missing))


def _stem(image_id: str) -> str:
    """Return an id without folder and image extension."""
    path = PurePosixPath(image_id)
    return path.stem if path.suffix.lower() in (".jpg", ".jpeg", ".png") else path.name
