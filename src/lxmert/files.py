"""Atomic file writes, resumable job logs, checksums, and bounded reading of JSON and TOML."""

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isinf
from pathlib import Path
from typing import Any
from uuid import uuid4

MAX_TEXT_BYTES = 256 << 20
"""Size up to which a JSON or TOML file is read as a whole; the largest official one has 60 MB."""

_MAX_DIGITS = 18
"""Digits of an integer that fits into 64 bits whatever they are."""

_MAX_TOML_DEPTH = 32
"""Tables and lists within each other; a recipe has three."""

_PARTIAL = ".partial"

_UMASK = os.umask(0o022)  # it can only be read by setting it, which is not safe in threads
os.umask(_UMASK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block ends.

    An existing file is kept if the block raises. Each writer has a temporary file of its own, with
    the suffix of `path`; those that killed processes of this machine left behind are removed. The
    block may make a folder of it, if `path` is not there yet.

    Raises:
        ValueError: if `path` is a folder or a device.
        OSError: if it cannot be written; the message names the path.
    """
    check_regular(path)
    _remove_stale(path.parent)
    name = f"{_PARTIAL}-{_host()}-{os.getpid()}-{uuid4().hex[:8]}{path.suffix}"
    partial = path.with_name(name)
    try:
        yield partial
        if partial.is_file():  # some libraries create files that only their owner can read
            partial.chmod(0o666 & ~_UMASK)
        partial.replace(path)
    except OSError as error:
        raise _explain(error, path, partial) from error
    finally:
        _remove(partial)


def is_partial(path: Path) -> bool:
    """Return whether a path is a temporary file of `atomic_path`, which a killed process left."""
    return path.name.startswith(f"{_PARTIAL}-")


def write_text(path: Path, text: str, *, newline: str | None = None) -> None:
    """Write a UTF-8 text file atomically; `newline` is that of `open`."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline=newline)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: if a number is NaN or infinite, for which JSON has no word.
    """
    write_text(path, to_json(value, indent=indent) + "\n")


def to_json(
    value: object, *, indent: int | None = None, ensure_ascii: bool = True, default: Any = None
) -> str:
    """Return a value as JSON text; arguments are those of `json.dumps`.

    Raises:
        ValueError: if a number is NaN or infinite, for which JSON has no word.
    """
    try:
        return json.dumps(
            value, indent=indent, ensure_ascii=ensure_ascii, default=default, allow_nan=False
        )
    except ValueError as error:
        raise ValueError(
            f"the result {shorten(value)} cannot be written as JSON ({error}): a number in it is "
            "NaN or infinite, so check the weights and the input"
        ) from error


def check_regular(path: Path) -> None:
    """Raise `ValueError` if `path` exists and is not a regular file, which cannot be replaced."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{path} is a folder: name a file in it")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is a device or pipe, not a regular file: name another file")


def check_absent(path: Path, *, remedy: str = "name another folder, or remove it") -> None:
    """Raise `FileExistsError` if a file or folder to write exists."""
    if path.exists():
        raise FileExistsError(f"{path} exists already: {remedy}")


def check_not_input(output: Path, inputs: Iterable[Path | None], *, option: str) -> None:
    """Raise `ValueError` if a file to be written is one of those to be read (None: not given)."""
    for path in inputs:
        with suppress(OSError):
            if path is not None and output.samefile(path):
                raise ValueError(
                    f"{option} {output} is also an input, which would be overwritten: "
                    "name another file"
                )


def child_path(folder: Path, name: str) -> Path:
    """Return the path of a file named in other people's data, which must lie inside `folder`.

    Raises:
        ValueError: if the name is absolute, has `..` in it, or cannot be a file name.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise ValueError(
            f"{name!r} is no relative path inside {folder}: expected a name such as 'train/1.jpg'"
        )
    return folder / name


def cache_folder() -> Path:
    """Return the cache folder of this package, which the user may remove at any time."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lxmert"


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return the first 16 digits of a checksum of all files in a folder and below, with names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def read_json(
    path: Path, *, remedy: str = "fetch or write it again", limit: int = MAX_TEXT_BYTES
) -> Any:
    """Read a JSON file, bounded in size, depth and digits.

    Args:
        path: UTF-8, with or without byte order mark.
        remedy: what to do about a damaged file, for the message.
        limit: bytes that it has at most.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, what is wrong, and the remedy.
    """
    return parse_json(read_text(path, remedy, limit), str(path), remedy=remedy)


def read_json_object(
    path: Path, *, remedy: str = "fetch or write it again", limit: int = MAX_TEXT_BYTES
) -> dict[str, Any]:
    """Read a JSON file that must hold an object; otherwise as `read_json`."""
    value = read_json(path, remedy=remedy, limit=limit)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {shorten(value)}: {remedy}")
    return value


