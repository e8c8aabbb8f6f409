"""The commands of the miniature world refuse in one line, before anything is rendered or drawn."""

from pathlib import Path

import pytest
from conftest import Command

from lxmert.lab.scenes.questions import QUESTION_TYPES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["captions", "--rounds", "2"], "--rounds needs the kind qa: add qa"),
        (
            ["pairs", "--question-type", "what"],
            "--question-type needs the kind qa: add qa",
        ),
        (["qa", "--captions", "4"], "--captions needs the kind captions: add"),
        (["qa", "captions", "--groups", "0"], "leave --groups out"),
    ],
)
def test_an_option_about_texts_that_are_not_made_is_refused(
    lxmert: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Such options were ignored without a word, and zero groups refused where none are made."""
    result = lxmert("lab", "make", *arguments, "-o", tmp_path / "x")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_help_has_all_question_types(lxmert: Command) -> None:
    reported = lxmert("lab", "make", "--help").out
    assert [name for name in QUESTION_TYPES if name not in reported] == []


def test_a_folder_below_a_file_is_refused(lxmert: Command, tmp_path: Path) -> None:
    """It said `[Errno 20] Not a directory`."""
    (tmp_path / "file").write_text("")
    result = lxmert("lab", "make", "qa", "-o", tmp_path / "file" / "x")
    assert result.code == 2
    reported = f"--output {tmp_path}/file/x: {tmp_path}/file is a file; name another folder\n"
    assert result.err == f"lxmert: {reported}"


def test_a_sheet_without_the_ending_of_an_image_is_refused(lxmert: Command, tmp_path: Path) -> None:
    """It was found out when all scenes were drawn."""
    result = lxmert("lab", "show", tmp_path, "-o", tmp_path / "sheet")
    assert result.code == 2
    assert f"--output {tmp_path}/sheet does not end like an image file: try sheet.png" in result.err


def test_worlds_are_made_shown_and_refused(lxmert: Command, tmp_path: Path) -> None:
    wrong = lxmert("lab", "worlds", "make", "countin", "-o", tmp_path / "worlds")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "did you mean 'counting'?" in wrong.err
    few = lxmert("lab", "worlds", "make", "bars", "--images", 19, "-o", tmp_path / "worlds")
    assert (few.code, "--images is 19, expected at least 20" in few.err) == (2, True)
    absent = lxmert("lab", "worlds", "show", tmp_path)
    assert (absent.code, "lxmert lab worlds make -o" in absent.err) == (2, True)
    options = ("--images", 20, "-o", tmp_path / "worlds")
    made = lxmert("lab", "worlds", "make", "grid", "bars", *options)
    assert (made.code, "160 train, 160 valid, 160 test questions" in made.out) == (0, True)
    shown = lxmert("lab", "worlds", "show", tmp_path / "worlds", "-o", tmp_path / "worlds.png")
    assert shown.code == 0
    assert [line.split()[:3] for line in shown.out.splitlines() if line.startswith("grid")] == [
        ["grid", "is", "80"],
        ["grid", "next", "80"],
        ["grid", "overall", "160"],
    ]
    assert (tmp_path / "worlds.png").stat().st_size > 10_000
    assert lxmert("lab", "worlds", "show", tmp_path / "worlds", "--json").out.startswith('{"grid"')
