"""Detects format and feature width of other programs' region files by their first images."""

import binascii
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lxmert.data.npz import find_npz, read_shapes
from lxmert.data.tsv import FEATURE_DIM, LONGEST_LINE, find_tsv, is_blank, to_columns
from lxmert.names import file_size

_START = 1 << 16
_WIDEST = 1 << 16
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LMDB = (b"\xde\xc0\xef\xbe", b"\xbe\xef\xc0\xde")
"""LMDB's magic number, after the header of the first page, in either byte order."""
_TRIED = 100
"""Number of images to try for the feature width, as the first may be damaged."""


_LAYOUTS = {
    "HDF5 file": "its layout depends on the program that wrote it",
    "LMDB database": "its values are pickled Python objects, which are unsafe to load",
    "VinVL file": "its features include the boxes, and its names are in a separate file",
}
"""Common but unsupported formats -> the reason."""


def check_layout(path: Path) -> None:
    """Check that a file or folder is not in a known but unsupported format.

    Raises:
        ValueError: if it is HDF5, LMDB or a TSV file of VinVL; the message says how to convert.
    """
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [part for part in parts if part.is_file()]
    layouts = ((file, _layout(file)) for file in files)
    file, layout = next((found for found in layouts if found[1]), (path, ""))
    if layout:
        raise ValueError(
            f"{file} is {'a' if layout.startswith('VinVL') else 'an'} {layout}, which is not "
            f"supported ({_LAYOUTS[layout]}): with the program that wrote it, save one .npz file "
            "per image with x (features), bbox (boxes in pixels), image_h and image_w, and convert "
            "their folder"
        )


def _layout(file: Path) -> str:
    """Return the key of `_LAYOUTS` for a file, or ""."""
    with file.open("rb") as opened:
        start = opened.read(_START)
    if start.startswith(_HDF5):
        return "HDF5 file"
    if start[16:20] in _LMDB:
        return "LMDB database"
    fields = start.split(b"\n", 1)[0].split(b"\t")
    if b"\0" in start or len(fields) not in (2, 3):
        return ""
    # Each line holds JSON, or the number of boxes and their features.
    is_json = fields[1].startswith((b'{"', b'[{"'))
    return "VinVL file" if is_json or (len(fields) == 3 and fields[1].isdigit()) else ""


def is_tsv(path: Path) -> bool:
    """Return whether a file looks like tab-separated text."""
    with path.open("rb") as file:
        start = file.read(_START)
    return b"\t" in start and b"\0" not in start


def tsv_feature_dim(path: Path) -> int:
    """Return the feature width of the first valid line, or else the published one."""
    widths = (_tsv_width(columns) for columns in islice(_read_lines(path), _TRIED))
    return next((width for width in widths if width), FEATURE_DIM)


def _tsv_width(columns: dict[str, bytes]) -> int:
    """Return the feature width of a line; 0 if unknown."""
    try:
        size = len(binascii.a2b_base64(columns["features"]))
        width, rest = divmod(size, 4 * int(columns["num_boxes"]))
    except (KeyError, ValueError, ZeroDivisionError):
        return 0
    return width if not rest and 0 < width <= _WIDEST else 0


def has_names(path: Path) -> bool:
    """Return whether the first line has object columns, unlike bottom-up-attention's six."""
    columns = next(_read_lines(path), {})
    return "features" not in columns or "objects_id" in columns


def describe_tsv(path: Path) -> dict[str, object]:
    """Return facts from the first line, and the total file size."""
    parts = find_tsv(path)
    columns = next(_read_lines(path), {})
    count = columns.get("num_boxes", b"").decode("utf-8", "replace") or "unknown"
    return {
        **({"files": len(parts)} if path.is_dir() else {}),
        "first image": columns.get("img_id", b"").decode("utf-8", "replace"),
        "regions of first image": count,
        "region feature": tsv_feature_dim(path),
        "size": file_size(sum(part.stat().st_size for part in parts)),
    }


def has_npz(folder: Path) -> bool:
    """Return whether a folder contains an .npz file at any depth."""
    return next(folder.rglob("*.npz"), None) is not None


def has_tsv(folder: Path) -> bool:
    """Return whether a folder contains a .tsv file at any depth."""
    return next(folder.rglob("*.tsv"), None) is not None


def npz_feature_dim(folder: Path) -> int:
    """Return the feature width of the first valid file, or else the published one.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    paths = (folder / f"{name}.npz" for name in find_npz(folder)[:_TRIED])
    return next((width for width in map(_npz_width, paths) if width), FEATURE_DIM)


def _npz_width(path: Path) -> int:
    """Return the feature width of a file; 0 if unknown."""
    try:
        features, boxes = read_shapes(path)
    except ValueError:
        return 0
    if len(features) != 2 or not boxes:
        return 0
    widths = [side for side in features if side != boxes[0]]
    width = widths[0] if len(widths) == 1 else features[1]
    return width if 0 < width <= _WIDEST else 0


def describe_npz(folder: Path) -> dict[str, object]:
    """Return the number of files, and facts from the first one."""
    names = find_npz(folder)
    return {
        "files": len(names),
        "first image": names[0],
        "region feature": npz_feature_dim(folder),
    }


def _read_lines(path: Path) -> Iterator[dict[str, bytes]]:
    """Yield the fields of the lines of the first file."""
    with find_tsv(path)[0].open("rb") as file:
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            if not is_blank(line):
                yield to_columns(line.rstrip(b"\r\n").split(b"\t"))
