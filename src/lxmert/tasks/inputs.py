"""Settings that name files and folders which must be there before a task can be made."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

_INPUT = "input"

File = Annotated[str, _INPUT]
"""One file or folder in a recipe."""

FilePath = Annotated[Path, _INPUT]
"""The same, of settings that keep paths."""

FileList = Annotated[tuple[str, ...], _INPUT]
"""A list of files or folders in a recipe."""

Files = Annotated[str | tuple[str, ...], _INPUT]
"""One file or folder in a recipe, or a list of them."""


def as_list(files: Files) -> tuple[str, ...]:
    """Return one or several files as several."""
    return (files,) if isinstance(files, str) else files


def input_files(settings: object, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the files that settings name, each with its key.

    Args:
        settings: instance of a task's `settings_type`, or of one of its tables.
        prefix: key of the table with a dot behind it.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        if is_dataclass(value):
            yield from input_files(value, f"{prefix}{name}.")
        elif value is not None and _is_input(hint):
            assert isinstance(value, str | Path | tuple), f"{name} is {value!r}"
            for path in (value,) if isinstance(value, str | Path) else value:
                yield f"{prefix}{name}", Path(path)


def _is_input(hint: Any) -> bool:
    """Tell whether a type, or one of several that it allows, is marked."""
    if get_origin(hint) is Annotated:
        return _INPUT in hint.__metadata__
    return any(map(_is_input, get_args(hint)))
