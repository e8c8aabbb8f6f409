"""Parts of messages: nearest valid names, counts with their nouns, sizes of files, reasons."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_CUTOFF = 0.6
_LONGEST = 200  # comparing takes time with the product of the lengths


def nearest(name: str, candidates: Iterable[str], n: int = 1, cutoff: float = _CUTOFF) -> list[str]:
    """Return the candidates that are most similar to a name, nearest first.

    Args:
        name: the given name; case is ignored.
        candidates: the valid names.
        n: maximum number of candidates to return.
        cutoff: minimum similarity, from 0 to 1.
    """
    if len(name) > _LONGEST:
        return []
    known: dict[str, list[str]] = {}
    for candidate in candidates:
        known.setdefault(candidate.lower(), []).append(candidate)
    close = get_close_matches(name.strip().lower(), known, n=n, cutoff=cutoff)
    return [candidate for lowered in close for candidate in known[lowered]][:n]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest candidate, or an empty string."""
    return "".join(f"did you mean {candidate!r}?" for candidate in nearest(name, candidates))


def unknown_name(given: str, valid: Collection[str]) -> str:
    """Return the message for a name that is not valid, with the valid ones and the nearest."""
    if not valid:
        return f"{given} is unknown; expected no name here: remove it"
    hint = did_you_mean(given, valid)
    return f"{given} is unknown; expected one of {', '.join(valid)}" + (f": {hint}" if hint else "")


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 question", "2,000 questions".

    Args:
        number: the count.
        noun: the noun in the singular.
        plural: its plural; default: the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def file_size(size: int) -> str:
    """Return a number of bytes as text: "15.7 MB", "12 kB"."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{round(size / 1e3)} kB"


def reason(error: BaseException, *, last: bool = False) -> str:
    """Return the first line of an error's message, or the last; its type if there is no message.

    Errors such as `MemoryError` often have none.
    """
    lines = str(error).strip().splitlines()
    return lines[-1 if last else 0] if lines else type(error).__name__
