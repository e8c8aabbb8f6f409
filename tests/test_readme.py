"""The README's commands and code run in an empty folder, and `make ask` in a checkout."""

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


SHORTER = {"--count 120": "--count 12", "--count 20": "--count 4", "steps=20": "steps=4"}
"""Settings that shorten the commands for training."""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, with the commands of this environment on the path."""
    monkeypatch.chdir(tmp_path)
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", scripts + os.pathsep + os.environ["PATH"])


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


@pytest.mark.long
def test_the_first_command_answers_right_and_saves_the_figure() -> None:
    for entry in ("src", "Makefile", "pyproject.toml"):
        Path(entry).symlink_to(ROOT / entry)
    Path(".venv").symlink_to(sys.prefix)
    command = SHELL[0].splitlines()[0]
    assert command.startswith("make ask")
    # Test the installed package, whatever the time stamps of a fresh checkout are.
    output = run("make -s -o pyproject.toml -o .venv/pyvenv.cfg -o .venv/installed ask")
    truth = json.loads(Path("examples/questions.jsonl").read_text().splitlines()[0])
    lines = [line.partition("  ") for line in output.splitlines()]
    question, _, answer = next(line for line in lines if line[0].endswith("?"))
    assert (truth["image"], truth["question"]) == ("scene.png", question)
    assert answer == truth["answer"]
    assert Path("answer.png").stat().st_size > 10_000


@pytest.mark.long
@pytest.mark.parametrize("index", [1, 2])
def test_commands_run(index: int, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    commands = SHELL[index]
    for long, short in SHORTER.items():
        commands = commands.replace(long, short)
    assert (commands != SHELL[index]) == (index == 2)
    run("set -e\nlxmert examples\n" + commands)


@pytest.mark.long
@pytest.mark.parametrize("code", PYTHON)
def test_code_runs(code: str, programs: Path) -> None:
    run(f"{programs}/lxmert examples")
    finished = subprocess.run(
        [programs / "python", "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_commands_that_need_downloads_have_options_that_exist(lxmert: Command) -> None:
    listed = commands(README, "text")
    assert [arguments[1] for arguments in listed] == ["ask"]
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
