"""Checks of the files that a command will write, before anything is computed."""

import os
from pathlib import Path


def check_figure(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Refuse an image that could not be saved, or is an input, before anything is computed."""
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{option} {path} has no ending of an image: try {path.stem or 'out'}.png")
    check_output(path, option, *inputs)


def check_output(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Refuse a file that could not be written, or is an input, before anything is computed."""
    from lxmert.files import check_not_input, check_regular

    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise PermissionError(
            f"{option} {path}: the folder {path.parent} may not be written to; name another one"
        )
    check_regular(path)
    check_not_input(path, (Path(each) for each in inputs if each is not None), option=option)


def check_output_folder(path: Path, option: str, *inputs: str | Path | None) -> None:
    """Refuse a folder that cannot be written, or is an input, before anything is computed."""
    from lxmert.files import check_not_input

    check_not_input(path, (Path(each) for each in inputs if each is not None), option=option)
    found = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not found.is_dir():
        raise NotADirectoryError(f"{option} {path}: {found} is a file; name another folder")
    if not os.access(found, os.W_OK):
        raise PermissionError(
            f"{option} {path}: the folder {found} may not be written to; name another one"
        )
