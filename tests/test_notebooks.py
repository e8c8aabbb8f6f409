"""The notebooks run from an empty folder and are stored with small outputs."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from docs import check_links

pytestmark = pytest.mark.long

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["ask-and-explain", "custom-data", "study-scores"]


@pytest.fixture
def warm(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the kernels and their commands from the folder of programs."""
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))


def run(path: Path, folder: Path, changes: Mapping[str, str]) -> str:
    """Run a notebook with other settings in a folder; return what it prints."""
    notebook = nbformat.read(path, as_version=4)
    for old, new in changes.items():
        (cell,) = (cell for cell in notebook.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()  # raises at an error
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == "stdout"
    )


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("name", "changes", "printed"),
    [
        ("ask-and-explain", {}, "yellow"),
        (
            "custom-data",
            {"min_steps=200": "min_steps=9", "warmup_steps=20": "warmup_steps=2"},
            "scored: 80 questions",
        ),
        pytest.param("custom-data", {}, "100.0%", marks=pytest.mark.slow),
        ("study-scores", {"--count 30": "--count 12"}, "p = 0.0"),
    ],
)
def test_a_notebook_runs(name: str, changes: dict[str, str], printed: str, tmp_path: Path) -> None:
    assert printed in run(ROOT / f"notebooks/{name}.ipynb", tmp_path, changes)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_small_outputs(path: Path) -> None:
    assert path.stat().st_size < 250_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if "](" in text:
        check_links(text, path.parent)
