"""Exported models answer as the PyTorch model does, without PyTorch, in both runtimes."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from exports import SCENE, TEXTS, run_without_torch, write_tiny_model
from safetensors.torch import load_file, save_file

from lxmert import LxmertPipeline, LxmertProcessor
from lxmert.data.store import RegionStore
from lxmert.exported import HEADS_GRAPH, MANIFEST, TRUNK_GRAPH, ExportedModel
from lxmert.hub import BUNDLED_EXPORT
from lxmert.lab.scenes.dataset import SceneSettings, make_dataset
from lxmert.regions.cache import DiskCache
from lxmert.regions.exported import ExportedDetector
from lxmert.regions.extractor import load_extractor
from lxmert.weight_files import weight_digests
from lxmert.workflows.benchmark_worker import Variant
from lxmert.workflows.benchmarking import Benchmark, _export, benchmark
from lxmert.workflows.export_comparison import Calibration, compare_extractors
from lxmert.workflows.exporting import export_folder
from lxmert.workflows.extraction import extract_folder, load_for_extraction
from lxmert.workflows.questions import open_answering

pytestmark = pytest.mark.long

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


def ignore(done, total):
    """Show no progress."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model and its export."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("exported")
    model = write_tiny_model(folder / "model")
    export_folder(model, folder / "fast", runtime="onnxruntime")
    return model, folder / "fast"


@pytest.fixture(scope="module")
def pipelines(folders):
    model, fast = folders
    return LxmertPipeline.from_pretrained(model, cache=False), LxmertPipeline.from_pretrained(fast)


def with_manifest(fast, folder, **changes):
    """Return a copy of an export with other values in its manifest."""
    shutil.copytree(fast, folder)
    values = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(values | changes))
    return folder


def check_same(first, second):
    expected, found = (pipeline.regions(SCENE) for pipeline in (first, second))
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
    np.testing.assert_allclose(found.object_scores, expected.object_scores, atol=1e-5)
    np.testing.assert_allclose(found.attribute_scores, expected.attribute_scores, atol=1e-5)
    np.testing.assert_array_equal(found.object_ids, expected.object_ids)
    np.testing.assert_array_equal(found.attribute_ids, expected.attribute_ids)
    assert (found.image_size, found.found) == (expected.image_size, expected.found)
    for one, other in zip(
        first.ask_regions(expected, TEXTS), second.ask_regions(expected, TEXTS), strict=True
    ):
        assert [each.answer for each in one] == [each.answer for each in other]
        np.testing.assert_allclose(
            [each.score for each in other], [each.score for each in one], atol=1e-5
        )
    matches = (pipeline.match_regions(expected, TEXTS) for pipeline in (first, second))
    np.testing.assert_allclose(*matches, atol=1e-5)


def test_explanations_are_not_measured_on_an_exported_model(folders):
    """It was said to match captions only."""
    with pytest.raises(ValueError, match="is an exported model, which has no gradients"):
        open_answering(folders[1], device="cpu")


def test_the_export_answers_as_the_model(pipelines):
    check_same(*pipelines)


@pytest.mark.parametrize("limits", [1, (3, 3), (0, 12)])
def test_other_numbers_of_regions_are_those_of_the_model(pipelines, limits):
    one, other = (
        pipeline.processor.extractor([SCENE], num_regions=limits)[0] for pipeline in pipelines
    )
    np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)


def test_nothing_found_is_the_whole_image(pipelines, folders):
    expected, found = (pipeline.processor.extractor for pipeline in pipelines)
    strict = expected.detector.config.replace(score_threshold=1.0)
    other = ExportedModel(folders[1]).extractor
    other.config = strict
    (region,) = other([SCENE])
    assert not region.found
    height, width = region.image_size
    assert region.boxes.tolist() == [[0, 0, width, height]]
    one, two = expected([SCENE], boxes=[region.boxes])[0], region
    np.testing.assert_allclose(two.features, one.features, atol=1e-5)
    assert found.config.score_threshold == 0.2


def test_the_relevance_of_regions_is_that_of_explaining(pipelines):
    model, fast = pipelines
    expected = model.explain(SCENE, TEXTS[0], methods=["occlusion"])
    for found in (model.answer(SCENE, TEXTS[0]), fast.answer(SCENE, TEXTS[0])):
        np.testing.assert_allclose(found.relevance, expected.relevance, atol=1e-5)
        assert found.without_image.answer == expected.without_image.answer
        assert found.to_dict().keys() == expected.to_dict().keys()
        assert [each.answer for each in found.answers] == [each.answer for each in expected.answers]


