"""Reading of large JSON files in pieces: equal to reading at once, and damage has a place."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxmert.metrics import json_text
from lxmert.metrics.fields import Record
from lxmert.metrics.files import (
    check_coverage,
    collect,
    read_json_lines,
    read_lines,
    read_list,
    read_mapping,
)


@pytest.fixture(params=[1, 7, 1 << 20])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read one character, seven characters, or everything at once."""
    monkeypatch.setattr(json_text, "_CHUNK", request.param)


def same(record: Record) -> Record:
    return record


def random_value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(7 if depth else 5)
    if kind == 0:
        return draw.choice([True, False, None])
    if kind == 1:
        return draw.choice([-8, 123456789012345678, 3.25, 1e-9, 0])
    if kind < 5:
        return "".join(draw.choices('ab"\\,:[]{}\n é犬🐕', k=draw.randrange(6)))
    values = [random_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return values if kind == 5 else {f"k{i}": value for i, value in enumerate(values)}


@pytest.mark.usefixtures("_pieces")
def test_random_files_read_as_with_the_json_module(tmp_path: Path) -> None:
    draw = random.Random(13)
    path = tmp_path / "file.json"
    for trial in range(60):
        records = [{"value": random_value(draw, 3)} for _ in range(draw.randrange(5))]
        style = {"indent": draw.choice([None, 1]), "ensure_ascii": draw.random() < 0.5}
        content: Any = [records, dict(zip("abcde", records, strict=False))][trial % 2]
        path.write_bytes(json.dumps(content, **style).encode() + b" \n" * draw.randrange(2))
        read = list(read_list(path, same)) if trial % 2 == 0 else dict(read_mapping(path, same))
        assert read == content
        path.write_text(json.dumps({"n": 123, "list": records, "m": {}, "k": -4.5}, **style))
        assert list(read_list(path, same, member="list")) == records


@pytest.mark.usefixtures("_pieces")
def test_unwanted_values_are_skipped(tmp_path: Path) -> None:
    draw = random.Random(17)
    path = tmp_path / "file.json"
    for _ in range(60):
        others = {f"other {i}": random_value(draw, 3) for i in range(draw.randrange(4))}
        content = {**others, "list": [{"n": -8}], "last": random_value(draw, 3)}
        path.write_text(json.dumps(content, indent=draw.choice([None, 1])))
        assert list(read_list(path, same, member="list")) == [{"n": -8}]
    path.write_text('{"long": [1, 2, {"a": ], "list": []}')
    with pytest.raises(ValueError, match="damaged at byte 22 of 36"):
        list(read_list(path, same, member="list"))


@pytest.mark.usefixtures("_pieces")
def test_a_file_that_is_cut_anywhere_is_named_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    whole = json.dumps([{"id": "犬" * 3, "n": 17}, {"id": "b"}], ensure_ascii=False).encode()
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"damaged at byte \d+ of {size}") as caught:
            list(read_list(path, same))
        assert str(path) in str(caught.value)
        byte = int(str(caught.value).split("at byte ")[1].split()[0])
        assert 0 <= byte <= size


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b'[{"a": 1}, {"a": }]', 17),
        (b'[{"a": 1} {"a": 2}]', 10),
        (b'[{"a": 1}] 7', 11),
        ('[{"é": 1}; {}]'.encode(), 10),
        (b'\xef\xbb\xbf[{"a": 1};', 12),
        (b'[\r\n{"a": 1};', 11),
        (b'[{"a": 1},]', 10),
    ],
)
def test_damage_is_named_with_the_byte(tmp_path: Path, content: bytes, byte: int) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged at byte {byte} of {len(content)}:"):
        list(read_list(path, same))


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('[{"a": 1}]', encoding="utf-8-sig")
    assert list(read_list(path, same)) == [{"a": 1}]


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(ValueError, match=r"damaged at byte .* not UTF-8 text"):
        list(read_list(path, same))


