"""A benchmark measures every variant, and names those that it cannot measure."""

import json

import pytest
import torch
from exports import SCENE, TEXTS, write_tiny_model
from PIL import Image

from lxmert import LxmertPipeline
from lxmert.workflows import benchmarking
from lxmert.workflows.benchmarking import Benchmark, benchmark
from lxmert.workflows.exporting import export_folder

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, an export of it, and questions, of which it answers two as written."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("benchmark")
    model = write_tiny_model(folder / "model")
    export_folder(model, folder / "exports/onnxruntime-fp32", runtime="onnxruntime")
    answer = LxmertPipeline.from_pretrained(model, cache=False).ask(SCENE, TEXTS[0])[0].answer
    rows = [(TEXTS[0], answer), (TEXTS[0], answer), (TEXTS[0], "other")]
    lines = [{"image": SCENE.name, "question": text, "answer": right} for text, right in rows]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_command_measures_each_variant(lxmert, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        benchmarking, "_COMPUTED", {"torch": ("fp32",), "onnxruntime": ("fp32", "int8")}
    )
    data = ("--data", folder / "questions.jsonl", "--images", SCENE.parent)
    times = ("--rounds", "1", "--threads", "1", "--exports", folder / "exports")
    files = ("-o", tmp_path / "b.json", "--figure", tmp_path / "b.png")
    done = lxmert("benchmark", folder / "model", *data, *times, *files)
    assert done.code == 0, done.err
    for text in ("torch fp32", "66.7", "onnxruntime int8: it needs data"):
        assert text in done.out
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["questions"] == 3
    assert report["not_measured"].keys() == {"onnxruntime int8"}
    eager, fast = report["rows"]
    assert [row["accuracy"] for row in (eager, fast)] == [pytest.approx(2 / 3, abs=1e-5)] * 2
    assert fast["same_answers"] == 1
    assert min(fast["pixels_ms"], *fast["ms"].values()) > 0
    size = sum(each.stat().st_size for each in (folder / "exports/onnxruntime-fp32").iterdir())
    assert fast["disk_mb"] == pytest.approx(size / 1e6, abs=0.01)
    # PyTorch alone needs more than the exported runtime with all that it imports.
    assert eager["memory_mb"] > fast["memory_mb"] + 50
    with Image.open(tmp_path / "b.png") as figure:
        assert figure.width > figure.height


@pytest.mark.slow
def test_all_runtimes_of_the_bundled_model_agree(tmp_path):
    """Transformers' class has the same answers with the same weights."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    report = benchmark(Benchmark("src/lxmert/default", rounds=1, exports=tmp_path, threads=1))
    same = {f"{row['runtime']} {row['precision']}": row["same_answers"] for row in report["rows"]}
    exact = ("torch fp32", "transformers fp32", "onnxruntime fp32", "openvino fp32")
    assert [same[name] for name in exact] == [1] * 4
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


def test_an_exported_model_names_its_source(folder):
    with pytest.raises(ValueError, match=f"it was exported from, {folder / 'model'}, and exports"):
        benchmark(Benchmark(folder / "exports/onnxruntime-fp32"))


def test_exports_of_another_model_are_refused(folder, tmp_path):
    variant = benchmarking.Variant("onnxruntime", "fp32", folder / "exports/onnxruntime-fp32")
    with pytest.raises(ValueError, match=r"is an export of .*model onnxruntime fp32: name another"):
        benchmarking._export(variant, tmp_path / "other", None, report=print)
