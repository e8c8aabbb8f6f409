"""Commands and code of docs/region-features.md run in order; its table matches the code."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, Command

from docs import check_links, commands, join_lines
from lxmert.regions.presets import PRESETS

PAGE = (ROOT / "docs/region-features.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
@pytest.mark.usefixtures("empty_folder")
def test_commands_and_code_run_in_order(
    lxmert: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = [language for language, _ in BLOCKS]
    assert (languages.count("sh"), languages.count("python")) == (4, 3)
    assert set(languages) == {"sh", "python", "text"}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "docs/region-features.md", "exec"), {})
            assert capsys.readouterr().out.strip(), block
        elif language == "sh":
            for line in join_lines(block):
                program, *arguments = shlex.split(line, comments=True)
                assert program == "lxmert"
                result = lxmert(*arguments)
                assert result.code == 0, f"{arguments}\n{result}"
    assert sorted(path.name for path in Path("runs/extractor/drawn").iterdir()) == [
        path.name for path in sorted((ROOT / "src/lxmert/examples").glob("*.png"))
    ]


def test_commands_that_need_published_weights_exist(lxmert: Command) -> None:
    listed = commands(PAGE, "text")
    assert len(listed) == 4
    for _, command, *arguments in listed:
        known = lxmert(command, "--help").out
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in known


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")


def test_the_table_of_presets_is_that_of_the_code() -> None:
    rows = {
        cells[0]: cells[1:]
        for line in PAGE.splitlines()
        if line.startswith("|")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
        if len(cells) == 4
    }
    sides = rows["shorter side, longer side at most"]
    channels, output = rows["channels"], rows["boxes that are returned"]
    for column, name in enumerate(("caffe", "detectron2", "hf")):
        preset = PRESETS[name]
        assert sides[column] == f"{preset['shorter_side']}, {preset['longer_side']}"
        assert channels[column].startswith(preset["channel_order"])
        expected = {"proposal": "proposals"}.get(preset.get("output_boxes", ""), "refined")
        assert output[column] == expected
        filled = rows["fewer than 36 left"][column].startswith("filled up")
        assert filled == preset.get("fill_up", False)
        assert f"IoU {preset['nms_threshold']}" in rows["NMS among regions"][column] or (
            f"{preset['nms_threshold']} up to" in rows["NMS among regions"][column]
        )
