"""Finds official files by name and records which were read."""

from collections.abc import Collection
from pathlib import Path

from lxmert.metrics.json_text import JsonText
from lxmert.names import did_you_mean


def check_name(name: str, known: Collection[str], what: str) -> None:
    """Raise an error for an unknown name.

    Args:
        name: the requested name.
        known: all valid names.
        what: what the names stand for, for the message.

    Raises:
        ValueError: with the nearest name and all valid names.
    """
    if name not in known:
        hint = f"{did_you_mean(name, known)} choose one of {', '.join(known)}"
        raise ValueError(f"no {what} {name!r}: {hint.lstrip()}")


class Downloads:
    """A folder of official files, which may be in subfolders.

    Attributes:
        folder: its path.
        used: the requested files, in order of the first request.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use a folder.

        Raises:
            FileNotFoundError: if it does not exist.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder} with official files: create it with "
                f"`lxmert fetch NAME -o {folder}`"
            )
        self.used: list[Path] = []

    def find(self, *names: str, fetch: str = "", page: str = "") -> Path:
        """Find a file in the folder or up to two levels below it.

        Args:
            names: possible names, the preferred one first; a name may include its folder.
            fetch: name of the download for `lxmert fetch`, for the message.
            page: web page of the dataset, if `lxmert fetch` has no address of it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if several files match.
        """
        for name in names:
            places = (pattern + name for pattern in ("", "*/", "*/*/"))
            found = sorted({path for place in places for path in self.folder.glob(place)})
            if len(found) > 1:
                shown = ", ".join(str(path) for path in found)
                raise ValueError(f"several files are named {name}: {shown}; keep only one of them")
            if found:
                if found[0] not in self.used:
                    self.used.append(found[0])
                return found[0]
        how = f"with `lxmert fetch {fetch} -o {self.folder}`" if fetch else f"from {page}"
        raise FileNotFoundError(f"no file {' or '.join(names)} in {self.folder}: get it {how}")


def read_header(path: Path, names: Collection[str]) -> dict[str, object]:
    """Return selected members of a JSON object without loading its long lists.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte at which the file is not a valid JSON object.
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
    """Check the release, split or dataset that a file declares; None passes.

    Raises:
        ValueError: naming the declared and the expected value.
    """
    if given is not None and given != expected:
        raise ValueError(
            f"{path} declares {what} {str(given)[:60]}, but {expected} is expected: check whether "
            "files were swapped"
        )
