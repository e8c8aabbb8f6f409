"""Settings that name files and folders, which must exist before a task can be made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, Strict

from lxmert.records import Items, Record

_INPUT = "input"


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


File = Annotated[str, _INPUT]
"""One file or folder in a recipe."""

FilePath = Annotated[Path, Strict(False), _INPUT]
"""The same, for settings that keep paths."""

FileList = Annotated[Items[str], _INPUT]
"""A list of files or folders in a recipe."""

Files = Annotated[
    Items[str], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...]), _INPUT
]
"""One file or folder in a recipe, or a list of them; always a list in the settings."""


class RegionData(Record):
    """The part of a `[data]` table that names regions.

    Attributes:
        regions: one or several region stores of the training images.
        valid_regions: one or several region stores of the validation images.
        extractor: folder of the extractor that made the stores, saved with the model.
    """

    regions: Files
    valid_regions: Files
    extractor: File | None = None


class TextData(RegionData):
    """A `[data]` table with texts of one kind, and the regions of their images.

    Attributes:
        train: one or several JSONL files of training texts.
        valid: one or several JSONL files of validation texts.
    """

    train: Files
    valid: Files


def input_files(settings: Record, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the input files of settings, each with its key.

    Args:
        settings: instance of a task's `settings_type`, or of one of its tables.
        prefix: key of the table, followed by a dot.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for name, value in settings:
        if isinstance(value, Record):
            yield from input_files(value, f"{prefix}{name}.")
        elif value is not None and _is_input(hints[name]):
            for path in value if isinstance(value, tuple) else (value,):
                yield f"{prefix}{name}", Path(path)


def _is_input(hint: Any) -> bool:
    """Return whether a type, or one of several that it allows, is marked."""
    if get_origin(hint) is Annotated and _INPUT in hint.__metadata__:
        return True
    return any(map(_is_input, get_args(hint)))
