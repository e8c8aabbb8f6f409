"""Names in messages: the nearest of those that there are, and counts with their nouns."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_CUTOFF = 0.6
_LONGEST = 200  # comparing takes time with the product of the lengths


def nearest(name: str, candidates: Iterable[str], n: int = 1, cutoff: float = _CUTOFF) -> list[str]:
    """Return the candidates that a name may be a misspelling of, the nearest first.

    Args:
        name: what was given; upper and lower case do not count.
        candidates: the names that there are.
        n: how many to return at most.
        cutoff: how alike two names must be, from 0 to 1.
    """
    if len(name) > _LONGEST:
        return []
    known: dict[str, list[str]] = {}
    for candidate in candidates:
        known.setdefault(candidate.lower(), []).append(candidate)
    close = get_close_matches(name.strip().lower(), known, n=n, cutoff=cutoff)
    return [candidate for lowered in close for candidate in known[lowered]][:n]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest candidate; empty where none is near."""
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
        number: how many there are.
        noun: what there is, of one.
        plural: the same of several; left out: the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
