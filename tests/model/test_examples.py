"""The examples in the docstrings and in docs/model.md run and print what they say."""

import doctest
from pathlib import Path

import pytest

from lxmert.model import heads, modeling, pretraining

ROOT = Path(__file__).parents[2]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize(
    ("module", "classes"),
    [(modeling, 1), (pretraining, 1), (heads, 3)],
    ids=["model", "pre", "heads"],
)
def test_docstring_examples(module, classes, monkeypatch):
    """D1, D2: the documented examples could not run, or were empty."""
    monkeypatch.chdir(ROOT)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(tests) == classes
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in tests:
        assert runner.run(test).failed == 0, test.name


def test_documentation_examples(monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, attempted = doctest.testfile(
        str(ROOT / "docs" / "model.md"), module_relative=False, optionflags=FLAGS
    )
    assert failed == 0
    assert attempted > 20
