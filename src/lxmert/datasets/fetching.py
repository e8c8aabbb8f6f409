"""Official downloads into a folder: from the web or a local folder, unpacked, listed last."""

import json
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from lxmert.datasets.downloading import Progress, download
from lxmert.datasets.downloads import file_checksum
from lxmert.datasets.sources import Remote, name_within
from lxmert.files import atomic_path, child_path, read_json_object, write_text
from lxmert.locks import FolderLock
from lxmert.metrics.fields import int_field, record_field, text_field

_REMEDY = "remove it, and fetch again"

MANIFEST = "fetched.json"
"""What is whole in a folder of downloads: by remote file, where it came from and what it gave."""


_CHUNK = 1 << 20
_DAMAGE = (
    BadZipFile,
    EOFError,
    RuntimeError,  # encrypted
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)
"""What the standard library raises for ZIP files that are not whole."""


class Fetched(NamedTuple):
    """What became of a remote file.

    Attributes:
        remote: its name.
        origin: the address or the path that it came from.
        files: what there is of it now, by name below the folder, with the sizes in bytes.
        new: whether it was not there before.
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
    """Fetch files that are not whole in a folder yet.

    Args:
        remotes: the files.
        folder: gets them, each data set in a folder of its own.
        mirrors: addresses of folders that have these files; tried before the official ones.
        local: folder that has them, packed or unpacked, instead of the web.
        progress: makes, from a file's name, what is reported about its bytes.

    Yields:
        Each file when it is whole and listed in the manifest.

    Raises:
        FileNotFoundError: if the local folder lacks a file.
        OSError: if the web does not give one, or the disk is too full.
        ValueError: if a file is not what it should be; if another process fetches into the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(folder, file=".lock")):
        for remote in remotes:
            entry = _read_manifest(folder).get(remote.name)
            new = entry is None or not _is_whole(folder, entry)
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
    """Fetch a file, unpack it, and write it into the manifest."""
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
                "sha256": file_checksum(file),
            }
            for file in files
        },
    }
    manifest = _read_manifest(folder) | {remote.name: entry}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return entry


def _download(remote: Remote, path: Path, mirrors: Sequence[str], progress: Progress | None) -> str:
    """Download a file, unless it is there, whole and packed, since its unpacking was cut off."""
    if remote.members and path.is_file():
        _check_local(remote, path)
        return str(path)
    _check_space(path.parent, remote.size or 0)
    return download(remote, path, mirrors=mirrors, progress=progress)


def _take(remote: Remote, path: Path, local: Path) -> tuple[str, list[Path]]:
    """Take a file from a local folder: the packed file, or else all that is in it."""
    if not local.is_dir():
        raise FileNotFoundError(f"there is no folder {local} to take {remote.name} from")
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
        raise FileNotFoundError(f"{local} has no {wanted}, nor has a folder in it")
    files = [_copy(place, path.parent / name) for name, place in found.items() if place]
    return str(local), files


def _find(folder: Path, name: str) -> Path | None:
    """Return a file by its path in a folder or a folder's folder, or by its name there."""
    short = name_within(name, folder.resolve())
    for place in (name, f"*/{name}", short, f"*/{short}"):
        found = sorted(path for path in folder.glob(place) if path.is_file())
        if len(found) > 1:
            shown = ", ".join(map(str, found))
            raise ValueError(f"{shown} may all be {name}: name the folder that has the right one")
        if found:
            return found[0]
    return None


def _check_local(remote: Remote, path: Path) -> None:
    """Refuse a local file of another size or checksum."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise ValueError(
            f"{path} has {size} bytes, expected {remote.size}: remove it and fetch it again"
        )
    if remote.sha256 is not None and (found := file_checksum(path)) != remote.sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found}, expected {remote.sha256}: remove it and fetch it "
            "again"
        )


def _copy(source: Path, target: Path) -> Path:
    if source.resolve() != target.resolve():
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
    return target


def unpack(path: Path, members: Sequence[str], folder: Path) -> list[Path]:
    """Unpack files of a ZIP file into a folder, without the folders in it.

    Args:
        path: the ZIP file.
        members: last parts of the names of the files that are wanted.
        folder: gets them.

    Returns:
        Their paths.

    Raises:
        OSError: if the disk is too full.
        ValueError: if the file is damaged, lacks a member or has it twice, or has a name that leads
            out of the folder or is a link.
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
        raise BadZipFile(f"{info.filename[:60]!r} is not where it should be") from error
    with stream as source, atomic_path(target) as partial, partial.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


def _member(path: Path, archive: ZipFile, name: str) -> ZipInfo:
    """Return the only file of a name, after a look at all members."""
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        absolute = info.filename.startswith(("/", "\\")) or ":" in (parts[0] if parts else "")
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packer knew none
        if absolute or ".." in parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(
                f"{path} holds {info.filename[:60]!r}, which leads out of its folder or is no "
                "plain file: it is not the official file, so remove it"
            )
    found = [i for i in archive.infolist() if PurePosixPath(i.filename).name == name]
    found = [i for i in found if not i.is_dir() and not stat.S_ISDIR(i.external_attr >> 16)]
    if len(found) != 1:
        raise ValueError(
            f"{path} holds {len(found)} files {name}, expected one: if it is of another release, "
            "remove it and fetch the right one"
        )
    if found[0].compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(
            f"{path} is packed by another method than official files: unpack it yourself and name "
            "the folder with --from"
        )
    return found[0]


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{size:,} bytes are needed in {folder}, where {free:,} are free")


def _is_whole(folder: Path, entry: dict[str, Any]) -> bool:
    """Return whether all files of an entry are there in their sizes."""
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
