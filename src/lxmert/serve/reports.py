"""Saved reports: pages under random names in one folder, of which the oldest are removed."""

import re
import secrets
from pathlib import Path

from lxmert.files import write_text

_NAME = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_MAX_REPORTS = 1000


class SavedReports:
    """Reports by name; knowing the name is what gives access."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is created when the first report is saved."""
        self._folder = folder

    def save(self, page: str) -> str:
        """Write a page, and return its name of 128 random bits."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = secrets.token_urlsafe(16)
        write_text(self._folder / f"{name}.html", page)
        self._remove_oldest()
        return name

    def find(self, name: str) -> Path | None:
        """Return the file of a report; None if there is none of this name."""
        if not _NAME.fullmatch(name):
            return None
        path = self._folder / f"{name}.html"
        return path if path.is_file() else None

    def _remove_oldest(self) -> None:
        paths = sorted(self._folder.glob("*.html"), key=_age)
        for path in paths[:-_MAX_REPORTS]:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Return the time of the last change; other workers may remove files at the same time."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
