"""The wheel carries all that `pip install` and `lxmert ask` need, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from lxmert.workflows.default_model import MODEL_FILES


def test_the_wheel_carries_the_bundled_model(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs the extra dev: pip install lxmert[dev]")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"lxmert/default/{name}" for name in (*MODEL_FILES, "README.md")}
    assert expected <= set(names)
    assert "lxmert/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lxmert"}
    assert wheel.stat().st_size < 25e6