def test_features_that_are_not_finite_are_a_difference():
    """Bug: they counted as equal."""
    regions = LxmertPipeline.from_pretrained(cache=False).regions(SCENE)
    calibration = Calibration([SCENE], [regions], [regions.features])

    class Broken(ExportedDetector):
        def __init__(self):
            """Need no graphs."""

        def __call__(self, images):
            return [regions for _ in images]

        def features(self, image, boxes):
            return np.full_like(regions.features, np.nan)

    assert np.isnan(compare_extractors(Broken(), calibration)["features"])


def test_the_manifest_tells_differences_and_files(folders):
    manifest = ExportedModel(folders[1]).manifest
    assert manifest.source == str(folders[0])
    assert set(manifest.differences) == {"logits", "other answers", "other regions", "features"}
    assert manifest.differences["logits"] < 1e-5
    assert "at most" not in (folders[1] / "README.md").read_text()
    assert len(manifest.files) == 6


def test_commands_answer_without_torch(folders):
    model, fast = folders
    expected = LxmertPipeline.from_pretrained(model, cache=False).answer(SCENE, TEXTS[0])
    (fast.parent / "questions.jsonl").write_text(
        json.dumps({"image": SCENE.name, "question": TEXTS[0]}) + "\n"
    )
    code = f"""
from lxmert.cli.main import main
for arguments in (
    ["ask", {str(SCENE)!r}, {TEXTS[0]!r}, "--model", "fast", "--json"],
    ["predict", "fast", "--data", "questions.jsonl", "--images", {str(SCENE.parent)!r}, "-o", "o"],
    ["match", {str(SCENE)!r}, {TEXTS[1]!r}, "--model", "fast", "--json"],
):
    sys.argv = ["lxmert", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    done = run_without_torch(code, fast.parent)
    assert done.returncode == 0, done.stderr
    asked, matched = (json.loads(line) for line in done.stdout.splitlines() if line[0] == "{")
    (predicted,) = map(json.loads, (fast.parent / "o").read_text().splitlines())
    for key, value in expected.to_dict().items():
        if key == "answers":
            assert [each["answer"] for each in asked[key]] == [each["answer"] for each in value]
    assert predicted["answer"] == expected.answers[0].answer
    assert predicted["score"] == pytest.approx(expected.answers[0].score, abs=1e-5)
    assert len(matched["captions"]) == 1


def test_extracted_regions_are_those_of_the_model(folders, lxmert, tmp_path):
    """Also with another number of regions; the tolerance is that of the card."""
    model, fast = folders
    tolerance = ExportedModel(fast).manifest.tolerances["features"]
    for limits in ([], ["--num-regions", "3-5"]):
        stores = []
        for extractor in (model / "extractor", fast):
            output = tmp_path / f"{extractor.name}{len(limits)}"
            done = lxmert("extract", SCENE.parent, "--extractor", extractor, "-o", output, *limits)
            assert done.code == 0, done.err
            stores.append(RegionStore(output))
        expected, found = stores
        assert len(found) == 6
        assert found.header == expected.header
        for name in expected.image_ids:
            one, other = expected[name], found[name]
            np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-2)
            norms = np.linalg.norm(one.features, axis=1) * np.linalg.norm(other.features, axis=1)
            cosines = (one.features * other.features).sum(axis=1) / norms
            assert cosines.min() >= 1 - tolerance


def test_extraction_options_that_an_export_defines_are_refused(folders, lxmert, tmp_path):
    fast = folders[1]
    command = ("extract", SCENE.parent, "-o", tmp_path / "out", "--extractor", fast)
    for options, message in (
        (["--precision", "bf16"], "is an exported model, which defines precision and names"),
        (["--device", "meta"], "computes on the CPU, not on 'meta'"),
    ):
        done = lxmert(*command, *options)
        assert done.code == 2
        assert message in done.err
    assert not (tmp_path / "out").exists()


def test_an_export_is_evaluated_as_the_model(folders, lxmert, tmp_path):
    rows = [{"image": SCENE.name, "question": text, "answer": "red"} for text in TEXTS[:2]]
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("--data", data, "--images", SCENE.parent, "--json")
    one, other = (lxmert("evaluate", folder, *given) for folder in folders)
    assert other.code == 0, other.err
    assert json.loads(other.out)["accuracy"] == json.loads(one.out)["accuracy"]


def test_a_benchmark_names_the_source_of_an_export(folders, tmp_path):
    model, fast = folders
    with pytest.raises(ValueError, match=f"it was exported from, {model}, and exports"):
        benchmark(Benchmark(fast))
    variant = Variant("onnxruntime", "fp32", fast)
    copy = shutil.copytree(model, tmp_path / "copy")
    _export(
        variant, copy, weight_digests(copy), None, report=print
    )  # the same weights under another name
    weights = load_file(copy / "model.safetensors")
    save_file({name: 2 * values for name, values in weights.items()}, copy / "model.safetensors")
    with pytest.raises(ValueError, match=f"is the onnxruntime fp32 export of {model}, whose"):
        _export(variant, copy, weight_digests(copy), None, report=print)


def test_a_pipeline_is_loaded_without_torch(folders):
    code = f"""
