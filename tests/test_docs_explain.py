"""Commands and code of docs/explain.md run in their order, and what it shows is there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Command
from PIL import Image

from lxmert.explain.methods import METHODS

PAGE = (ROOT / "docs/explain.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.long
def test_commands_and_code_run_in_order(
    lxmert: Command,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    languages = [language for language, _ in BLOCKS]
    assert (languages.count("sh"), languages.count("python")) == (6, 2)
    assert set(languages) == {"sh", "python", "text"}
    for language, block in BLOCKS:
        if language == "text":  # takes minutes
            continue
        if language == "python":
            exec(compile(block, "docs/explain.md", "exec"), {})
            assert capsys.readouterr().out.strip(), block
            continue
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line, comments=True)
            if program == "mkdir":
                subprocess.run([program, *arguments], check=True)
                continue
            assert program == "lxmert"
            result = lxmert(*arguments)
            assert result.code == 0, f"{line}\n{result}"
    assert sorted(path.name for path in Path("runs/explain").iterdir()) == [
        "aopc", "faithful", "figure.png", "heads.png", "match.html", "report.html", "same.html",
        "sanity", "scenes", "sign",
    ]  # fmt: skip


def test_images_are_there_and_small() -> None:
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    assert len(names) >= 5
    for name in names:
        path = ROOT / "docs" / name
        assert path.stat().st_size < 200_000, name
        with Image.open(path) as image:
            image.verify()


def test_every_method_has_its_row_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert rows[: len(METHODS)] == list(METHODS)
