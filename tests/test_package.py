"""The package's public names."""

import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

import lxmert


@pytest.mark.parametrize("name", lxmert.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(lxmert, name)
    assert getattr(value, "__name__", name) in (name, "LxmertTokenizer")


@pytest.mark.parametrize("project", [".", "packaging/runtime"])
def test_the_version_is_that_of_the_distributions(project: str) -> None:
    settings = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    assert settings["project"]["version"] == lxmert.__version__


def test_names_are_those_that_are_loaded_lazily() -> None:
    assert sorted(lxmert.__all__) == sorted(lxmert._PUBLIC)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, lxmert; print('torch' in sys.modules, 'numpy' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.split() == ["False", "False"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LxmertForImages'"):
        _ = lxmert.LxmertForImages