from lxmert import LxmertPipeline
pipeline = LxmertPipeline.from_pretrained("fast")
print(pipeline.ask({str(SCENE)!r}, {TEXTS[0]!r})[0].answer)
pipeline.explain({str(SCENE)!r}, {TEXTS[0]!r})
"""
    done = run_without_torch(code, folders[1].parent)
    model = LxmertPipeline.from_pretrained(folders[0], cache=False)
    assert done.stdout.strip() == model.ask(SCENE, TEXTS[0])[0].answer
    assert f"was exported from, {folders[0]}" in done.stderr


def test_a_server_answers_without_torch(folders):
    code = f"""
import asyncio, base64
from pathlib import Path
from lxmert.serve.errors import RequestError
from lxmert.serve.messages import AskRequest, ExplainRequest
from lxmert.serve.run import make_service
from lxmert.serve.settings import ServeSettings

service = make_service(ServeSettings(model="fast", reports=Path("reports")))
request = dict(
    image=base64.b64encode(Path({str(SCENE)!r}).read_bytes()).decode(), question={TEXTS[0]!r}
)

async def ask():
    service.start()
    assert await asyncio.to_thread(service.queue.ready.wait, 60)
    print((await service.answer(AskRequest(**request))).answers[0].answer)
    try:
        await service.answer(ExplainRequest(**request))
    except RequestError as error:
        print(error)
    await service.stop()

