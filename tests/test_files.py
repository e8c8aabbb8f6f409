"""Atomic writes, resumable logs, and bounded reading of JSON and TOML."""

import errno
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from lxmert.files import (
    atomic_path,
    check_not_input,
    child_path,
    parse_json,
    parse_toml,
    read_json,
    read_json_object,
    resume_log,
    sha256,
    to_json,
    write_json,
    write_text,
)


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.json"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stood_there_stays_if_the_writing_fails(tmp_path):
    path = tmp_path / "scores.json"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as partial:
            partial.write_text("ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_line_ends_are_written_as_asked(tmp_path):
    write_text(tmp_path / "a.csv", "x\ny\n", newline="\r\n")
    assert (tmp_path / "a.csv").read_bytes() == b"x\r\ny\r\n"


@pytest.mark.parametrize("half", ["", '{"do', '{"done": 3}'])
def test_notes_go_on_behind_their_last_whole_line(tmp_path, half):
    path, arguments = tmp_path / "notes.jsonl", {"seed": -8, "sizes": (3, 5)}
    assert resume_log(path, arguments, remedy="remove it") == []
    with path.open("a") as file:
        file.write('{"done": 1}\n{"done": 2}\n' + half)
    notes = resume_log(path, arguments, remedy="remove it")
    assert notes == [{"done": 1}, {"done": 2}]
    first, *rest = path.read_text().splitlines()
    assert json.loads(first) == {"seed": -8, "sizes": [3, 5]}
    assert list(map(json.loads, rest)) == notes


def test_notes_cut_off_in_their_first_line_begin_again(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"se')
    assert resume_log(path, {"seed": 3}, remedy="remove it") == []
    assert path.read_text() == '{"seed": 3}\n'


def test_notes_of_another_job_are_refused_with_what_differs(tmp_path):
    """All arguments of both were printed, and the reader had to look for the one that differs."""
    path = tmp_path / "notes.jsonl"
    resume_log(path, {"seed": 3, "count": 5, "old": 1}, remedy="")
    with pytest.raises(ValueError, match="was started with") as refused:
        resume_log(path, {"seed": -9, "count": 5, "new": [2]}, remedy="name another")
    reported = "started with seed 3, not -9; old 1, not None; new None, not [2]: name another"
    assert str(refused.value) == f"{tmp_path} was {reported}"
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"started with \[1\] instead of arguments: name another"):
        resume_log(path, {"seed": -9}, remedy="name another")


@pytest.mark.long
def test_two_writers_of_one_file_do_not_mix_their_rows(tmp_path):
    """The temporary name was fixed: writers that started together shared it, or lost it."""
    code = (
        "import sys, time, pathlib; from lxmert.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as partial, partial.open('w') as file:\n"
        "    for _ in range(200):\n"
        "        print(end=sys.argv[2], file=file, flush=True)\n"
        "        time.sleep(0.001)\n"
    )
    path = tmp_path / "out.jsonl"
    commands = [[sys.executable, "-c", code, str(path), letter] for letter in "abc"]
    writers = [subprocess.Popen(command) for command in commands]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert path.read_text() in {letter * 200 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_behind_is_removed(tmp_path):
    code = (
        "import os, sys, pathlib; from lxmert.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "out.jsonl"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_are_not_regular_files_are_refused(tmp_path):
    """As root, `-o /dev/full` replaced the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="not a regular file"):
        write_text(pipe, "x")
    assert pipe.is_fifo()
    with pytest.raises(ValueError, match="is a folder"):
        write_text(tmp_path, "x")


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "old.txt"
    write_text(path, "old")

    def fill():
        with atomic_path(path) as partial:
            partial.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"old\.txt cannot be written: the disk is full"):
        fill()
    assert path.read_text() == "old"


def test_errors_about_other_files_pass_unchanged(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"^no image x$"),
        atomic_path(tmp_path / "out.txt"),
    ):
        raise FileNotFoundError("no image x")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(photo)
    with pytest.raises(ValueError, match=r"--figure .*link\.png is also an input"):
        check_not_input(tmp_path / "link.png", [None, photo], option="--figure")
    check_not_input(tmp_path / "new.png", [photo, tmp_path / "gone.png"], option="--figure")


@pytest.mark.parametrize("name", ["../secret.dat", "/etc/hosts", "a/../../b", "", "a\0b"])
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no relative path inside"):
        child_path(tmp_path, name)


def test_names_inside_their_folder_are_paths(tmp_path):
    assert child_path(tmp_path, "train/..1.jpg") == tmp_path / "train" / "..1.jpg"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("1" * 400, "an integer of 400 digits"),
        ("1" * 10_000, "an integer of 10000 digits"),
        ("[NaN]", "the number NaN"),
        ("[-Infinity]", "the number -Infinity"),
        ("[1e999]", "the number 1e999"),
        ('{"a": 1,}', "line 1 column"),
        ("", "Expecting value at line 1 column 1"),
    ],
)
def test_unusable_json_is_one_sentence_with_its_file(tmp_path, text, reason):
    """Nested lists gave RecursionError, long integers OverflowError, and NaN went through."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is not .*JSON") as refused:
        read_json(path, remedy="fetch it again")
    assert reason in str(refused.value)
    assert str(refused.value).endswith(": fetch it again")


def test_json_is_read_with_its_byte_order_mark_and_its_limits(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -2.5, 123456789012345678]}')
    assert read_json(path) == {"a": [1, -2.5, 123456789012345678]}
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"must hold a JSON object, got \[1\]"):
        read_json_object(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*y\.json"):
        read_json(tmp_path / "y.json")
    assert parse_json(b"[3]", "here") == [3]


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 40 + "]" * 40,
        "a = " + "{a = " * 100_000,
        "a" + ".a" * 40 + " = 1",
        "[a" + ".a" * 10_000 + "]",
        "a = 1\na = 2",
        "a = 1" + "1" * 400,
        "a = 1" + "1" * 9_000,
    ],
)
def test_unusable_toml_is_one_sentence_with_its_place(text):
    with pytest.raises(ValueError, match=r"x\.toml is not valid TOML .*: correct it$"):
        parse_toml(text, "x.toml")


