"""Fetches official files from the web or a local folder, unpacks them and writes a manifest."""

import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from lxmert.datasets.sources import name_within
from lxmert.downloading import Progress, Remote, download
from lxmert.files import atomic_path, child_path, read_json_object, sha256, write_json
from lxmert.locks import FolderLock
from lxmert.metrics.fields import int_field, record_field, text_field

_REMEDY = "remove it and fetch again"

MANIFEST = "fetched.json"
"""Completed downloads of a folder: for each remote file its origin and the resulting files."""


_CHUNK = 1 << 20
_DAMAGE = (
    BadZipFile,
    EOFError,
    RuntimeError,  # encrypted
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)
"""Exceptions of the standard library for damaged ZIP files."""


class Fetched(NamedTuple):
    """Result of fetching one remote file.

    Attributes:
        remote: its name.
        origin: the URL or path it was read from.
        files: resulting files, by path relative to the folder, with sizes in bytes.
        new: False if it was already complete.
    """

    remote: str
    origin: str
    files: dict[str, int]
    new: bool


def fetch(
    remotes: Sequence[Remote],
    folder: str | Path,
    *,
    mirrors: Sequence[str] = (),
    local: Path | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Iterator[Fetched]:
    """Fetch the files that are not yet complete in a folder.

    Args:
        remotes: the files.
        folder: output folder; each dataset has its own subfolder.
        mirrors: URLs of folders with these files; tried before the official ones.
        local: folder with packed or unpacked files to use instead of the web.
        progress: returns a progress callback for a file name.

    Yields:
        Each file once it is complete and listed in the manifest.

    Raises:
        FileNotFoundError: if the local folder lacks a file.
        OSError: if no server delivers a file, or the disk is full.
        ValueError: if a file has unexpected content, or another process writes to the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(folder, file=".lock")):
        for remote in remotes:
            entry = _read_manifest(folder).get(remote.name)
            new = entry is None or not _is_complete(folder, entry)
            if entry is None or new:
                log = None if progress is None else progress(remote.name)
                entry = _fetch_one(remote, folder, mirrors, local, log)
            sizes = {name: file["bytes"] for name, file in entry["files"].items()}
            yield Fetched(remote.name, entry["origin"], sizes, new)


def _fetch_one(
    remote: Remote,
    folder: Path,
    mirrors: Sequence[str],
    local: Path | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Fetch a file, unpack it, and add it to the manifest."""
    path = folder / remote.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if local is not None:
        origin, files = _take(remote, path, local)
    else:
        origin = _download(remote, path, mirrors, progress)
        files = [path]
        if remote.members:
            files = unpack(path, remote.members, path.parent)
            path.unlink()
    entry = {
        "origin": origin,
        "files": {
            str(file.relative_to(folder)): {
                "bytes": file.stat().st_size,
                "sha256": sha256(file),
            }
            for file in files
        },
    }
    manifest = _read_manifest(folder) | {remote.name: entry}
    write_json(folder / MANIFEST, manifest)
    return entry


def _download(remote: Remote, path: Path, mirrors: Sequence[str], progress: Progress | None) -> str:
    """Download a file, unless the packed file is already there after interrupted unpacking."""
    if remote.members and path.is_file():
        _check_local(remote, path)
        return str(path)
    _check_space(path.parent, remote.size or 0)
    own = tuple(
        f"{mirror.rstrip('/')}/{name_within(remote.name, PurePosixPath(mirror))}"
        for mirror in mirrors
    )
    return download(remote._replace(urls=(*own, *remote.urls)), path, progress=progress)


def _take(remote: Remote, path: Path, local: Path) -> tuple[str, list[Path]]:
    """Copy or unpack a file from a local folder, where it may be packed or unpacked."""
    if not local.is_dir():
        raise FileNotFoundError(
            f"there is no folder {local} to read {remote.name} from: check --from"
        )
    packed = _find(local, remote.name)
    if packed is not None:
        _check_local(remote, packed)
        if remote.members:
            return str(packed), unpack(packed, remote.members, path.parent)
        return str(packed), [_copy(packed, path)]
    found = {name: _find(local, f"{path.parent.name}/{name}") for name in remote.members}
    if not found or None in found.values():
        lacking = [name for name, place in found.items() if place is None]
        name = name_within(remote.name, local.resolve())
        wanted = " or ".join([name, ", ".join(lacking)] if lacking else [name])
        raise FileNotFoundError(f"{local} and its subfolders have no {wanted}: copy it there")
    files = [_copy(place, path.parent / name) for name, place in found.items() if place]
    return str(local), files


def _find(folder: Path, name: str) -> Path | None:
    """Find a file by its path or name in a folder or its direct subfolders."""
    short = name_within(name, folder.resolve())
    for place in (name, f"*/{name}", short, f"*/{short}"):
        found = sorted(path for path in folder.glob(place) if path.is_file())
        if len(found) > 1:
            shown = ", ".join(map(str, found))
            raise ValueError(
                f"several files may be {name}: {shown}; name the folder of one of them"
            )
        if found:
            return found[0]
    return None


def _check_local(remote: Remote, path: Path) -> None:
    """Check size and checksum of a local file."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise ValueError(
            f"{path} has {size} bytes, expected {remote.size}: remove it and fetch it again"
        )
    if remote.sha256 is not None and (found := sha256(path)) != remote.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {remote.sha256}: remove it and fetch it again"
        )


def _copy(source: Path, target: Path) -> Path:
    if source.resolve() != target.resolve():
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
    return target


def unpack(path: Path, members: Sequence[str], folder: Path) -> list[Path]:
    """Extract files of a ZIP archive into a folder, without the archive's own folders.

    Args:
        path: the ZIP file.
        members: file names without folders.
        folder: output folder.

    Returns:
        Paths of the extracted files.

    Raises:
        OSError: if the disk is full.
        ValueError: if the archive is damaged, lacks a member or has it twice, or has an unsafe
            path or a link.
    """
    try:
        with ZipFile(path) as archive:
            chosen = [_member(path, archive, name) for name in members]
            _check_space(folder, sum(info.file_size for info in chosen))
            for info, name in zip(chosen, members, strict=True):
                _unpack_one(archive, info, folder / name)
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and fetch it again") from error
    return [folder / name for name in members]


def _unpack_one(archive: ZipFile, info: ZipInfo, target: Path) -> None:
    try:
        stream = archive.open(info)
    except OSError as error:
        raise BadZipFile(f"{info.filename[:60]!r} is at the wrong offset") from error
    with stream as source, atomic_path(target) as partial, partial.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


def _member(path: Path, archive: ZipFile, name: str) -> ZipInfo:
    """Return the only member with a name after checking all members for unsafe paths."""
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        absolute = info.filename.startswith(("/", "\\")) or ":" in (parts[0] if parts else "")
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive does not say
        if absolute or ".." in parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(
                f"{path} contains {info.filename[:60]!r}, which is an unsafe path or not a regular "
                "file: it is not the official archive, so remove it"
            )
    found = [i for i in archive.infolist() if PurePosixPath(i.filename).name == name]
    found = [i for i in found if not i.is_dir() and not stat.S_ISDIR(i.external_attr >> 16)]
    if len(found) != 1:
        raise ValueError(
            f"{path} contains {len(found)} files {name}, expected one: if this is another "
            "release, remove it and fetch the right one"
        )
    if found[0].compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(
            f"{path} uses an unsupported compression method: unpack it yourself and pass the "
            "folder with --from"
        )
    return found[0]


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{folder} needs {size:,} bytes, but has {free:,} free: free space")


def _is_complete(folder: Path, entry: dict[str, Any]) -> bool:
    """Return whether all files of an entry exist with the recorded sizes."""
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == file["bytes"]
        for name, file in entry["files"].items()
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    content = read_json_object(path, remedy=_REMEDY)
    try:
        for name in content:
            entry = record_field(content, name)
            text_field(entry, "origin")
            files = record_field(entry, "files")
            for file in files:
                int_field(record_field(files, file), "bytes")
                child_path(folder, file)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {_REMEDY}") from error
    return content