asyncio.run(ask())
"""
    done = run_without_torch(code, folders[1].parent)
    assert done.returncode == 0, done.stderr
    answer, refused = done.stdout.splitlines()
    assert (
        answer
        == LxmertPipeline.from_pretrained(folders[0], cache=False).ask(SCENE, TEXTS[0])[0].answer
    )
    assert "no gradients" in refused
    assert str(folders[0]) not in refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 7}, "has version 7, but this version of lxmert reads 3: export"),
        ({"files": {"gone.onnx": {"size": 1, "sha256": "0" * 64}}}, "lacks its file 'gone.onnx'"),
        ({"files": {"../x": {"size": 1, "sha256": "0" * 64}}}, r"lacks its file '\.\./x'"),
        ({"runtime": "tflite"}, "runtime: got .tflite., expected"),
    ],
)
def test_a_folder_of_another_kind_is_refused(folders, tmp_path, changes, message):
    folder = with_manifest(folders[1], tmp_path / "other", **changes)
    with pytest.raises(ValueError, match=message):
        ExportedModel(folder)


def test_a_cut_file_is_named(folders, tmp_path):
    folder = with_manifest(folders[1], tmp_path / "cut")
    (folder / "text.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"text.onnx has 1 bytes, but export.json says"):
        LxmertPipeline.from_pretrained(folder)


def test_what_an_export_cannot_do_says_so(folders, pipelines, tmp_path):
    fast = folders[1]
    with pytest.raises(ValueError, match="has its own region extractor and answers"):
        LxmertPipeline.from_pretrained(fast, answers="list.json")
    with pytest.raises(ValueError, match="computes on the CPU, not on 'cuda'"):
        LxmertPipeline.from_pretrained(fast, device="cuda")
    with pytest.raises(ValueError, match="copy its folder"):
        pipelines[1].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is an exported model already"):
        export_folder(fast, tmp_path / "again", runtime="onnxruntime")
    with pytest.raises(FileExistsError, match="exists already"):
        export_folder(None, fast, runtime="onnxruntime")


def test_int8_needs_calibration_data_of_the_same_detector(folders, tmp_path):
    with pytest.raises(ValueError, match=r"int8 needs data .* add --calibrate"):
        export_folder(folders[0], tmp_path / "x", runtime="onnxruntime", precision="int8")
    torch.manual_seed(6)
    other = write_tiny_model(tmp_path / "other")
    extract_folder(
        SCENE.parent, tmp_path / "store", load_extractor(other / "extractor"), progress=ignore
    )
    with pytest.raises(ValueError, match=r"was made by extractor .* but the model was trained on"):
        export_folder(
            folders[0],
            tmp_path / "x",
            runtime="onnxruntime",
            precision="int8",
            calibrate=tmp_path / "store",
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "data"), [("onnxruntime", "images"), ("openvino", "store")])
def test_int8_keeps_the_answers_of_the_bundled_model(tmp_path, runtime, data):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    scenes = tmp_path / "scenes"
    make_dataset(scenes, SceneSettings(kinds=("qa",), split="train", count=24))
    store = extract_folder(
        scenes / "images", scenes / "store", load_for_extraction(None), progress=ignore
    )
    fast = tmp_path / "fast"
    manifest = export_folder(None, fast, runtime=runtime, precision="int8", calibrate=scenes / data)
    assert len(manifest.layers_in_fp32["text.onnx"]) <= 3
    # A store has no images to measure the ranges of the detector with.
    assert ("backbone.res2.0" in manifest.layers_in_fp32["trunk.onnx"]) == (data == "store")
    texts = ["How many red things are there?", "What color is the ball?", "Is there a mug?"]
    one, other = LxmertPipeline.from_pretrained(cache=False), LxmertPipeline.from_pretrained(fast)
    answers = [
        [
            found[0].answer
            for name in store.image_ids
            for found in each.ask_regions(store[name], texts)
        ]
        for each in (one, other)
    ]
    same = [first == second for first, second in zip(*answers, strict=True)]
    assert len(same) == 72
    assert sum(same) >= 69
    assert "| `heads.onnx` |" in (fast / "README.md").read_text()


@pytest.mark.slow
def test_the_runtime_distribution_answers_in_a_new_environment(folders, tmp_path):
    root = SCENE.parents[3]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [python, "-m", "pip", "install", "-q", root / "packaging/runtime"]
    subprocess.run(install, check=True, env=alone, cwd=tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 400e6
    ask = [tmp_path / "venv/bin/lxmert", "ask", SCENE, TEXTS[0], "--model", folders[1], "--json"]
    done = subprocess.run(ask, check=True, env=alone, cwd=tmp_path, capture_output=True, text=True)
    expected = LxmertPipeline.from_pretrained(folders[0], cache=False).ask(SCENE, TEXTS[0])
    assert json.loads(done.stdout)["answers"][0]["answer"] == expected[0].answer
    listed = [python, "-m", "pip", "list"]
    names = subprocess.run(listed, check=True, env=alone, capture_output=True, text=True).stdout
    assert "onnxruntime" in names
    assert "torch" not in names
    assert "transformers" not in names


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bundled_model_answers_in_openvino(tmp_path, precision):
    pytest.importorskip("openvino", reason="openvino is not installed")
    export_folder(None, tmp_path / "fast", runtime="openvino", precision=precision)
    found = LxmertPipeline.from_pretrained(tmp_path / "fast").ask(SCENE, TEXTS[0])
    expected = LxmertPipeline.from_pretrained(cache=False).ask(SCENE, TEXTS[0])
    assert found[0].answer == expected[0].answer == "yellow"
    assert found[0].score == pytest.approx(expected[0].score, abs=0.03)


def test_regions_are_kept_apart_from_those_of_the_model_and_need_no_graph(folders, tmp_path):
    _, fast = folders
    cache = DiskCache(tmp_path / "kept")
    pipeline = LxmertPipeline.from_pretrained(fast, cache=cache)
    first = pipeline.regions(SCENE)
    without = tmp_path / "fast"
    shutil.copytree(fast, without)
    for name in (TRUNK_GRAPH, HEADS_GRAPH):
        (without / name).write_bytes(bytes((fast / name).stat().st_size))  # cannot be loaded
    again = LxmertPipeline.from_pretrained(without, cache=cache)
    np.testing.assert_array_equal(again.regions(SCENE).features, first.features)
    LxmertPipeline.from_pretrained(folders[0], cache=cache).regions(SCENE)
    assert len(cache.entries()) == 2
    with pytest.raises(ValueError, match="export it again"):
        LxmertPipeline.from_pretrained(without, cache=False).regions(SCENE)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_commands_refuse_a_device_for_it(folders, lxmert, tmp_path, command):
    (tmp_path / "q.jsonl").write_text(
        json.dumps({"image": SCENE.name, "question": TEXTS[0], "answer": "red"}) + "\n"
    )
    data = ("--data", tmp_path / "q.jsonl", "--images", SCENE.parent)
    done = lxmert(command, folders[1], *data, "--device", "cuda")
    assert done.code == 2
    assert "which computes on the CPU" in done.err


def test_graphs_do_not_name_files_of_the_machine(folders):
    """Bug: torch notes for each node the lines of code that it came from, with their paths."""
    for path in [*folders[1].glob("*.onnx"), *BUNDLED_EXPORT.glob("*.onnx")]:
        assert b".py" not in path.read_bytes()


def test_a_processor_is_not_loaded_from_it(folders):
    with pytest.raises(ValueError, match=r"use LxmertPipeline\.from_pretrained"):
        LxmertProcessor.from_pretrained(folders[1])
