"""Typed records: one sentence names everything that is wrong in a file."""

import json
import pickle
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import pytest
from pydantic import Field

from lxmert.records import LATER, MAX_RECORD_BYTES, Count, Items, Number, Record, Share


class Lamp(Record):
    kind: Literal["lamp"] = "lamp"
    name: str
    sides: Annotated[Items[Count], Field(min_length=2)] = (3, 5)
    shades: Mapping[str, Items[str]] = Field(default_factory=dict)
    height: Annotated[Number, LATER] = 2.5
    gloss: Share = 0.25
    lit: bool = False
    watts: Count | None = None

    def problems(self) -> Iterator[str]:
        if self.lit and self.watts is None:
            yield "watts is missing, expected a number where lit is true"


def test_file_gives_the_record_back(tmp_path):
    lamp = Lamp(name="a", sides=(7, 9), shades={"x": ("red", "blue")}, height=3, watts=40)
    path = tmp_path / "lamp.json"
    path.write_text(json.dumps(lamp.to_dict()))
    assert Lamp.from_file(path) == lamp
    assert pickle.loads(pickle.dumps(lamp)) == lamp


def test_numbers_stay_as_they_are_written():
    """A fingerprint is a hash of the JSON: 3 that became 3.0 would change it."""
    assert json.dumps(Lamp(name="a", height=3, gloss=1).to_dict()) == (
        '{"kind": "lamp", "name": "a", "sides": [3, 5], "shades": {}, "height": 3, "gloss": 1, '
        '"lit": false, "watts": null}'
    )


def test_later_fields_stand_in_a_file_only_if_they_were_changed():
    assert "height" not in Lamp(name="a").to_dict()
    assert Lamp(name="a", height=9.5).to_dict()["height"] == 9.5


def test_all_errors_are_named_at_once():
    """Readers died at the first wrong type with a traceback, and accepted NaN and 0."""
    with pytest.raises(ValueError, match="kind") as raised:
        Lamp.from_dict(
            {
                "kind": ["lamp"],
                "sides": [3, 1e9],
                "shades": ["x"],
                "height": float("nan"),
                "gloss": -0.5,
                "lit": 1,
                "watts": 0,
                "hieght": 3,
            }
        )
    assert str(raised.value) == (
        "kind: got [\"lamp\"], expected 'lamp'; name is missing; "
        "sides[1]: got 1000000000.0, expected an integer; "
        'shades: got ["x"], expected an object; height: got NaN, expected a finite number; '
        "gloss: got -0.5, expected at least 0; lit: got 1, expected true or false; "
        "watts: got 0, expected at least 1; unknown key 'hieght' (did you mean 'height'?)"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sides": "35"}, 'sides: got "35", expected a list'),
        ({"sides": [3]}, r"sides: got \[3\], expected at least 2 items"),
        ({"sides": [3, True]}, r"sides\[1\]: got true, expected an integer"),
        ({"shades": {"x": ["red", 5]}}, r"shades\.x\[1\]: got 5, expected a text"),
        ({"height": True}, "height: got true, expected a number"),
        ({"height": 10**400}, "height: got 1000.*, expected a "),
        ({"watts": 10**400}, "watts: got 1000.*, expected at most 100000"),
        ({"lit": True}, "watts is missing, expected a number where lit is true"),
        ({f"x{index}": 1 for index in range(30)}, "and 10 more"),
        ({"x" * 5000: 1}, "unknown key 'x{80}'"),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(ValueError, match=message) as raised:
        Lamp(**{"name": "a"} | values)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must hold a JSON object"),
        ("{", "is not valid JSON"),
        ('{"name": ' + "[" * 100_000, "nested too deep"),
        ('{"name": "a", "watts": ' + "9" * 400 + "}", "an integer of 400 digits"),
        ('{"name": "a", "gloss": NaN}', "the number NaN"),
        (
            '{"name": 3, "glos": 1}',
            'name: got 3, expected a text in quotation marks; unknown key .*"?: correct it',
        ),
        (" " * (MAX_RECORD_BYTES + 1), "has 16 MiB; expected at most 16"),
    ],
)
def test_damaged_file_is_named(tmp_path, text, message):
    path = tmp_path / "lamp.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        Lamp.from_file(path)
    assert str(raised.value).startswith(str(path))


def test_replacing_checks_as_well():
    lamp = Lamp(name="a")
    assert lamp.replace(gloss=0.5) == Lamp(name="a", gloss=0.5)
    with pytest.raises(ValueError, match="gloss: got 7, expected at most 1"):
        lamp.replace(gloss=7)


def test_records_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Lamp(name="a").name = "b"
