"""The README's commands and code run as they stand there, from the root of the project."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [code for language, code in BLOCKS if language == "sh"]
PYTHON = [code for language, code in BLOCKS if language == "python"]


@pytest.fixture(autouse=True)
def in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README makes must not litter the checkout, and must not find leftovers."""
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
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_readme_has_the_blocks_that_are_run_here() -> None:
    assert (len(SHELL), len(PYTHON)) == (3, 2)


def test_the_first_command_answers_right_and_saves_the_figure() -> None:
    command = SHELL[0].splitlines()[0]
    assert command.startswith("make ask")
    # What is installed here is what is tested, whatever the time stamps of a fresh checkout say.
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
