"""Folders of .npz files with regions, one an image, as other extractors write them: imported."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lxmert.data.store import RegionStore
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import Extracted
from lxmert.data.tsv import FEATURE_DIM, Progress, find_fault
from lxmert.schema import Failure, Regions

KEYS: Mapping[str, tuple[str, ...]] = {
    "features": ("x", "features"),
    "boxes": ("bbox", "boxes"),
    "height": ("image_h", "img_h"),
    "width": ("image_w", "img_w"),
}
"""By what is needed, the names under which published files have it."""

UNKNOWN = "unknown"
"""The only object name of an imported store: the files name no objects that can be read safely."""


def read_npz_folder(
    folder: str | Path, *, feature_dim: int = FEATURE_DIM, names: Sequence[str] | None = None
) -> Iterator[Extracted]:
    """Yield the regions of one file after the other; a `Failure` for one that cannot be read.

    A file has `x` or `features` (`[regions, dim]`, or the other way round), `bbox` or `boxes`
    (`[regions, 4]`, corners in pixels), `image_h` or `img_h`, `image_w` or `img_w`. Nothing else is
    read. `info`, where some files keep names, is a Python object: to load it would be to execute
    what the file says. So objects are of one unknown class with confidence 0, without attributes.

    Args:
        folder: where the files are; an image id is the path below it without its ending.
        feature_dim: width of a feature row.
        names: image ids to read; absent: all.

    Raises:
        FileNotFoundError: if there is no file, or none under one of the names.
    """
    for name in find_npz(folder) if names is None else names:
        try:
            with np.load(Path(folder) / f"{name}.npz", allow_pickle=False) as content:
                regions = _to_regions(content, feature_dim)
        except FileNotFoundError:
            raise
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            yield Failure(name, f"{name}.npz: {error}")
        else:
            yield name, regions


def import_npz(
    source: str | Path,
    folder: str | Path,
    *,
    fingerprint: str,
    dtype: str = "float32",
    feature_dim: int = FEATURE_DIM,
    progress: Progress | None = None,
) -> RegionStore:
    """Turn a folder of .npz files into a region store; an interrupted one is taken up again.

    Args:
        source: the folder of files.
        folder: the store to write.
        fingerprint: what made the regions, for the header: models refuse regions of another one.
        dtype: of the stored features, `float32`, or `float16` for half the space.
        feature_dim: width of a feature row.
        progress: called with the numbers of files done and in all.

    Raises:
        FileNotFoundError: if there is no file.
        FileExistsError: if a finished store of all files is there.
    """
    header = StoreHeader(fingerprint, feature_dim, dtype, "fp32", (UNKNOWN,), ())
    names = find_npz(source)

    def read(remaining: Sequence[str]) -> Iterator[Extracted]:
        done = len(names) - len(remaining)
        for item in read_npz_folder(source, feature_dim=feature_dim, names=remaining):
            done += 1
            if progress is not None:
                progress(done, len(names))
            yield item

    return RegionStore.write(folder, names, read, header)


def find_npz(folder: str | Path) -> list[str]:
    """Return the sorted paths of all .npz files below a folder, relative to it, without ending."""
    paths = Path(folder).rglob("*.npz")
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)
    if not names:
        raise FileNotFoundError(f"no file below {folder}: expected one .npz file for each image")
    return names


def _to_regions(content: Mapping[str, npt.NDArray[Any]], feature_dim: int) -> Regions:
    height, width = _size(content, "height"), _size(content, "width")
    boxes, features = _read(content, "boxes"), _read(content, "features")
    count = len(boxes) if boxes.ndim else 0
    if features.shape == (feature_dim, count) and count != feature_dim:
        features = features.T
    if boxes.shape != (count, 4) or features.shape != (count, feature_dim):
        raise ValueError(
            f"it has boxes {list(boxes.shape)} and features {list(features.shape)}, expected "
            f"[regions, 4] and [regions, {feature_dim}]"
        )
    regions = Regions(
        boxes=boxes.astype(np.float32),
        features=features.astype(np.float32),
        image_size=(height, width),
        object_ids=np.zeros(count, np.int64),
        object_scores=np.zeros(count, np.float32),
        attribute_ids=np.zeros((count, 0), np.int64),
        attribute_scores=np.zeros((count, 0), np.float32),
    )
    name, problem = find_fault(regions, num_objects=1, num_attributes=0)
    if name:
        raise ValueError(f"{name} {problem}")
    return regions


def _size(content: Mapping[str, npt.NDArray[Any]], what: str) -> int:
    value = _read(content, what)
    if value.size != 1 or not int(value.item()) >= 1:
        raise ValueError(f"its {what} is {value}, expected the pixels of the image")
    return int(value.item())


def _read(content: Mapping[str, npt.NDArray[Any]], what: str) -> npt.NDArray[Any]:
    """Return an array under the first of its names."""
    for key in KEYS[what]:
        if key in content:
            return content[key]
    names = " or ".join(KEYS[what])
    hidden = "; `info` may hold it, but is a Python object, which is not read" * ("info" in content)
    raise ValueError(f"it has no {names}, only {sorted(content)}{hidden}")
