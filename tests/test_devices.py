"""Devices: those that this machine has, and one sentence for all others."""

import platform
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command

from lxmert import (
    DetectorExtractor,
    LxmertPipeline,
    LxmertProcessor,
    devices,
    load_extractor,
)
from lxmert.devices import check_device, choose_device, computes_bf16
from lxmert.train.processes import start_processes

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
    with pytest.raises(TypeError, match=r"device is .*, expected one of cpu"):
        check_device(name)


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
@pytest.mark.parametrize("sight", ["--images", "--regions"])
def test_predict_names_the_devices(lxmert: Command, tmp_path: Path, name: str, sight: str) -> None:
    shutil.copy(ROOT / "src/lxmert/examples/scene.png", tmp_path)
    (tmp_path / "q.jsonl").write_text(
        '{"image": "scene.png", "question": "is it?", "answer": "no"}'
    )
    source = tmp_path / "store" if sight == "--regions" else tmp_path  # no store is opened
    options = ("--data", tmp_path / "q.jsonl", sight, source, "--device", name)
    done = lxmert("predict", DEFAULT, *options, "-o", tmp_path / "p.jsonl")
    assert done.code == 2
    assert f"device '{name}' is" in done.err
    assert "this machine has cpu" in " ".join(done.err.split())


def test_the_default_device_is_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, best in (({"cpu": 1}, "cpu"), ({"cpu": 1, "mps": 1}, "mps")):
        monkeypatch.setattr(devices, "_available", lambda found=available: found)
        assert choose_device() == best
        assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "src/lxmert/examples/scene.png", "What is this?"),
        ("explain", "src/lxmert/examples/scene.png", "What is this?"),
        ("match", "src/lxmert/examples/scene.png", "A ball."),
        ("extract", "src/lxmert/examples", "-o", "{tmp}/store"),
        (
            "evaluate",
            "src/lxmert/default",
            "--data",
            "{tmp}/q.jsonl",
            "--images",
            "src/lxmert/examples",
        ),
        (
            "explain-eval",
            DEFAULT,
            "--data",
            "q",
            "--images",
            "src/lxmert/examples",
            "-o",
            "{tmp}/out",
        ),
        ("attention-figures", DEFAULT, "--data", "q", "--images", "i", "-o", "{tmp}/f.png"),
    ],
)
def test_every_command_that_computes_takes_a_device(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "q.jsonl").write_text('{"image": "scene.png", "question": "is it?"}')
    given = [str(argument).replace("{tmp}", str(tmp_path)) for argument in arguments]
    done = lxmert(*given, "--device", "cuda:99")
    assert done.code == 2
    assert "device 'cuda:99' is not available: this machine has cpu" in done.err


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
def test_a_processor_without_wide_instructions_does_not_compute_bf16() -> None:
    """Of x86, those with AVX-512, AMX, or the later conversions of AVX2 do."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    wide = {"avx512bw", "avx512_bf16", "amx_bf16", "avx_ne_convert"}
    assert computes_bf16("cpu") == bool(flags & wide)


@pytest.mark.parametrize(("has", "used"), [(True, "bf16"), (False, "no")])
def test_training_uses_bf16_only_where_the_device_computes_it(
    monkeypatch: pytest.MonkeyPatch, *, has: bool, used: str
) -> None:
    """The recipes asked for it everywhere; with AVX2 alone, a step took 7 times as long."""
    monkeypatch.setattr("lxmert.train.processes.computes_bf16", lambda _: has)
    assert start_processes("auto", cpu=True).mixed_precision == used
    assert start_processes("bf16", cpu=True).mixed_precision == "bf16"


def test_no_recipe_asks_for_bf16_on_devices_that_emulate_it() -> None:
    for path in (ROOT / "src/lxmert/recipes").rglob("*.toml"):
        loop = tomllib.loads(path.read_text()).get("loop", {})
        assert loop.get("precision", "fp32") in ("auto", "fp32"), path


def test_extraction_in_emulated_bf16_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lxmert.regions.extract.computes_bf16", lambda _: False)
    folder = DEFAULT / "extractor"
    DetectorExtractor.from_pretrained(folder)
    assert not caplog.text
    DetectorExtractor.from_pretrained(folder, precision="bf16")
    assert "no instructions for bf16" in caplog.text
