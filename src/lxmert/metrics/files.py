"""Reads official JSON files entry by entry, so that an error names file and place.

Files of a million entries are read in pieces: only what the caller keeps stays in memory.
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

_REMEDY = "if the line is cut short, fetch or write the file again"
_SHOWN = 5
_LONGEST = 40
"""Signs of an id that a message shows."""


def read_list(
    path: Path, parse: Callable[[Record], Parsed], *, member: str | None = None
) -> Iterator[Parsed]:
    """Yield the parsed objects of a list, in the file's order.

    Args:
        path: a JSON file that is a list, or an object that holds one.
        parse: makes an entry from an object; its `ValueError` gets the place put before it.
        member: the name of the list in the file's object; a file that is the bare list, as those
            of VQA-CP, is read as well. Absent: the file is the list.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the byte where the file is no JSON or another kind of it, or the entry
            that `parse` refuses.
    """
    with JsonText(path) as text:
        if member is None or text.begins_list():
            yield from _entries(text, parse, "")
        else:
            yield from _member_entries(text, parse, member)
        text.end()


def read_mapping(path: Path, parse: Callable[[Record], Parsed]) -> Iterator[tuple[str, Parsed]]:
    """Yield the keys and parsed objects of a JSON object, in the file's order.

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
    """Return answers by question id, from any of the forms in which people have them.

    Args:
        path: a list of objects, as officially; one such object a line; or an object of answers by
            question id.
        parse: makes id and answer from an object.
        key: what such objects call the id.
        answer: what they call the answer.
        to_key: makes the id from what the forms that are not official have.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_list`, or naming the id that is there twice.
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
        ValueError: if the file is no UTF-8 text.
    """
    check_file(path)
    number = 0
    with path.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8 text after line {number}: {error}") from error


def read_json_lines(path: Path, parse: Callable[[Record], Parsed]) -> Iterator[Parsed]:
    """Yield the parsed objects of a file with one JSON object a line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line that is no JSON object, or that `parse` refuses.
    """
    for number, line in read_lines(path):
        place = f"{path} line {number}"
        yield _parse(parse_json(line, place, remedy=_REMEDY), parse, place)


def collect(pairs: Iterable[tuple[Key, Parsed]], path: Path) -> dict[Key, Parsed]:
    """Return the pairs as a dict; errors as for `distinct`."""
    return dict(distinct(pairs, path))


def distinct(pairs: Iterable[tuple[Key, Parsed]], path: Path) -> Iterator[tuple[Key, Parsed]]:
    """Pass pairs on.

    Raises:
        ValueError: if a key comes twice: which of the two holds, nobody can tell.
    """
    found: set[Key] = set()
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{path} has {_name(key)} more than once: keep one entry for each id")
        found.add(key)
        yield key, value


def first_cases(ids: Collection[object]) -> str:
    """Return how many ids there are, with the first of them: `3 (first: 1, 2, 3)`."""
    cases = ", ".join(_name(case) for case in islice(ids, _SHOWN))
    return f"{len(ids)} (first: {cases})"


def check_coverage(
    given: Collection[object], expected: Collection[object], *, name: str, whole: str
) -> None:
    """Check that two files are about the same ids.

    Args:
        given: the ids of the file `name`.
        expected: the ids of the file `whole`.
        name: for the message.
        whole: for the message.

    Raises:
        ValueError: with the number of missing and of unknown ids and the first of each.
    """
    known = Counter(iter(expected))
    twice = next((case for case, count in known.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{whole} names {_name(twice)} more than once: keep one entry for each id")
    missing = [case for case in expected if case not in given]
    unknown = [case for case in given if case not in known]
    reasons = []
    if missing:
        reasons.append(f"lacks {first_cases(missing)}")
    if unknown:
        reasons.append(f"has {first_cases(unknown)} that are not there")
    if reasons:
        raise ValueError(
            f"{name} must be about the {len(expected)} ids of {whole}, each of them once; it "
            f"{' and '.join(reasons)}: are both files of the same split and release?"
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
        found = f"only {first_cases(names)}" if names else "and nothing else"
        raise ValueError(f"{text.path} has no list {member!r}, {found}: expected the official file")


def _read_members(path: Path, parse: Callable[[str, object], Parsed]) -> Iterator[Parsed]:
    with JsonText(path) as text:
        for name in text.members():
            try:
                yield parse(name, text.value())
            except ValueError as error:
                raise ValueError(f"{path} as an object of answers: {error}") from error
        text.end()


def _name(key: object) -> str:
    """Return an id for a message."""
    text = repr(key)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _parse(value: object, parse: Callable[[Record], Parsed], place: str) -> Parsed:
    """Parse an entry; a refusal says where it stands."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be an object, got {shorten(value)}")
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
