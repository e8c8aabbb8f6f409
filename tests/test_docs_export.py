"""The commands of docs/export.md run in their order, with fewer images and questions."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, Command

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
FEWER = {"--count 64": "--count 4", "--limit 200": "--limit 4 --rounds 1 --threads 1"}


@pytest.mark.slow
def test_commands_run_in_order(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = "\n".join(BLOCKS).replace("\\\n", " ")
    for words, fewer in FEWER.items():
        assert words in commands
        commands = commands.replace(words, fewer)
    *lines, page = commands.strip().split("npm install onnxruntime-web")
    assert "--runtime web" in page  # tested in tests/workflows/test_web_page.py, with a browser
    for line in "".join(lines).strip().splitlines():
        if line.strip():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "lxmert"
            result = lxmert(*arguments)
            assert result.code == 0, f"{line}\n{result}"
    names = {path.name for path in Path().iterdir()}
    assert {"fast", "half", "fast8", "benchmark.json", "benchmark.png"} <= names
