"""The command line itself: unforeseen errors, inputs as outputs, odd characters, interruptions."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, Command

from lxmert.terminal import escape_controls, open_console, say, show_steps

SCENE, QUESTION = ROOT / "src/lxmert/examples/scene.png", "What color is the ball?"
UNFORESEEN = (RecursionError, KeyError, TypeError, RuntimeError, MemoryError, IndexError)


@pytest.mark.parametrize("kind", UNFORESEEN)
def test_an_unforeseen_error_is_one_line_with_exit_code_70(
    kind: type[Exception], lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They left the command line as tracebacks."""

    def fail(path: object) -> None:
        raise kind("of some\nkind")

    monkeypatch.setattr("lxmert.workflows.inspection.inspect", fail)
    done = lxmert("info", "some file.json")
    assert (done.code, done.err.count("\n"), done.out) == (70, 1, "")
    assert done.err.startswith(f"lxmert: info failed unexpectedly with {kind.__name__}: ")
    assert "'some file.json'" in done.err
    assert "lxmert --debug info" in done.err
    with pytest.raises(kind):
        lxmert("--debug", "info", "some file.json")


def test_an_error_of_the_system_without_a_file_names_the_command(
    lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[Errno 28] No space left on device` named neither file nor remedy."""

    def fail(path: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lxmert.workflows.inspection.inspect", fail)
    done = lxmert("info", "x")
    assert done.code == 2
    assert done.err.startswith("lxmert: info: No space left on device; check free disk space")


def test_the_version_is_printed(lxmert: Command) -> None:
    assert lxmert("--version").out.startswith("lxmert 0.")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(SCENE.read_bytes())
    return path


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "dots"])
def test_a_figure_may_not_replace_its_image(
    link: str, photo: Path, tmp_path: Path, lxmert: Command
) -> None:
    """The photo was gone."""
    output = {"same": photo, "dots": tmp_path / ".." / tmp_path.name / "photo.png"}.get(
        link, tmp_path / "other.png"
    )
    if link == "symlink":
        output.symlink_to(photo)
    elif link == "hardlink":
        os.link(photo, output)
    done = lxmert("ask", photo, QUESTION, "--figure", output)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"--figure {output} is also an input" in done.err
    assert photo.read_bytes() == SCENE.read_bytes()


def test_no_command_writes_over_what_it_reads(photo: Path, tmp_path: Path, lxmert: Command) -> None:
    """`predict -o` and others replaced the questions."""
    data, model = tmp_path / "q.jsonl", "nowhere"
    data.write_text('{"image": "photo.png", "question": "a", "answer": "b"}\n')
    commands = [
        ("explain", photo, QUESTION, "--figure", photo),
        ("predict", model, "--data", data, "--images", tmp_path, "-o", data),
        ("evaluate", model, "--data", data, "--images", tmp_path, "-o", data),
        ("attention-figures", model, "--data", data, "--images", tmp_path, "-o", data),
        ("explain-eval", model, "--data", data, "--images", tmp_path, "-o", tmp_path),
        ("extract", tmp_path, "-o", tmp_path),
        ("extract", tmp_path, "-o", tmp_path / "s", "--figures", tmp_path),
        ("convert", data, data),
    ]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in commands:
        done = lxmert(*command)
        assert (done.code, done.err.count("\n")) == (2, 1), command
        assert "is also an input, which would be overwritten" in done.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_that_is_no_regular_file_is_refused(tmp_path: Path, lxmert: Command) -> None:
    """As root, `-o /dev/full` replaced the device."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    done = lxmert("ask", SCENE, QUESTION, "--figure", pipe)
    assert done.code == 2
    assert "is a device or pipe, not a regular file" in done.err
    assert pipe.is_fifo()


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers, ids and names of files moved the cursor and cleared the screen."""
    from rich.table import Table
    from rich.text import Text

    hostile = "\x1b[2J\x1b]0;title\x07a\x9bb\rc\ud800"
    table = Table("x\x1b[H")
    table.add_row(Text(hostile))
    console = open_console(force_terminal=True, color_system="truecolor", width=80)
    console.print(table)
    console.print(Text(hostile, style="bold"))
    say(hostile)
    say(hostile, error=True)
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "\x1b[1m" in shown, "styles of our own stay"
    for sign in ("\x1b[2J", "\x1b]", "\x1b[H", "\x07", "\x9b", "\r", "\ud800"):
        assert sign not in shown
    assert escape_controls("a\tb\n") == "a\tb\n"


def test_a_hostile_name_is_harmless_in_an_error(tmp_path: Path, lxmert: Command) -> None:
    done = lxmert("info", tmp_path / "a\x1b[2Jb")
    assert done.code == 2
    assert "\x1b" not in done.err


def test_what_an_encoding_lacks_is_replaced() -> None:
    """Bars and accents ended the command where the locale is not UTF-8."""
    assert escape_controls("█ 5 ± 1 café", encoding="ascii") == "# 5 +- 1 caf?"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    open_console(file=stream).print("█ café")
    stream.flush()
    assert stream.buffer.getvalue() == b"# caf?\n"  # type: ignore[attr-defined]


def test_a_command_runs_where_the_locale_is_not_utf_8() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "lxmert", "ask", str(SCENE), QUESTION]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"#####" in done.stdout


@pytest.mark.long
def test_interruptions_are_one_line(tmp_path: Path) -> None:
    """Three in a row, or one while libraries were imported, ended in a traceback."""
    code = (
        "import os, signal, sys; from lxmert.cli import main as cli\n"
        "def interrupt(path):\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "import lxmert.workflows.inspection as inspection\n"
        "inspection.inspect = interrupt\n"
        "import atexit; atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['lxmert', 'info', 'x']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("lxmert: interrupted; run the same command to resume")


def test_forced_colors_start_no_progress_bar(tmp_path: Path) -> None:
    """A notebook sets FORCE_COLOR; its output had a line for each state of the bar."""
    command = [sys.executable, "-m", "lxmert", "lab", "make", "qa", "--count", "2", "--rounds", "1"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "scenes")],
        env={**os.environ, "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 images" in done.stdout
    assert "\x1b[2K" not in done.stdout + done.stderr


def test_progress_is_logged_where_no_bar_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A study whose output was a log file was silent until its end."""
    times = iter([0.0, 0.0, 1.0, 25.0, 31.0, 40.0, 41.0, 61.0, 71.0])
    monkeypatch.setattr("lxmert.terminal.time", SimpleNamespace(monotonic=lambda: next(times)))
    caplog.set_level(logging.INFO)
    with show_steps("images", "explanations") as (images, explanations):
        images(1, None)  # at 1 s
        images(2, None)
        images(3_000, None)  # at 31 s
        explanations(5, 20)  # at 40 s: these are from an interrupted study
        explanations(6, 20)
        explanations(7, 20)
        explanations(10, 20)  # at 71 s: five more in 31 s
    line = "explanations: 10 of 20  0:01:02 left"
    assert caplog.messages == ["images: 3,000", "explanations: 5 of 20", line]