def test_json_is_never_written_with_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_checksums_are_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "x") == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_never_has_what_is_no_number(value, tmp_path):
    """Bug: `--json` printed NaN, which no other reader of JSON takes."""
    for result in (value, [1, value], {"scores": {"all": value}}):
        with pytest.raises(ValueError, match="a number in it is NaN or infinite, so check"):
            to_json(result)
        with pytest.raises(ValueError, match="NaN or infinite"):
            write_json(tmp_path / "x.json", result)
    assert not list(tmp_path.iterdir())
    assert to_json({"é": 0.5}) == '{"\\u00e9": 0.5}'


def test_every_command_writes_json_by_that_function():
    for path in (ROOT / "src/lxmert/cli").glob("*.py"):
        assert "json.dumps" not in path.read_text(), path


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path, code):
    """Bug: folders had no temporary name of their own, and a full disk left half of one."""
    target = tmp_path / "out"

    def write(*, full: bool) -> None:
        with atomic_path(target) as partial:
            partial.mkdir()
            (partial / "a").write_text("a")
            if full:
                raise OSError(code, "cannot", "source", None, str(partial / "a"))

    with pytest.raises(OSError, match=r"out cannot be written: "):
        write(full=True)
    assert list(tmp_path.iterdir()) == []
    write(full=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]


def test_an_error_of_another_file_stays_that_of_this_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic_path(tmp_path / "out"):
        (tmp_path / "nowhere").read_bytes()


def test_a_file_that_a_library_creates_is_readable_by_all_whom_the_umask_allows(tmp_path):
    """Weights were readable only by their owner, since safetensors creates such files."""
    previous = os.umask(0o022)
    os.umask(previous)
    with atomic_path(tmp_path / "weights.bin") as partial:
        partial.touch(mode=0o600)
    mode = (tmp_path / "weights.bin").stat().st_mode & 0o777
    assert mode == 0o666 & ~previous
