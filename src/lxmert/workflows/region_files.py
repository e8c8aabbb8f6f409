"""Region files of other programs, as far as their first image tells: which they are, how wide."""

import binascii
from pathlib import Path

from lxmert.data.npz import find_npz, read_shapes
from lxmert.data.tsv import COLUMNS, FEATURE_DIM, LONGEST_LINE, find_tsv

_START = 1 << 16
_WIDEST = 1 << 16


def is_tsv(path: Path) -> bool:
    """Return whether a file looks like text with tabs; what is wrong with it is reported later."""
    with path.open("rb") as file:
        start = file.read(_START)
    return b"\t" in start and b"\0" not in start


def tsv_feature_dim(path: Path) -> int:
    """Return the width of the features in the first line; the published one if it has a fault."""
    columns = _first_line(path)
    try:
        size = len(binascii.a2b_base64(columns["features"]))
        width, rest = divmod(size, 4 * int(columns["num_boxes"]))
    except (KeyError, ValueError, ZeroDivisionError):
        return FEATURE_DIM
    return FEATURE_DIM if rest or not width else width


def describe_tsv(path: Path) -> dict[str, object]:
    """Return what the first line says, and the size of the file or of all files of a folder."""
    parts = find_tsv(path)
    columns = _first_line(path)
    count = columns.get("num_boxes", b"").decode("utf-8", "replace") or "unknown"
    return {
        **({"files": len(parts)} if path.is_dir() else {}),
        "first image": columns.get("img_id", b"").decode("utf-8", "replace"),
        "its regions": count,
        "region feature": tsv_feature_dim(path),
        "size": f"{sum(part.stat().st_size for part in parts) / 1e6:,.1f} MB",
    }


def has_npz(folder: Path) -> bool:
    """Return whether there is an .npz file below a folder, without listing all."""
    return next(folder.rglob("*.npz"), None) is not None


def has_tsv(folder: Path) -> bool:
    """Return whether there is a file that ends in .tsv below a folder, without listing all."""
    return next(folder.rglob("*.tsv"), None) is not None


def npz_feature_dim(folder: Path) -> int:
    """Return the width of the features in the first file; the published one if it has a fault.

    Raises:
        FileNotFoundError: if there is no file.
    """
    path = folder / f"{find_npz(folder)[0]}.npz"
    try:
        features, boxes = read_shapes(path)
    except ValueError:
        return FEATURE_DIM
    if len(features) != 2 or not boxes:
        return FEATURE_DIM
    widths = [side for side in features if side != boxes[0]]
    width = widths[0] if len(widths) == 1 else features[1]
    return width if 0 < width <= _WIDEST else FEATURE_DIM


def describe_npz(folder: Path) -> dict[str, object]:
    """Return how many files there are, and what the first one holds."""
    names = find_npz(folder)
    return {
        "files": len(names),
        "first image": names[0],
        "region feature": npz_feature_dim(folder),
    }


def _first_line(path: Path) -> dict[str, bytes]:
    with find_tsv(path)[0].open("rb") as file:
        fields = file.readline(LONGEST_LINE).rstrip(b"\r\n").split(b"\t")
    return dict(zip(COLUMNS, fields, strict=False))
