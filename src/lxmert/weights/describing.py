"""Published weights in words: what the table says about them, and what is on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.vocabularies import ANSWERS
from lxmert.weights.fetching import addresses, read_record
from lxmert.weights.folders import RECORD, published_folder
from lxmert.weights.table import PUBLISHED

_MEGABYTE = 1_000_000


def describe(name: str) -> dict[str, Any]:
    """Return what is known about published weights, as JSON values.

    Returns:
        `name`, `kind`, `title`, `hub`, `bytes` (0 if unknown), `answers` (name of the list),
        `extractors` (in order of trial), `license`, `scores`, `note`, `folder` (None until fetched)
        and `files`, each with `name`, `bytes`, `sha256` and `addresses` in order of trial.
    """
    entry, folder = PUBLISHED[name], published_folder(name)
    return {
        "name": name,
        "kind": entry.kind,
        "title": entry.title,
        "hub": entry.repository,
        "bytes": sum(file.about for file in entry.files),
        "answers": entry.answers,
        "extractors": list(entry.extractors),
        "license": entry.license,
        "scores": entry.scores,
        "note": entry.note,
        "folder": str(folder) if folder.is_dir() else None,
        "files": [
            {
                "name": file.name,
                "bytes": file.about,
                "sha256": file.sha256,
                "addresses": list(addresses(file)),
            }
            for file in entry.files
        ],
    }


def describe_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of `lxmert weights show` for the result of `describe`."""
    yield f"{row['name']}: {row['title']}"
    if row["hub"]:
        yield f"hub name: {row['hub']}"
    yield f"scores as published: {row['scores']}"
    yield f"license: {row['license']}"
    if row["note"]:
        yield f"note: {row['note']}"
    for file in row["files"]:
        yield f"{file['name']}, {size_text(file['bytes'])}, {_checksum(file['sha256'])}:"
        yield from (f"  {address}" for address in file["addresses"])
    if row["answers"]:
        yield f"answers: list {row['answers']} of the package ({ANSWERS[row['answers']].name})"
    if row["extractors"]:
        yield f"region extractor, the first that is available: {', '.join(row['extractors'])}"
    yield f"fetched: {row['folder'] or 'no; lxmert weights fetch ' + row['name']}"


def describe_files(folder: Path) -> Iterator[str]:
    """Yield a line for each file that a fetched folder was made of."""
    record = read_record(folder / RECORD)
    for file in record.get("files", []):
        yield (
            f"{file['file']}: {file['bytes']:,} bytes from {file['from']}; SHA-256 "
            f"{file['sha256']}, content compared with: {file['checked']}"
        )
    if "extractor" in record:
        yield f"region extractor: {record['extractor']}"


def size_text(size: int) -> str:
    """Return a rounded size, such as `about 856 MB`."""
    if size == 0:
        return "size unknown"
    return (
        f"about {max(1, round(size / 1000))} kB"
        if size < _MEGABYTE
        else (f"about {size / _MEGABYTE:,.0f} MB")
    )


def _checksum(sha256: str | None) -> str:
    return "no checksum published" if sha256 is None else f"SHA-256 {sha256}"
