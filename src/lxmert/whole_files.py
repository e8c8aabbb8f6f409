"""Files that get their name when they are whole, and notes of a job that can be taken up again."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the temporary path at which to write a file, which then takes the name that is meant.

    What stood there stays until then, and for good if the writing fails.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def write_whole(path: Path, text: str, *, newline: str | None = None) -> None:
    """Write a text file as a whole or not at all; `newline` is that of `open`."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline=newline)


def resume_notes(path: Path, arguments: Mapping[str, Any], *, remedy: str) -> list[Any]:
    """Read what an interrupted job noted; where there is nothing, begin the notes.

    Args:
        path: file of notes, a JSON value a line, of which the first are the job's arguments. Half
            a line at the end is cut off, so that the job may append.
        arguments: of the job that wants to go on; None is as if it were not there.
        remedy: what to do about notes of other arguments, for the message.

    Returns:
        The notes behind the arguments.

    Raises:
        ValueError: if the notes are of another job.
    """
    if not path.exists() or b"\n" not in path.read_bytes():
        write_whole(path, json.dumps(arguments) + "\n")
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows is half a line
    write_whole(path, "".join(line + "\n" for line in lines))
    begun, *notes = (json.loads(line) for line in lines)
    asked = json.loads(json.dumps(arguments))
    if not isinstance(begun, dict):
        raise ValueError(f"{path.parent} was begun with {begun!r} in place of arguments: {remedy}")
    changed = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
    if changed:
        told = (f"{name} {begun.get(name)}, not {asked.get(name)}" for name in changed)
        raise ValueError(f"{path.parent} was begun with {'; '.join(told)}: {remedy}")
    return notes
