"""The calls of docs/serving.md run against a server, in their order; its options exist."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Command

from docs import check_links, code_blocks, command_lines
from lxmert.pipeline import LxmertPipeline

sys.path.append(str(Path(__file__).parent / "serve"))
from servers import RunningServer, running

PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(LxmertPipeline.from_pretrained, mcp=True) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "src/lxmert/examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_curl_call_is_answered(server: RunningServer, folder: Path) -> None:
    examples, first, *lines = command_lines(PAGE)
    assert examples.startswith("lxmert examples ")
    assert first == "lxmert serve --port 8000"
    assert len(lines) == 8
    url = str(server.base_url).rstrip("/")
    for line in lines:
        command = shlex.split(line.replace(ADDRESS, url))
        assert command[0] == "curl"
        answer = subprocess.run(["curl", "-s", *command[1:]], capture_output=True, check=True)
        if line.endswith("/metrics"):
            assert b"lxmert_requests_total" in answer.stdout
            continue
        body = json.loads(answer.stdout)
        if "/v1/match" in line:
            assert body["captions"] == ["a yellow ball", "a red mug"]
            assert body["scores"][0] > body["scores"][1]
            continue
        assert "error" not in body, line
        if "save=true" in line:
            assert server.get(body["report"]).status_code == 200


def test_the_python_code_runs(
    server: RunningServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = code_blocks(PAGE, "python")
    exec(compile(block.replace(ADDRESS, str(server.base_url)), "docs/serving.md", "exec"), {})
    out = capsys.readouterr().out
    assert "Answer(answer='yellow'" in out
    assert "Regions(" in out


def test_every_option_exists(lxmert: Command) -> None:
    known = set(re.findall(r"--[a-z-]+", lxmert("serve", "--help").out))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named <= known, named - known
    assert len(named) >= 15


def test_links_and_images_are_there() -> None:
    check_links(PAGE, ROOT / "docs")
    for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / name).stat().st_size < 300_000
