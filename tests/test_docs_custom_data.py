"""Commands of docs/custom-data.md run in order in an empty folder, with tiny settings."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Command
from PIL import Image
from squares import read_lines, settings
from torch.distributed.run import get_args_parser

from docs import check_links, code_blocks, command_lines, table_below
from lxmert.data.records import KEYS
from lxmert.data.report import KINDS
from lxmert.train import loop
from lxmert.train.curve import draw_curve

PAGE = (ROOT / "docs/custom-data.md").read_text(encoding="utf-8")
COMMANDS = command_lines(PAGE)
LAUNCHERS = {
    "torchrun": "torch.distributed.run",
    "accelerate": "accelerate.commands.accelerate_cli",
}


TINY_DETECTOR = (
    "optim.steps=2", "optim.warmup_steps=1", "optim.batch_size=2", "loop.precision=fp32",
    "model.shorter_side=64", "model.longer_side=64", "model.num_regions=4",
)  # fmt: skip
"""Changes that train the detector of the page in a second."""


FEW_STEPS = "optim.steps=2", "loop.evaluate_every=2"


def tiny_settings(arguments: list[str]) -> list[str]:
    """Return options that shorten a command."""
    if arguments[:2] == ["train", "detector"]:
        return [option for pair in TINY_DETECTOR for option in ("--set", pair)]
    if arguments[:2] == ["lab", "make"]:
        return ["--count", "40"]
    return settings(*FEW_STEPS) if arguments[0] == "train" else []


def run_launched(arguments: list[str], python: Path) -> None:
    """Run a launcher as a user would, with the modules of this checkout."""
    command = [python, "-m", LAUNCHERS[arguments[0]], *arguments[1:], *settings(*FEW_STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": str(python)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is finished after 2 steps") == 1
    assert done.stderr.count("findings: ") == 2  # before and after, by one process


def test_the_page_has_the_commands_that_are_run_here() -> None:
    assert len(COMMANDS) == 20
    assert [line.split()[0] for line in COMMANDS].count("lxmert") == 18


@pytest.mark.long
def test_commands_run_in_order(
    lxmert: Command, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "draw_curve", draw_curve)
    for line in COMMANDS:
        program, *arguments = shlex.split(line, comments=True)
        if program != "lxmert":
            run_launched([program, *arguments], programs / "python")
            continue
        done = lxmert(*arguments, *tiny_settings(arguments))
        assert done.code == 0, f"{line}\n{done.err}"
    runs = ("own", "few", "two", "launched", "seen", "detector", "boxed", "tuned", "pairs")
    for name in runs:
        assert Path("runs", name, "finished.json").is_file()
    assert json.loads(Path("scores.json").read_text())["count"] == 160
    assert len(read_lines(Path("predictions.jsonl"))) == 160
    check_folder(Path("runs/own"))


def check_folder(folder: Path) -> None:
    """Compare the files of a finished run with the table of the page."""
    named = {
        name.rstrip("/")
        for row in table_below(PAGE, "| in `runs/own` | |")
        for name in re.findall(r"`([\w./-]+)`", row[0])
    }
    there = {path.name for path in folder.iterdir()}
    assert named <= there
    beside = {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
              "finished.json", "README.md"}  # fmt: skip
    assert there - named <= beside
    with Image.open(folder / "curve.png") as image:
        assert image.size == (1200, 460)


def test_the_command_for_several_machines_has_options_that_exist(lxmert: Command) -> None:
    (line,) = [line for line in command_lines(PAGE, "text") if line.startswith("torchrun")]
    launcher, _, command = line.partition(" -m lxmert ")
    launching = get_args_parser().format_help()
    for option in re.findall(r"--[\w-]+", launcher):
        assert option in launching
    known = lxmert("train", "--help").out
    for option in re.findall(r"--[\w-]+", command):
        assert option in known


def test_the_keys_are_those_that_are_read() -> None:
    keys = {row[0].strip("`") for row in table_below(PAGE, "| key | meaning |")}
    assert keys == {*KEYS} - {"family"}


def test_the_findings_that_are_shown_are_worded_as_they_come() -> None:
    (shown,) = [block for block in code_blocks(PAGE, "text") if "findings" in block]
    found = re.findall(r"^(warn|note): ([^:\n]+): [\d,]+; (.*)$", shown, re.MULTILINE)
    assert len(found) == 2
    assert {*found} <= {(kind.severity, kind.title, kind.remedy) for kind in KINDS.values()}


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
