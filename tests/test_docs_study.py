"""Commands of docs/study.md run, in order, in an empty folder, with small settings."""

from pathlib import Path

import pytest
from conftest import ROOT, Command

from docs import check_links, commands

PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")


def small_settings(arguments: list[str]) -> list[str]:
    """Return options that shorten a command."""
    if "--modalities" in arguments:
        return ["--samples", "100"]
    options = {
        "study": ["--samples", "100", "--explained", "1", "--limit", "10"],
        "train": ["--set", "optim.steps=2", "--set", "optim.warmup_steps=1"],
        "explain-eval": ["--limit", "3"],
        "states": ["--layers", "cross.2.language,pooler"],
    }
    return options.get(arguments[0], [])


@pytest.mark.long
def test_commands_run_in_order(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands(PAGE)) == 24
    printed = []
    for program, *arguments in commands(PAGE):
        assert program == "lxmert"
        result = lxmert(*arguments, *small_settings(arguments))
        assert result.code == 0, f"{arguments}\n{result}"
        printed.append(result.out)
    assert {path.name for path in Path("study").iterdir()} == {"study.html", "study.json"}
    assert any("+0.0" in out for out in printed)  # the same predictions twice


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
