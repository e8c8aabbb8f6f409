"""The folder of official files: finds them by name, remembers which were read."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from lxmert.metrics.json_text import JsonText
from lxmert.names import did_you_mean


def check_name(name: str, known: Collection[str], what: str) -> None:
    """Refuse a name that nothing is known of.

    Args:
        name: what was asked for.
        known: all names that there are.
        what: what they name, for the message.

    Raises:
        ValueError: with the nearest name and all others.
    """
    if name not in known:
        hint = f"{did_you_mean(name, known)} there are {', '.join(known)}"
        raise ValueError(f"no {what} {name!r}: {hint.lstrip()}")


class Downloads:
    """A folder in which official files lie, in folders of their own or not.

    Attributes:
        folder: where it is.
        used: the files that were asked for, in that order.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use a folder.

        Raises:
            FileNotFoundError: if there is none.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder} of official files: `lxmert fetch NAME -o {folder}` "
                "makes one"
            )
        self.used: list[Path] = []

    def find(self, *names: str, fetch: str) -> Path:
        """Return a file, which may lie in a folder of the folder, or in one of that.

        Args:
            names: what it may be called, the best name first; a name may begin with a folder's.
            fetch: what `lxmert fetch` calls the download that has it.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if several files have the name.
        """
        for name in names:
            places = (pattern + name for pattern in ("", "*/", "*/*/"))
            found = sorted({path for place in places for path in self.folder.glob(place)})
            if len(found) > 1:
                shown = ", ".join(str(path) for path in found)
                raise ValueError(f"{shown} are all called {name}: keep the one that is meant")
            if found:
                if found[0] not in self.used:
                    self.used.append(found[0])
                return found[0]
        raise FileNotFoundError(
            f"no file {' or '.join(names)} in {self.folder}: get it with "
            f"`lxmert fetch {fetch} -o {self.folder}`"
        )


def read_header(path: Path, names: Collection[str]) -> dict[str, object]:
    """Return members of a document that is one JSON object; its long lists are passed over.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte where it is no JSON object.
    """
    found = {}
    with JsonText(path) as text:
        for name in text.members():
            if name in names:
                found[name] = text.value()
            else:
                text.skip()
        text.end()
    return found


def check_is(path: Path, given: object, expected: str, what: str) -> None:
    """Refuse a file of another release, split or data set; what a file does not say is believed.

    Raises:
        ValueError: naming both.
    """
    if given is not None and given != expected:
        raise ValueError(
            f"{path} is of {what} {str(given)[:60]}, but {expected} is needed: is it in the place of another "
            "file?"
        )


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
