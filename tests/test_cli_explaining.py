"""The commands that explain, as a user types them."""

import html
import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Command
from PIL import Image

from lxmert.explain.text import percent
from lxmert.lab.scenes.dataset import SceneSettings, make_dataset

SCENE = ROOT / "src/lxmert/examples/scene.png"
QUESTION = "What color is the ball?"
MODEL = ROOT / "src/lxmert/default"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "test"
    make_dataset(folder, SceneSettings(("qa",), "test", count=3, seed=8, rounds=1))
    return folder


def test_explain_writes_the_report_and_the_figure(lxmert: Command, tmp_path: Path) -> None:
    page, figure = tmp_path / "report.html", tmp_path / "figure.pdf"
    result = lxmert(
        "explain", SCENE, QUESTION, "-o", page, "--figure", figure, "--answer", "mug",
        "--top-k", 2, "--methods", "propagation, occlusion",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "most relevant region" in result.out
    assert "mug" in result.out
    assert "by propagation" in result.out
    written = page.read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert QUESTION in written
    assert figure.read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.pdf", "report.html"]


def test_explain_without_an_output_prints_its_table(lxmert: Command, tmp_path: Path) -> None:
    """It exited with 2 although it had a table to print."""
    result = lxmert("explain", SCENE, QUESTION, "--top-k", 2)
    assert result.code == 0, result.err
    assert "most relevant region" in result.out
    assert "report:" not in result.out


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("ask", "--figure", "f.jpg"),
        ("ask", "--figure", "f.png"),
        ("explain", "--figure", "f.pdf"),
        ("explain", "--figure", "f.png"),
        ("explain", "-o", "r.html"),
    ],
)
def test_on_a_full_disk_the_old_file_stays_and_one_line_says_so(
    lxmert: Command, tmp_path: Path, command: str, option: str, name: str
) -> None:
    """Half a JPEG was left, with exit code 0: Pillow's encoder drops what the disk does not take.

    A limit on the size of files stands in for the disk.
    """
    resource = pytest.importorskip("resource", reason="POSIX only")
    path = tmp_path / name
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        result = lxmert(command, SCENE, QUESTION, option, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.code == 2
    assert f"{path} cannot be written" in result.err
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_percentages_are_the_same_on_the_terminal_in_the_report_and_in_figures(
    lxmert: Command, tmp_path: Path
) -> None:
    """The best answer had 100.0% on the terminal, 99.9% in the report and 100% in the figure."""
    page, figure = tmp_path / "r.html", tmp_path / "f.svg"
    asked = lxmert("ask", SCENE, QUESTION)
    explained = lxmert("explain", SCENE, QUESTION, "-o", page, "--figure", figure)
    (score,) = re.findall(r'"answers":\[\{"text":"\w+","score":([\d.]+)', page.read_text())
    shown = percent(float(score))
    assert shown in asked.out
    assert shown in explained.out
    assert f"({shown})" in html.unescape(figure.read_text())


def test_a_pdf_is_written_without_a_word_of_the_fonts_library(
    lxmert: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was left out of each font stood on the terminal, thirty lines of it."""
    caplog.set_level("INFO")
    result = lxmert("explain", SCENE, QUESTION, "--figure", tmp_path / "figure.pdf")
    assert result.code == 0, result.err
    assert [record.name for record in caplog.records if "fontTools" in record.name] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "none/report.html"), "no folder none; create it first"),
        (("-o", "."), "is a folder: name a file in it"),
        (("-o", "out.png"), "out.png is not an HTML file, which the report is: use out.html"),
        (("--figure", "out.xyz"), "out.xyz has no figure suffix: use out.pdf"),
        (("-o", "r.html", "--top-k", "0"), "--top-k is 0: explain at least 1"),
        (("-o", "r.html", "--answer", "Blak"), "'Blak' is not among the "),
        (("-o", "r.html", "--methods", "atention"), "did you mean 'attention'?"),
    ],
)
def test_what_cannot_be_explained_is_one_line_with_exit_code_2(
    lxmert: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lxmert("explain", SCENE, QUESTION, *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_is_computed(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was computed and printed before it was said, of a name that ends with `.partial`."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may always write
    result = lxmert("explain", SCENE, QUESTION, "-o", tmp_path / "r.html")
    assert (result.code, result.out) == (2, "")
    assert f"the folder {tmp_path} is not writable; name another folder" in result.err


def test_the_nearest_answers_are_named(lxmert: Command, tmp_path: Path) -> None:
    result = lxmert("explain", SCENE, QUESTION, "-o", tmp_path / "r.html", "--answer", "blak")
    assert "the nearest are black" in result.err


@pytest.mark.long
def test_without_matplotlib_the_figure_says_what_to_install(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = lxmert("explain", SCENE, QUESTION, "--figure", tmp_path / "f.png")
    assert result.code == 2
    assert "pip install matplotlib" in result.err
    assert lxmert("explain", SCENE, QUESTION, "-o", tmp_path / "r.html").code == 0


@pytest.mark.long
def test_explain_eval_prints_a_row_for_each_method_and_chance(
    lxmert: Command, scenes: Path, tmp_path: Path
) -> None:
    result = lxmert(
        "explain-eval", MODEL, "--data", scenes / "questions.jsonl", "--images", scenes / "images",
        "-o", tmp_path / "out", "--methods", "attention,occlusion", "--seeds", 1, "--limit", 6,
    )  # fmt: skip
    assert result.code == 0, result.err
    rows = [line.split()[0] for line in result.out.splitlines() if line.strip()]
    assert [name for name in rows if name in ("attention", "occlusion", "random")] == [
        "attention", "occlusion", "random",
    ]  # fmt: skip
    assert "pointing game on" in result.out
    assert "are removed first, low is good\nnegative: the least" in result.out
    report = json.loads((tmp_path / "out/faithfulness.json").read_text())
    assert report["questions"] == 6


def test_explain_eval_says_where_there_is_no_pointing_game(lxmert: Command, tmp_path: Path) -> None:
    result = lxmert(
        "explain-eval", MODEL, "--data", ROOT / "src/lxmert/examples/questions.jsonl", "--images",
        ROOT / "src/lxmert/examples", "-o", tmp_path / "out", "--methods", "attention",
        "--limit", 2,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "no pointing game: no question has 'boxes' of what it asks about" in result.out


def test_explain_eval_tells_of_answers_that_the_model_cannot_give(
    lxmert: Command, scenes: Path, tmp_path: Path
) -> None:
    """They were counted as wrong without a word, as if the model had failed."""
    lines = (scenes / "questions.jsonl").read_text().splitlines()[:3]
    other = [json.dumps(json.loads(line) | {"answer": "zebra"}) for line in lines[1:]]
    data = tmp_path / "q.jsonl"
    data.write_text("\n".join([lines[0], *other]) + "\n")
    result = lxmert(
        "explain-eval", MODEL, "--data", data, "--images", scenes / "images",
        "-o", tmp_path / "out", "--methods", "attention", "--seeds", 1,
    )  # fmt: skip
    assert "counted as wrong: 2 questions without an answer" in " ".join(result.out.split())
    assert json.loads((tmp_path / "out/faithfulness.json").read_text())["unknown"] == 2


@pytest.mark.parametrize("option", ["--seeds", "--limit"])
def test_numbers_below_one_are_refused(lxmert: Command, tmp_path: Path, option: str) -> None:
    files = ("--data", "q.jsonl", "--images", ".", "-o", tmp_path / "out")
    result = lxmert("explain-eval", MODEL, *files, option, 0)
    assert (result.code, f"{option} is 0: expected at least 1" in result.err) == (2, True)


@pytest.mark.long
def test_attention_figures_draws_and_names_the_heads(
    lxmert: Command, scenes: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "heads.png"
    result = lxmert(
        "attention-figures", MODEL, "--data", scenes / "questions.jsonl",
        "--images", scenes / "images", "-o", figure, "--limit", 10,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "language: the next word" in result.out
    assert "cross: regions that the word names" in result.out
    with Image.open(figure) as drawn:
        assert drawn.size[0] > 900
