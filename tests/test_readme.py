"""The README's commands and code run unchanged, from the root of the project."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Command

import lxmert as package
from docs import check_links, commands

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [code for language, code in BLOCKS if language == "sh"]
PYTHON = [code for language, code in BLOCKS if language == "python"]


@pytest.fixture(autouse=True)
def in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own, so that the checkout stays clean and leftovers do not matter."""
    for entry in ("examples", "src", "Makefile", "pyproject.toml", ".venv"):
        if (ROOT / entry).exists():
            (tmp_path / entry).symlink_to(ROOT / entry)
    if not (tmp_path / ".venv").exists():
        (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    monkeypatch.chdir(tmp_path)


def run(command: str) -> str:
    finished = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=400, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_links_and_images_lead_somewhere() -> None:
    check_links(README, ROOT)


def test_the_readme_has_the_blocks_that_are_run_here() -> None:
    assert (len(SHELL), len(PYTHON)) == (3, 2)


def test_the_first_command_answers_right_and_saves_the_figure() -> None:
    command = SHELL[0].splitlines()[0]
    assert command.startswith("make ask")
    # Test the installed package, whatever the time stamps of a fresh checkout are.
    output = run("make -s -o pyproject.toml -o .venv/pyvenv.cfg -o .venv/installed ask")
    question, _, answer = next(line for line in output.splitlines() if line).partition("  ")
    truth = json.loads((ROOT / "examples/questions.jsonl").read_text().splitlines()[0])
    assert (truth["image"], truth["question"]) == ("scene.png", question)
    assert answer == truth["answer"]
    assert Path("answer.png").stat().st_size > 10_000


@pytest.mark.parametrize("index", [1, 2])
def test_commands_run(index: int) -> None:
    run("set -e\n" + SHELL[index])


@pytest.mark.parametrize("code", PYTHON)
def test_code_runs(code: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_commands_that_need_downloads_have_options_that_exist(lxmert: Command) -> None:
    listed = commands(README, "text")
    assert [arguments[1] for arguments in listed] == ["fetch", "ask"]
    for _, command, *arguments in listed:
        known = lxmert(command, "--help").out
        assert all(option in known for option in arguments if option.startswith("-"))


def test_the_citation_names_the_version_and_the_paper() -> None:
    """The keys are those that the Citation File Format 1.2.0 requires."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert str(citation["version"]) == package.__version__
    (paper,) = citation["references"]
    assert paper["type"] == "conference-paper"
    assert [author["family-names"] for author in paper["authors"]] == ["Tan", "Bansal"]
