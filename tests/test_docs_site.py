"""The site is built without warnings, and the API reference lists and shows every public name."""

import doctest
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

import lxmert
from docs import check_links
from lxmert.workflows.examples import copy_examples

API = sorted((ROOT / "docs/api").glob("*.md"))
DIRECTIVE = re.compile(r"^\.\. (?:py:data|auto\w+):: lxmert\.(\w+)$", re.MULTILINE)


@pytest.mark.long
def test_the_site_is_built_without_warnings(programs: Path, tmp_path: Path) -> None:
    command = [programs / "python", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "api/ask.html").read_text(encoding="utf-8")
    assert 'id="lxmert.LxmertPipeline.ask"' in page
    assert "question in natural language" in page  # from the docstring
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in tmp_path.glob("*.html")}


def test_the_reference_lists_every_public_name_once() -> None:
    names = [name for path in API for name in DIRECTIVE.findall(path.read_text(encoding="utf-8"))]
    assert sorted(names) == sorted(lxmert.__all__)


@pytest.mark.long
@pytest.mark.parametrize("path", API, ids=lambda path: path.stem)
def test_examples_of_the_reference_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_examples(Path("examples"))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, attempted = doctest.testfile(str(path), module_relative=False, optionflags=flags)
    assert failed == 0
    assert attempted > 4 or path.stem == "index"


def test_links_of_the_index_lead_somewhere() -> None:
    for path in (ROOT / "docs/index.md", ROOT / "docs/api/index.md"):
        check_links(path.read_text(encoding="utf-8"), path.parent)