def parse_json(text: str | bytes, place: str, *, remedy: str = "write it again") -> Any:
    """Parse JSON text, bounded in depth and digits.

    Args:
        text: one JSON value.
        place: where it stands, such as a path or `path line 3`, for the message.
        remedy: what to do about it, for the message.

    Raises:
        ValueError: if it is no JSON, has NaN or infinite numbers, integers beyond 64 bits, or is
            nested too deep.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{place} is not valid JSON ({error.msg} at {where}): {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not usable JSON ({_reason(error)}): {remedy}") from error


def bounded_decoder() -> json.JSONDecoder:
    """Return a decoder with the bounds of `parse_json`, for text that is read in pieces.

    It raises `ValueError` for a number out of bounds, and `RecursionError` for deep nesting.
    """
    return json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_no_constant)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, bounded in size and depth; errors as for `read_json`."""
    return parse_toml(read_text(path, "correct it"), str(path))


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """Parse TOML text, bounded in depth and digits; `ValueError` names the place."""
    try:
        table = tomllib.loads(text)
        _check_toml(table)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid TOML ({_reason(error)}): correct it") from error
    return table


def shorten(value: object, *, limit: int = 60) -> str:
    """Return a value as JSON in at most `limit` characters, for a message."""
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def resume_log(path: Path, arguments: Mapping[str, Any], *, remedy: str) -> list[Any]:
    """Return what an interrupted job logged; start the log where there is none.

    Args:
        path: the log, a JSON value a line, of which the first are the job's arguments. Half a line
            at the end is cut off, so that the job may append.
        arguments: of the job that resumes; an argument that is None counts as absent.
        remedy: what to do about a log of other arguments, for the message.

    Returns:
        The values after the arguments.

    Raises:
        ValueError: if the log belongs to another job.
    """
    if not path.exists() or b"\n" not in path.read_bytes():
        write_text(path, json.dumps(arguments) + "\n")
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows is half a line
    write_text(path, "".join(line + "\n" for line in lines))
    begun, *entries = (parse_json(line, str(path), remedy=remedy) for line in lines)
    asked = json.loads(json.dumps(arguments))
    if not isinstance(begun, dict):
        raise ValueError(f"{path.parent} was started with {begun!r} instead of arguments: {remedy}")
    changed = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
    if changed:
        listed = (f"{name} {begun.get(name)}, not {asked.get(name)}" for name in changed)
        raise ValueError(f"{path.parent} was started with {'; '.join(listed)}: {remedy}")
    return entries


def read_text(
    path: Path, remedy: str = "correct it or copy it again", limit: int = MAX_TEXT_BYTES
) -> str:
    """Read a UTF-8 text file with or without byte order mark; errors as for `read_json`."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: check the path")
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path} has {size >> 20} MiB; expected at most {limit >> 20}: {remedy}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): {remedy}") from error


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"the number {digits[:20]}, which is too large")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _check_toml(table: dict[str, Any]) -> None:
    """Raise `ValueError` for deep nesting, and for integers beyond 64 bits, which TOML excludes."""
    values: list[tuple[object, int]] = [(table, 0)]
    while values:
        value, depth = values.pop()
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError(f"an integer of {value.bit_length()} bits")
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(inner, list | type({}.values())):
            if depth > _MAX_TOML_DEPTH:
                raise ValueError("nested too deep")
            values += [(part, depth + 1) for part in inner]


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _host() -> str:
    return socket.gethostname().replace("-", "_")[:32]


def _remove_stale(folder: Path) -> None:
    """Remove temporary files of processes of this machine that are gone."""
    for stale in folder.glob(f"{_PARTIAL}-{_host()}-*"):
        process = stale.name.split("-")[2]
        if process.isdecimal() and not _is_alive(int(process)):
            _remove(stale)


def _remove(partial: Path) -> None:
    """Remove a temporary file or folder, as far as it is there and can be removed."""
    with suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _explain(error: OSError, path: Path, partial: Path) -> OSError:
    """Return an error of writing that names the file and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        parts = [partial, *partial.rglob("*")]
        written = sum(part.stat().st_size for part in parts if part.is_file()) >> 20
        remedy = f"the disk is full after {written} MiB of it: free space or name another folder"
    elif error.errno is not None and _concerns(error, path, partial):
        remedy = f"{error.strerror or error}: check the folder and its permissions"
    else:
        return error
    return type(error)(f"{path} cannot be written: {remedy}")


def _concerns(error: OSError, path: Path, partial: Path) -> bool:
    """Return whether an error names what is written, or nothing, not another file."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    inside = f"{partial}{os.sep}"
    own = (name in (str(path), str(partial)) or name.startswith(inside) for name in names)
    return not names or any(own)
