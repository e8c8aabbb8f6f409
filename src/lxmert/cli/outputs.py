"""Checks of output paths before anything is computed."""

import os
from pathlib import Path


def check_figure(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Raise an error if `path` is not an image file name, not writable, or an input."""
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"{option} {path} does not end like an image file: try {path.stem or 'out'}.png"
        )
    check_output(path, option, *inputs)


def check_output(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Raise an error if a file cannot be written, or is an input."""
    from lxmert.files import check_not_input, check_regular

    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: no folder {path.parent}; create it first")
    _check_writable(path, option, path.absolute().parent)
    check_regular(path)
    check_not_input(path, (Path(each) for each in inputs if each is not None), option=option)


def check_output_folder(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Raise an error if a folder cannot be written, or is an input."""
    from lxmert.files import check_not_input

    check_not_input(path, (Path(each) for each in inputs if each is not None), option=option)
    found = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not found.is_dir():
        raise NotADirectoryError(f"{option} {path}: {found} is a file; name another folder")
    _check_writable(path, option, found)


def _check_writable(path: Path, option: str, folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            f"{option} {path}: the folder {folder} is not writable; name another folder"
        )
