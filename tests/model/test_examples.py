"""Examples in docstrings and in docs/model.md run where `lxmert examples` was run."""

import doctest
from pathlib import Path

import pytest

from lxmert.model import heads, modeling, pretraining
from lxmert.workflows.examples import copy_examples

ROOT = Path(__file__).parents[2]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(autouse=True)
def folder_with_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_examples(Path("examples"))


@pytest.mark.parametrize(
    ("module", "classes"),
    [(modeling, 1), (pretraining, 1), (heads, 3)],
    ids=["model", "pre", "heads"],
)
def test_docstring_examples(module, classes):
    """D1, D2: the documented examples could not run, or were empty."""
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(tests) == classes
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in tests:
        assert runner.run(test).failed == 0, test.name


@pytest.mark.long
def test_documentation_examples():
    failed, attempted = doctest.testfile(
        str(ROOT / "docs" / "model.md"), module_relative=False, optionflags=FLAGS
    )
    assert failed == 0
    assert attempted > 20
