"""The wheel carries all that `pip install` and `lxmert ask` need, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from lxmert.lab.default_model import MODEL_FILES

pytestmark = pytest.mark.long

BUILD = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"


def test_the_wheel_answers_from_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/lxmert").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } <= names
    assert {f"lxmert/default/{name}" for name in (*MODEL_FILES, "README.md")} <= names
    assert {f"lxmert/drawings/{name}" for name in (*MODEL_FILES, "README.md")} <= names
    assert "lxmert/lab/drawings/recipe.toml" in names
    assert "lxmert/py.typed" in names
    assert {f"lxmert/explain/report.{kind}" for kind in ("html", "css", "js")} <= names
    assert {f"lxmert/workflows/page/page.{kind}" for kind in ("css", "js")} <= names
    assert {f"lxmert/serve/web/page.{kind}" for kind in ("html", "css", "js")} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lxmert"}
    assert wheel.stat().st_size < 40e6
    empty = tmp_path / "empty"
    empty.mkdir()
    examples = [sys.executable, "-m", "lxmert", "examples"]
    command = [sys.executable, "-m", "lxmert", "ask", "examples/scene.png", "What is this?"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    code = "import lxmert; print(lxmert.__file__)"
    source = [sys.executable, "-c", code]
    for arguments in (source, examples, command):
        finished = subprocess.run(
            arguments, cwd=empty, env=environment, capture_output=True, text=True, check=True
        )
        assert finished.stdout.strip()
        if arguments is source:
            assert finished.stdout.startswith(str(tmp_path))