def test_endless_nesting_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="damaged at byte"):
        list(read_list(path, same))


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (lambda path: list(read_list(path, same)), "[{}, 7]", r"\[1\] is 7, expected an object"),
        (
            lambda path: dict(read_mapping(path, same)),
            '{"x": []}',
            r"\['x'\] is .*, expected an object",
        ),
        (
            lambda path: list(read_list(path, same, member="questions")),
            '{"annotations": []}',
            r"has no list 'questions', only 1 \(first: 'annotations'\)",
        ),
        (
            lambda path: list(read_list(path, same, member="questions")),
            '{"questions": {}}',
            "an object at byte 14, expected a list",
        ),
        (lambda path: list(read_list(path, same)), '{"a": 1}', "an object at byte 0, expected a l"),
        (lambda path: dict(read_mapping(path, same)), "[{}]", "a list at byte 0, expected an obj"),
        (lambda path: dict(read_mapping(path, same)), ' "x"', "a text at byte 1, expected an obj"),
        (lambda path: list(read_list(path, same)), "-7", "a number at byte 0, expected a list"),
        (lambda path: list(read_list(path, same)), "null", "null at byte 0, expected a list"),
    ],
)
def test_another_kind_of_file_is_named(
    tmp_path: Path, read: Callable[[Path], object], content: str, message: str
) -> None:
    """Bug: an intact file of another kind was called "truncated or damaged"."""
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"[]", mtime=0),
            "compressed with gzip, expected plain text: unpack it first",
        ),
        (b"PK\x03\x04\x14\x00", "compressed with ZIP"),
        ("[{}]".encode("utf-16"), "UTF-16 text, expected UTF-8"),
    ],
)
def test_packed_and_utf16_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    """Bug: a compressed file was called damaged at byte 0."""
    path = tmp_path / "results.json"
    path.write_bytes(content)
    for read in (lambda path: list(read_list(path, same)), lambda path: list(read_lines(path))):
        with pytest.raises(ValueError, match=message):
            read(path)
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        list(read_lines(tmp_path))


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1" * 400, "an integer of"),
        ("-" + "9" * 10_000, "an integer of"),
        ("NaN", "the number NaN"),
        ("-Infinity", "the number -Infinity"),
        ("1e999", "the number 1e999"),
        ('{"a":' * 100_000, "too deep|damaged"),
    ],
)
def test_numbers_and_lists_without_end_are_refused(tmp_path: Path, value: str, reason: str) -> None:
    """An integer of 10,000 digits was a traceback of Python's own limit, NaN was read."""
    path = tmp_path / "results.json"
    path.write_text(f'[{{"a": 1}}, {{"a": {value}}}]')
    with pytest.raises(ValueError, match=rf"results\.json .*({reason})"):
        list(read_list(path, same))
    path.write_text(f'{{"other": {value}, "list": []}}')
    with pytest.raises(ValueError, match=rf"results\.json .*({reason})"):
        list(read_list(path, same, member="list"))
    path.write_text(f'{{"a": 1}}\n{{"a": {value}}}\n')
    with pytest.raises(ValueError, match=r"results\.json line 2 is not (valid|usable) JSON"):
        list(read_json_lines(path, same))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (lambda path: list(read_list(path, same)), lambda path: list(read_lines(path))):
        with pytest.raises(FileNotFoundError, match=r"no file .*missing\.json"):
            read(tmp_path / "missing.json")


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"results\.json has 7 more than once"):
        collect([(7, "red"), (5, "red"), (7, "red")], Path("results.json"))


def test_missing_and_unknown_ids_are_counted_with_the_first_of_them() -> None:
    check_coverage([5, 3], [3, 5], name="r.json", reference="q.json")
    with pytest.raises(
        ValueError, match=r"r\.json must have each of the 9 ids of q\.json"
    ) as caught:
        check_coverage([7, 3, 99], range(1, 10), name="r.json", reference="q.json")
    message = str(caught.value)
    assert "lacks 7 (first: 1, 2, 4, 5, 6)" in message
    assert "has 1 (first: 99) unknown ids" in message
