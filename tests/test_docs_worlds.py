"""Commands of docs/worlds.md run, and its table is that of the suite."""

from pathlib import Path

import pytest
from conftest import ROOT, Command
from squares import settings

from docs import check_links, commands, table_below
from lxmert.lab.worlds.suite import WORLDS

PAGE = (ROOT / "docs/worlds.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_commands_run_in_order(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands(PAGE)) == 4
    for program, *arguments in commands(PAGE):
        assert program == "lxmert"
        result = lxmert(*arguments, *(settings() if arguments[0] == "train" else []))
        assert result.code == 0, f"{arguments}\n{result}"
    files = {name for row in table_below(PAGE, "| file |") for name in row[0].split(", ")}
    made = {path.name for path in Path("runs/worlds/bars").iterdir()}
    assert made == {name.strip("`/") for name in files}


def test_the_table_names_all_worlds() -> None:
    rows = table_below(PAGE, "| world |")
    assert [row[:3] for row in rows] == [
        [f"`{name}`", world.about, f"{world.images:,}"] for name, world in WORLDS.items()
    ]


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
