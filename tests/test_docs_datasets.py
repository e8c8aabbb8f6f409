"""Commands of docs/datasets.md run in order on small official files; its tables match the code."""

from pathlib import Path

import downloads as world
import pytest
from conftest import ROOT, Command
from downloads import TRAIN_9, TRAIN_25, VAL_42, VAL_73
from features import write_features
from official_files import write_json

from docs import check_links, commands
from lxmert.data.store import RegionStore
from lxmert.datasets.builders import BUILDERS
from lxmert.datasets.expected import PUBLISHED
from lxmert.datasets.sources import SOURCES

PAGE = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
COMMANDS = commands(PAGE)
FEATURES = {
    "mscoco_imgfeat/train2014": [TRAIN_9, TRAIN_25],
    "mscoco_imgfeat/val2014": [VAL_42, VAL_73],
    "mscoco_imgfeat/test2015": ["COCO_test2015_000000000008"],
    "vg_gqa_imgfeat/vg_gqa": ["1", "2", "3", "4"],
    "vg_gqa_imgfeat/gqa_testdev": ["n161313"],
    **{
        f"nlvr2_imgfeat/{ours}": [f"{split}-10-{i}-img{k}" for i in range(2) for k in range(2)]
        for ours, split in (("train", "train"), ("valid", "dev"), ("test", "test1"))
    },
}


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write all files that the page fetches into a local folder."""
    folder = world.write_all(tmp_path / "local")
    original = folder / "original"
    world.write_original(original)
    write_json(original / "vqa/trainval_label2ans.json", ["", "mug", "yes"])
    write_json(original / "gqa/trainval_label2ans.json", ["bag"])
    write_json(original / "lxmert/all_ans.json", [{"ans": "mug", "dsets": ["vqa"]}])
    for name, image_ids in FEATURES.items():
        (original / name).parent.mkdir(exist_ok=True)
        write_features(original / f"{name}_obj36.tsv", image_ids)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_commands_run_in_order(lxmert: Command, local: Path) -> None:
    assert len(COMMANDS) == 9
    for program, *arguments in COMMANDS:
        assert program == "lxmert"
        if arguments[0] == "fetch":
            arguments += ["--from", str(local)]
        result = lxmert(*arguments)
        assert result.code == 0, f"{arguments}\n{result}"
    made = {path.parent.name for path in Path("data").glob("*/manifest.json")}
    assert made == {
        "pretraining", "vqa", "gqa", "nlvr2", "original-pretraining", "original-vqa",
        "original-gqa",
    }  # fmt: skip
    assert len(RegionStore("regions")) == sum(map(len, FEATURES.values()))
    assert not list(Path("data").glob("*/missing-images.txt"))


def test_every_name_is_on_the_page() -> None:
    for name in (*SOURCES, *BUILDERS):
        assert f"`{name}`" in PAGE, name


def test_the_counts_are_those_of_the_code() -> None:
    rows = []
    for name, numbers in PUBLISHED.items():
        for published in numbers:
            of = f" in {' + '.join(published.files)}" if published.files else ""
            about = "about " if published.within else ""
            rows.append(
                f"| `{name}` | {published.unit}{of} | {about}{published.number:,} | "
                f"{published.source} |"
            )
    found = PAGE.partition("| published |")[2].partition("\n\n")[0].splitlines()[2:]
    assert found == rows


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
