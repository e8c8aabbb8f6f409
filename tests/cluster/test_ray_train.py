"""The example script for Ray Train trains as processes do that find each other without Ray."""

import os
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from conftest import ROOT
from ranks import finish, start_ranks
from safetensors.torch import load_file
from squares import TINY, write_squares

from lxmert.workflows.training import read_with_options, train_recipe

pytest.importorskip("ray", reason="needs Ray: pip install 'lxmert[cluster]'")

SCRIPT = ROOT / "examples/cluster/ray_train.py"


def given_settings(folder: Path) -> list[str]:
    """Write data into the folder; return the settings that train on them."""
    write_squares(folder)
    return ["data.train=train.jsonl", "data.images=images", *TINY]


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = (load_file(run / "model.safetensors") for run in (one, other))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.long
def test_a_worker_trains_as_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = given_settings(tmp_path)
    work = run_path(str(SCRIPT), run_name="script")["train"]
    given = {"recipe": "custom", "output": "on-ray", "set": pairs, "gpus": False}
    work(given | {"folder": str(tmp_path)})
    train_recipe(read_with_options(Path("custom"), pairs, {}), Path("alone"), cpu=True)
    assert_same_weights(Path("alone"), Path("on-ray"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_workers_of_ray_train_as_other_processes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = given_settings(tmp_path)
    options = [option for pair in pairs for option in ("--set", pair)]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, SCRIPT, "custom", "-o", "on-ray", *options],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recipe = read_with_options(Path("custom"), pairs, {})
    finish(start_ranks(lambda rank: train_recipe(recipe, Path("forked"), cpu=True) and None, 2))
    assert_same_weights(Path("forked"), Path("on-ray"))
