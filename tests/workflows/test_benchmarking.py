"""A benchmark measures every variant, and names those that it cannot measure."""

import json
import multiprocessing
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from exports import SCENE, TEXTS, write_tiny_model
from PIL import Image
from safetensors.torch import load_file, save_file

from lxmert import LxmertPipeline
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork
from lxmert.workflows import benchmarking
from lxmert.workflows.benchmark_worker import Variant
from lxmert.workflows.benchmarking import Benchmark, benchmark

pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.mark.long
def test_the_command_measures_a_model_and_names_what_it_cannot(lxmert, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarking, "_COMPUTED", {"torch": ("fp32",), "onnxruntime": ("int8",)})
    torch.manual_seed(5)
    model = write_tiny_model(tmp_path / "model")
    answer = LxmertPipeline.from_pretrained(model, cache=False).ask(SCENE, TEXTS[0])[0].answer
    rows = [(TEXTS[0], answer), (TEXTS[0], answer), (TEXTS[0], "other")]
    lines = [{"image": SCENE.name, "question": text, "answer": right} for text, right in rows]
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ("-o", tmp_path / "b.json", "--figure", tmp_path / "b.png")
    given = ("--data", data, "--images", SCENE.parent, "--rounds", "1", "--threads", "1")
    done = lxmert("benchmark", model, *given, *files)
    assert done.code == 0, done.err
    for text in ("torch fp32", "66.7", "onnxruntime int8: it needs data to measure ranges"):
        assert text in done.out
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["questions"] == 3
    assert report["not_measured"].keys() == {"onnxruntime int8"}
    (row,) = report["rows"]
    assert row["accuracy"] == pytest.approx(2 / 3, abs=1e-5)
    assert row["same_answers"] == 1
    assert min(row["pixels_ms"], *row["ms"].values()) > 0
    assert [*row["ms"]] == ["1 question", "32 questions", "5 per image"]
    assert row["memory_mb"] > 200  # PyTorch alone needs as much
    weights = [*model.glob("*.safetensors"), *model.glob("extractor/*.safetensors")]
    assert row["disk_mb"] == pytest.approx(sum(w.stat().st_size for w in weights) / 1e6, abs=0.01)
    with Image.open(tmp_path / "b.png") as figure:
        assert figure.width > figure.height


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_variant_that_fails_costs_only_its_row(tmp_path, monkeypatch):
    """Bug: models of grids, which compute in fp32 only, were not measured at all."""
    monkeypatch.setattr(benchmarking, "_COMPUTED", {"torch": ("fp32", "bf16")})
    monkeypatch.setattr(benchmarking, "computes_bf16", lambda device: True)
    forking = SimpleNamespace(get_context=lambda method: multiprocessing.get_context("fork"))
    monkeypatch.setattr(benchmarking, "multiprocessing", forking)  # it starts in milliseconds
    model = write_tiny_model(tmp_path / "model")
    shutil.rmtree(model / "extractor")
    grid = GridExtractor(GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=12)))
    grid.save_pretrained(model / "extractor")
    PreprocessorConfig(fingerprint=grid.fingerprint).save(model)
    report = benchmark(Benchmark(model, rounds=1, threads=1))
    assert [row["precision"] for row in report["rows"]] == ["fp32"]
    assert "supports 'fp32' only" in report["not_measured"]["torch bf16"]


def test_an_export_of_another_extractor_is_not_measured(tmp_path, monkeypatch):
    """Bug: only the weights of the model were compared."""
    known = SimpleNamespace(
        weights=("w",), fingerprint="old", runtime="onnxruntime", precision="fp32", source="m"
    )
    monkeypatch.setattr(benchmarking, "read_manifest", lambda folder: known)
    PreprocessorConfig(fingerprint="new").save(tmp_path)
    variant = Variant("onnxruntime", "fp32", tmp_path)
    with pytest.raises(ValueError, match="whose weights or region extractor may have changed"):
        benchmarking._export(variant, tmp_path, ("w",), None, print)


@pytest.mark.slow
def test_all_runtimes_agree_about_weights_in_half_precision(tmp_path):
    """Bug: the row "torch fp32" computed in fp16, and transformers' class failed."""
    model = tmp_path / "model"
    shutil.copytree("src/lxmert/default", model)
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: values.half() for name, values in weights.items()}, model / "model.safetensors"
    )
    settings = Benchmark(model, ("torch", "transformers"), rounds=1, exports=tmp_path, threads=1)
    rows = {f"{row['runtime']} {row['precision']}": row for row in benchmark(settings)["rows"]}
    assert rows["transformers fp32"]["same_answers"] == 1


@pytest.mark.slow
def test_all_runtimes_of_the_bundled_model_agree(tmp_path):
    """The class of transformers has the same answers with the same weights."""
    for library in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    report = benchmark(Benchmark("src/lxmert/default", rounds=1, exports=tmp_path, threads=1))
    rows = {f"{row['runtime']} {row['precision']}": row for row in report["rows"]}
    for name in ("torch fp32", "transformers fp32", "onnxruntime fp32", "openvino fp32"):
        assert rows[name]["same_answers"] == 1, name
    eager, fast = rows["torch fp32"], rows["onnxruntime fp32"]
    # PyTorch alone needs more than the exported runtime with all that it imports.
    assert eager["memory_mb"] > fast["memory_mb"] + 50
    size = sum(each.stat().st_size for each in (tmp_path / "onnxruntime-fp32").iterdir())
    assert fast["disk_mb"] == pytest.approx(size / 1e6, abs=0.01)
    assert {"onnxruntime int8", "openvino int8"} <= report["not_measured"].keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtimes": ("tflite",)}, r"no runtime 'tflite': expected torch, transformers, onnxrun"),
        ({"data": SCENE}, "expected both --data and --images, or neither"),
        ({"rounds": 0}, "--rounds is 0: expected at least 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Benchmark("model", **settings)


def test_a_runtime_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(benchmarking, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install lxmert\[openvino\]"):
        Benchmark("model", runtimes=("openvino",))
