"""Imports folders of .npz region files, one per image, as other extractors write them."""

import math
import struct
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
from lxmert.data.tsv import FEATURE_DIM, Progress, find_fault, fit, nameless
from lxmert.files import child_path, shorten
from lxmert.schema import Failure, Regions

KEYS: Mapping[str, tuple[str, ...]] = {
    "features": ("x", "features"),
    "boxes": ("bbox", "boxes"),
    "height": ("image_h", "img_h"),
    "width": ("image_w", "img_w"),
}
"""Field -> names under which published files store it."""

MAX_REGIONS = 10_000
"""Maximum number of regions of an image; the largest published grids have 1,000."""

_MAX_NUMBERS = 1 << 25

_DAMAGE = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that damaged or malicious files raise."""

UNKNOWN = "unknown"
"""The only object name of an imported store: object names in the files cannot be read safely."""


def read_npz_folder(
    folder: str | Path, *, feature_dim: int = FEATURE_DIM, names: Sequence[str] | None = None
) -> Iterator[Extracted]:
    """Yield the regions of each file in order; a `Failure` for a file that cannot be read.

    A file has `x` or `features` (`[regions, dim]` or transposed), `bbox` or `boxes`
    (`[regions, 4]`, corners in pixels), `image_h` or `img_h`, `image_w` or `img_w`. Nothing else is
    read. `info`, where some files store names, is a Python object, and loading it would execute
    code from the file. All objects therefore have one unknown class with confidence 0 and no
    attributes.

    Args:
        folder: folder of the files; an image id is the relative path without its suffix.
        feature_dim: width of a feature row.
        names: image ids to read. None: all.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if a name leads out of the folder.
    """
    for name in find_npz(folder) if names is None else names:
        path = child_path(Path(folder), f"{name}.npz")
        try:
            with zipfile.ZipFile(path) as content:
                regions = _to_regions(content, feature_dim)
        except _DAMAGE as error:
            yield Failure(name, f"{name}.npz: {error}")
        else:
            yield name, regions


def read_shapes(path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the features and of the boxes of a file, without reading them.

    Raises:
        ValueError: if they cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as content:
            features, boxes = (
                _read_shape(content, _find(content, what)) for what in ("features", "boxes")
            )
    except _DAMAGE as error:
        raise ValueError(f"{path}: {error}") from error
    return features, boxes


def import_npz(
    source: str | Path,
    folder: str | Path,
    *,
    fingerprint: str,
    dtype: str = "float32",
    feature_dim: int = FEATURE_DIM,
    progress: Progress | None = None,
) -> RegionStore:
    """Import a folder of .npz files into a region store; resumes an interrupted import.

    Args:
        source: the folder of files.
        folder: the store to write.
        fingerprint: fingerprint of the extractor, for the header; models reject other regions.
        dtype: of the stored features, `float32`, or `float16` for half the space.
        feature_dim: width of a feature row.
        progress: called with the number of files done and the total.

    Raises:
        FileNotFoundError: if there is no file.
        FileExistsError: if a finished store of all files exists.
    """
    header = StoreHeader(
        fingerprint=fingerprint,
        feature_dim=feature_dim,
        dtype=dtype,
        precision="fp32",
        object_names=(UNKNOWN,),
        attribute_names=(),
    )
    names = find_npz(source)

    def read(remaining: Sequence[str]) -> Iterator[Extracted]:
        done = len(names) - len(remaining)
        for item in read_npz_folder(source, feature_dim=feature_dim, names=remaining):
            done += 1
            if progress is not None:
                progress(done, len(names))
            yield fit(item, dtype)

    return RegionStore.write(folder, names, read, header)


def find_npz(folder: str | Path) -> list[str]:
    """Return the sorted paths of all .npz files in a folder, relative to it, without suffix."""
    paths = Path(folder).rglob("*.npz")
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)
    if not names:
        raise FileNotFoundError(f"{folder} has no file: expected one .npz file for each image")
    return names


def _to_regions(content: zipfile.ZipFile, feature_dim: int) -> Regions:
    height, width = _size(content, "height"), _size(content, "width")
    boxes = _read(content, "boxes", MAX_REGIONS * 4)
    features = _read(content, "features", min(MAX_REGIONS * feature_dim, _MAX_NUMBERS))
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
        **nameless(count),
    )
    name, problem = find_fault(regions, num_objects=1, num_attributes=0)
    if name:
        raise ValueError(f"{name} {problem}")
    return regions


def _size(content: zipfile.ZipFile, what: str) -> int:
    value = _read(content, what, 1)
    if value.size != 1 or not 1 <= value.item() < 2**31:
        raise ValueError(f"its {what} is {value}, expected the pixels of the image")
    return int(value.item())


def _read(content: zipfile.ZipFile, what: str, most: int) -> npt.NDArray[Any]:
    """Return an array with a limited number of values.

    The size is checked before memory is allocated: zeros compress well, so that a file of 8 MB may
    unpack to 8 GB.
    """
    key = _find(content, what)
    shape = _read_shape(content, key)
    if math.prod(shape) > most:
        raise ValueError(f"{key} has the shape {shorten(shape)}, expected at most {most} numbers")
    with content.open(f"{key}.npy") as file:
        values: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _find(content: zipfile.ZipFile, what: str) -> str:
    """Return the first of the possible names that the file has."""
    keys = {name.removesuffix(".npy") for name in content.namelist() if name.endswith(".npy")}
    for key in KEYS[what]:
        if key in keys:
            return key
    names = " or ".join(KEYS[what])
    hidden = "; `info` may contain it, but is a Python object, which is not read" * ("info" in keys)
    raise ValueError(f"it has no {names}, only {shorten(sorted(keys), limit=200)}{hidden}")


def _read_shape(content: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    """Return the shape in an array's header.

    Raises:
        ValueError: if the values are not plain numbers.
    """
    with content.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"{key} is of the unknown version {version} of .npy")
    if dtype.kind not in "biuf":
        raise ValueError(f"{key} has type {dtype}, expected numbers: Python objects are not read")
    return tuple(shape)
