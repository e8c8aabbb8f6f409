"""Commands of docs/study.md run, in order, in an empty folder, with few samples."""

from pathlib import Path

import pytest
from conftest import ROOT, Command

from docs import check_links, commands

PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")


def fewer_samples(arguments: list[str]) -> list[str]:
    """Return options that shorten the estimation of Shapley values."""
    sampled = arguments[0] == "study" or "--modalities" in arguments
    return ["--samples", "100"] if sampled else []


def test_commands_run_in_order(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands(PAGE)) == 24
    printed = []
    for program, *arguments in commands(PAGE):
        assert program == "lxmert"
        result = lxmert(*arguments, *fewer_samples(arguments))
        assert result.code == 0, f"{arguments}\n{result}"
        printed.append(result.out)
    assert {path.name for path in Path("study").iterdir()} == {"study.html", "study.json"}
    assert any("+0.0" in out for out in printed)  # the same predictions twice


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
