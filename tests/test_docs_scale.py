"""The commands of docs/scale.md do what it says, and the job files are valid."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Command

from docs import check_links, commands
from lxmert.data.store import RegionStore

PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
JOBS = ROOT / "examples/cluster"


@pytest.mark.long
def test_the_commands_write_one_store(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_datasets = pytest.importorskip(
        "saved_datasets", reason="needs pyarrow", exc_type=ImportError
    )
    image = (ROOT / "src/lxmert/examples/scene.png").read_bytes()
    table = saved_datasets.table_of([image], question=["what color is it?"], answer=["red"])
    saved_datasets.save_splits(tmp_path / "saved-vqa", {"train": table, "test": table})
    monkeypatch.chdir(tmp_path)
    lines = commands(PAGE)
    assert len(lines) == 14
    for program, *arguments in lines:
        assert program == "lxmert"
        result = lxmert(*arguments)
        assert result.code == 0, result.err
    assert len(RegionStore("runs/scale/regions")) >= 3
    assert len(Path("runs/scale/vqa/answers.jsonl").read_text().splitlines()) == 1


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")


@pytest.mark.parametrize("name", ["extract.sbatch", "join.sbatch"])
def test_slurm_scripts_have_no_syntax_errors(name: str) -> None:
    subprocess.run(["bash", "-n", JOBS / name], check=True)


def test_the_kubernetes_job_counts_its_pods() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    job = yaml.safe_load((JOBS / "extract.yaml").read_text())
    spec = job["spec"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    script = spec["template"]["spec"]["containers"][0]["command"][-1]
    assert f'--shard "$JOB_COMPLETION_INDEX/{spec["completions"]}"' in script
    subprocess.run(["sh", "-n", "-c", script], check=True)
