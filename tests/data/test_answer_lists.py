"""Answer lists in all supported formats."""

import json
from pathlib import Path

import pytest
from conftest import ASSETS

from lxmert.data.answer_lists import read_answers

FORMS = {
    "label2ans.json": '["", "no", "a\\"b"]',
    "all_ans.json": '[{"ans": "", "dsets": ["vqa"]}, {"ans": "no"}, {"ans": "a\\"b"}]',
    "ans2label.json": '{"no": 1, "a\\"b": 2, "": 0}',
    "id2label.json": '{"1": "no", "2": "a\\"b", "0": ""}',
    "lines.txt": '\nno\na"b\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_answers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name])
    assert read_answers(tmp_path / name).answers == ("", "no", 'a"b')


def test_the_mark_of_editors_on_windows_is_no_part_of_an_answer(tmp_path: Path) -> None:
    """Bug: a JSON list with a byte-order mark was read as a text with one answer per line."""
    for name, text in FORMS.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_answers(tmp_path / name).answers == ("", "no", 'a"b')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one answer"),
        ("[]", "at least one answer"),
        ("yes\nno\nyes\n", "'yes' is in the vocabulary more than once"),
        ("[1, 2]", "entry 0 is 1"),
        ('["yes", {"answer": "no"}]', 'entry 1 is {"answer": "no"}'),
        ('{"yes": 1, "no": 2}', "ids are not 0, 1, 2"),
        ('{"1": "yes", "2": "no"}', "ids are not 0, 1, 2"),
        ('{"0": "yes", "1": "yes"}', "'yes' is in the vocabulary more than once"),
        ('{"yes": 0, "no": 0}', "answer 'no' has the id 0"),
        ('{"yes": 0.5}', "answer 'yes' has the id 0.5"),
        ('["yes",', "is not a list of answers"),
        ('{"0": "yes", "2": "no"}', "ids are not 0, 1, 2"),
        ('{"0": "yes", "00": "no"}', "ids are not 0, 1, 2"),
        ('{"a": "yes", "b": "no"}', "ids are not 0, 1, 2"),
        ('{"0": "yes", "1": 1}', "answer '0' has the id \"yes\""),
        ('{"yes": true}', "answer 'yes' has the id true"),
        ("[" * 100_000, "nested too deep"),
        ('{"yes": ' + "9" * 400 + "}", "an integer of 400 digits"),
    ],
)
def test_anything_else_is_refused_with_its_name(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(ValueError, match="list") as error:
        read_answers(tmp_path / "list")
    assert message in str(error.value)
    assert str(tmp_path / "list") in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        read_answers(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("vqa_trainval_label2ans.json", 3129, ""),
        ("gqa_trainval_label2ans.json", 1842, "cat food"),
        ("lxmert_all_ans_first.json", 20, '"stop"'),
    ],
)
def test_the_published_lists_are_read(name: str, count: int, first: str) -> None:
    answers = read_answers(ASSETS / name).answers
    assert (len(answers), answers[0]) == (count, first)
    listed = json.loads((ASSETS / name).read_text())[count - 1]
    assert answers[-1] == (listed["ans"] if isinstance(listed, dict) else listed)


def test_numbers_may_be_answers(tmp_path: Path) -> None:
    """The keys of {"0": 1} are answers, the values of {"0": "1"} are; ids are never strings."""
    (tmp_path / "list").write_text('{"0": 1, "1": 0}')
    assert read_answers(tmp_path / "list").answers == ("1", "0")
    (tmp_path / "list").write_text('{"0": "1", "1": "0"}')
    assert read_answers(tmp_path / "list").answers == ("1", "0")
