"""Devices: those that this machine has, and one sentence for all others."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command

from lxmert import LxmertPipeline, LxmertProcessor, load_extractor
from lxmert.devices import check_device

DEFAULT = ROOT / "src/lxmert/default"
ABSENT = ["gpu", "", "cuda:99", "xla:0", "cpu:1", "meta", "cuda:-1", "CUDA"]


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_a_device_that_is_there_is_taken(name: str) -> None:
    assert check_device(name) == str(name)
    assert torch.zeros(1, device=check_device(name)).device.type == "cpu"


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there_names_those_that_are(name: str) -> None:
    """Bug: RuntimeError or AssertionError from torch, "not compiled with CUDA enabled"."""
    for load in (LxmertPipeline.from_pretrained, LxmertProcessor.from_pretrained):
        with pytest.raises(ValueError, match=r"device '.*' is .*: this machine has cpu"):
            load(None, device=name)
    with pytest.raises(ValueError, match=r"device '.*' is .*: this machine has cpu"):
        load_extractor(DEFAULT / "extractor", device=name)


@pytest.mark.parametrize("name", [0, None, 1.5, ["cpu"]])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match=r"device is .*, expected a name: cpu"):
        check_device(name)


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
@pytest.mark.parametrize("sight", ["--images", "--regions"])
def test_predict_names_the_devices(lxmert: Command, tmp_path: Path, name: str, sight: str) -> None:
    shutil.copy(ROOT / "examples/scene.png", tmp_path)
    (tmp_path / "q.jsonl").write_text(
        '{"image": "scene.png", "question": "is it?", "answer": "no"}'
    )
    options = ("--data", tmp_path / "q.jsonl", sight, tmp_path, "--device", name)
    done = lxmert("predict", DEFAULT, *options, "-o", tmp_path / "p.jsonl")
    assert done.code == 2
    assert f"device '{name}' is" in done.err
    assert "this machine has cpu" in " ".join(done.err.split())
