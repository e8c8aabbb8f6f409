"""Files appear when they are whole; notes of a job go on where it stopped."""

import json

import pytest

from lxmert.whole_files import resume_notes, whole_file, write_whole


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.json"
    with whole_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stood_there_stays_if_the_writing_fails(tmp_path):
    path = tmp_path / "scores.json"
    write_whole(path, "old")

    def fail():
        with whole_file(path) as partial:
            partial.write_text("ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_line_ends_are_written_as_asked(tmp_path):
    write_whole(tmp_path / "a.csv", "x\ny\n", newline="\r\n")
    assert (tmp_path / "a.csv").read_bytes() == b"x\r\ny\r\n"


@pytest.mark.parametrize("half", ["", '{"do', '{"done": 3}'])
def test_notes_go_on_behind_their_last_whole_line(tmp_path, half):
    path, arguments = tmp_path / "notes.jsonl", {"seed": -8, "sizes": (3, 5)}
    assert resume_notes(path, arguments, remedy="remove it") == []
    with path.open("a") as file:
        file.write('{"done": 1}\n{"done": 2}\n' + half)
    notes = resume_notes(path, arguments, remedy="remove it")
    assert notes == [{"done": 1}, {"done": 2}]
    first, *rest = path.read_text().splitlines()
    assert json.loads(first) == {"seed": -8, "sizes": [3, 5]}
    assert list(map(json.loads, rest)) == notes


def test_notes_cut_off_in_their_first_line_begin_anew(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"se')
    assert resume_notes(path, {"seed": 3}, remedy="remove it") == []
    assert path.read_text() == '{"seed": 3}\n'


def test_notes_of_another_job_are_refused_with_what_differs(tmp_path):
    """All arguments of both were printed, and the reader had to look for the one that differs."""
    path = tmp_path / "notes.jsonl"
    resume_notes(path, {"seed": 3, "count": 5, "old": 1}, remedy="")
    with pytest.raises(ValueError, match="was begun with") as refused:
        resume_notes(path, {"seed": -9, "count": 5, "new": [2]}, remedy="name another")
    told = "begun with seed 3, not -9; old 1, not None; new None, not [2]: name another"
    assert str(refused.value) == f"{tmp_path} was {told}"
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"begun with \[1\] in place of arguments: name another"):
        resume_notes(path, {"seed": -9}, remedy="name another")
