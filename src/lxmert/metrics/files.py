"""Reads official JSON files entry by entry; errors name the file and the entry.

Files with a million entries are read in pieces: only what the caller keeps stays in memory.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lxmert.files import parse_json, shorten
from lxmert.metrics.fields import Record
from lxmert.metrics.json_text import JsonText, check_file

Key = TypeVar("Key", bound=Hashable)
Parsed = TypeVar("Parsed")

_REMEDY = "if the line is truncated, fetch or write the file again"
_SHOWN = 5
_LONGEST = 40
"""Characters of an id shown in a message."""


def read_list(
    path: Path, parse: Callable[[Record], Parsed], *, member: str | None = None
) -> Iterator[Parsed]:
    """Yield the parsed objects of a list in file order.

    Args:
        path: a JSON file that is a list or an object with a list.
        parse: converts an object to an entry; its `ValueError` is prefixed with the location.
        member: name of the list in the file's object; a file that is a bare list, as in VQA-CP,
            is read as well. None: the file is a list.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte at which the JSON is invalid, or the entry that `parse`
            rejects.
    """
    with JsonText(path) as text:
        if member is None or text.begins_list():
            yield from _entries(text, parse, "")
        else:
            yield from _member_entries(text, parse, member)
        text.end()


def read_mapping(path: Path, parse: Callable[[Record], Parsed]) -> Iterator[tuple[str, Parsed]]:
    """Yield the keys and parsed objects of a JSON object in file order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_list`.
    """
    with JsonText(path) as text:
        for key in text.members():
            yield key, _parse(text.value(), parse, f"{path}: [{_name(key)}]")
        text.end()


def read_answers(
    path: Path,
    parse: Callable[[Record], tuple[Key, str]],
    *,
    key: str,
    answer: str,
    to_key: Callable[[object], object] = lambda given: given,
) -> dict[Key, str]:
    """Return answers by question id from any of three formats.

    Args:
        path: the official list of objects; JSON lines of such objects; or an object that maps
            question ids to answers.
        parse: converts an object to an id and an answer.
        key: the objects' key of the id.
        answer: the objects' key of the answer.
        to_key: converts ids of the unofficial formats.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_list`, or naming an id that occurs twice.
    """
    with JsonText(path) as text:
        if text.begins_list():
            pairs = read_list(path, parse)
        elif key in text.take_keys():
            pairs = read_json_lines(
                path, lambda entry: parse({**entry, key: to_key(entry.get(key))})
            )
        else:
            pairs = _read_members(
                path, lambda name, value: parse({key: to_key(name), answer: value})
            )
    return collect(pairs, path)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of every line that is not blank.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not UTF-8 text.
    """
    check_file(path)
    number = 0
    with path.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text after line {number}: {error}") from error


def read_json_lines(path: Path, parse: Callable[[Record], Parsed]) -> Iterator[Parsed]:
    """Yield the parsed objects of a JSON Lines file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line that is not a JSON object or that `parse` rejects.
    """
    for number, line in read_lines(path):
        place = f"{path} line {number}"
        yield _parse(parse_json(line, place, remedy=_REMEDY), parse, place)


def collect(pairs: Iterable[tuple[Key, Parsed]], path: Path) -> dict[Key, Parsed]:
    """Return the pairs as a dict; errors as for `distinct`."""
    return dict(distinct(pairs, path))


def distinct(pairs: Iterable[tuple[Key, Parsed]], path: Path) -> Iterator[tuple[Key, Parsed]]:
    """Yield pairs, checking that no key repeats.

    Raises:
        ValueError: if a key occurs twice, since it is unknown which entry is right.
    """
    found: set[Key] = set()
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{path} has {_name(key)} more than once: keep one entry for each id")
        found.add(key)
        yield key, value


def first_cases(ids: Collection[object]) -> str:
    """Return the number of ids and the first of them: `3 (first: 1, 2, 3)`."""
    cases = ", ".join(_name(case) for case in islice(ids, _SHOWN))
    return f"{len(ids)} (first: {cases})"


def check_coverage(
    given: Collection[object], expected: Collection[object], *, name: str, reference: str
) -> None:
    """Check that two files cover the same ids.

    Args:
        given: the ids in the checked file.
        expected: the ids in the reference file.
        name: name of the checked file, for the message.
        reference: name of the reference file, for the message.

    Raises:
        ValueError: with the numbers of missing and unknown ids and the first of each.
    """
    known = Counter(iter(expected))
    twice = next((case for case, count in known.items() if count > 1), None)
    if twice is not None:
        raise ValueError(
            f"{reference} has {_name(twice)} more than once: keep one entry for each id"
        )
    missing = [case for case in expected if case not in given]
    unknown = [case for case in given if case not in known]
    reasons = []
    if missing:
        reasons.append(f"lacks {first_cases(missing)}")
    if unknown:
        reasons.append(f"has {first_cases(unknown)} unknown ids")
    if reasons:
        raise ValueError(
            f"{name} must have each of the {len(expected)} ids of {reference} once, but it "
            f"{' and '.join(reasons)}: check that both files belong to the same split and release"
        )


def _entries(text: JsonText, parse: Callable[[Record], Parsed], member: str) -> Iterator[Parsed]:
    for index, value in enumerate(text.elements()):
        yield _parse(value, parse, f"{text.path}: {member}[{index}]")


def _member_entries(
    text: JsonText, parse: Callable[[Record], Parsed], member: str
) -> Iterator[Parsed]:
    names = []
    for name in text.members():
        if name == member:
            yield from _entries(text, parse, member)
        else:
            text.skip()
        names.append(name)
    if member not in names:
        found = f"only {first_cases(names)}" if names else "and no other key"
        raise ValueError(f"{text.path} has no list {member!r}, {found}: expected the official file")


def _read_members(path: Path, parse: Callable[[str, object], Parsed]) -> Iterator[Parsed]:
    with JsonText(path) as text:
        for name in text.members():
            try:
                yield parse(name, text.value())
            except ValueError as error:
                raise ValueError(f"{path} (an object of answers): {error}") from error
        text.end()


def _name(key: object) -> str:
    """Return an id for a message."""
    text = repr(key)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _parse(value: object, parse: Callable[[Record], Parsed], place: str) -> Parsed:
    """Parse an entry; errors name its location."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {shorten(value)}, expected an object")
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
