"""The page of `lxmert export --runtime web` answers in the browser as Python does."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from lxmert import LxmertPipeline
from lxmert.data.tokenizer import load_tokenizer
from lxmert.exported import EXTRACTOR, TOKENIZER, ExportManifest
from lxmert.files import read_json_object, write_json
from lxmert.hub import find_model
from lxmert.reading import TextReader
from lxmert.regions.choosing import nms
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.exported import ExportedDetectorConfig
from lxmert.regions.preprocess import prepare
from lxmert.workflows.examples import EXAMPLES
from lxmert.workflows.exporting import export_folder
from lxmert.workflows.web_page import LIBRARY, check_library, write_page

TEXTS = (
    "What color is the ball?",
    "HOW many  mugs,\tcones and\u00a0balls?!",
    "Où est le café — naïve Ångström?",
    "什么 ball 是 this",
    "a-b_c $5 ^x~y` \u200bzero\x00width \ufffd",
    "unaffable balloons 🎈 ballball",
    " ".join(["mug"] * 60),
)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A folder in which files with the names of ONNX Runtime Web are installed."""
    monkeypatch.chdir(tmp_path)
    (LIBRARY / "dist").mkdir(parents=True)
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (LIBRARY / "dist" / name).write_text("7 bytes")
    write_json(LIBRARY / "package.json", {"version": "8.9"})


def write_export(folder, **changes):
    """Write the files of an export that the page reads, with another setting of the detector."""
    folder.mkdir()
    bundled = find_model(None)
    config = DetectorConfig.from_file(bundled / "extractor/config.json").replace(**changes)
    anchors = ((-3.0, -3.0, 3.0, 3.0),)
    exported = ExportedDetectorConfig(detector=config, cell_anchors=anchors, anchor_offset=0.5)
    write_json(folder / EXTRACTOR, exported.to_dict())
    shutil.copyfile(bundled / TOKENIZER, folder / TOKENIZER)
    return ExportManifest(
        runtime="onnxruntime",
        precision="fp32",
        source="the bundled model",
        weights=(),
        answers=("yes", "no"),
        matches=False,
        max_text_length=9,
        fingerprint="8",
        differences={},
        tolerances={},
        files={"text.onnx": {"size": 8, "sha256": "0" * 64}},
    )


def test_the_page_has_its_files_and_tells_their_size(library, tmp_path):
    folder = tmp_path / "out"
    write_page(folder, write_export(folder))
    names = {path.name for path in folder.iterdir()}
    assert {"index.html", "page.js", "page.css", "model.js", "detector.js", "text.js"} <= names
    page = read_json_object(folder / "page.json")
    others = [path for path in folder.iterdir() if path.name != "page.json"]
    assert page["bytes"] == sum(path.stat().st_size for path in others)
    assert (page["source"], page["runtime_version"]) == ("The bundled model", "8.9")
    assert page["detector"]["proposal_candidates"] == 6 * page["detector"]["proposals"]
    assert len(page["examples"]) == 6
    assert all((folder / example["image"]).is_file() for example in page["examples"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "survivors"}, r"has selection = 'survivors', but .* 'agnostic' only"),
        ({"side_offset": 1.0}, r"side_offset = 1.0"),
    ],
)
def test_a_detector_with_rules_that_the_scripts_lack_is_refused(
    library, tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path / "out", write_export(tmp_path / "out", **changes))


def test_other_tokenizers_and_models_without_answers_are_refused(library, tmp_path):
    manifest = write_export(tmp_path / "out")
    with pytest.raises(ValueError, match="only matches captions"):
        write_page(tmp_path / "out", manifest.replace(answers=(), matches=True))
    tokenizer = read_json_object(tmp_path / "out" / TOKENIZER)
    tokenizer["model"] = {"type": "BPE"}
    write_json(tmp_path / "out" / TOKENIZER, tokenizer)
    with pytest.raises(ValueError, match=r"'model': 'BPE'.* use --runtime onnxruntime"):
        write_page(tmp_path / "out", manifest)


def test_a_missing_library_is_named_before_anything_is_computed(lxmert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="npm install onnxruntime-web"):
        check_library()
    done = lxmert("export", ROOT / "src/lxmert/default", "-o", "out", "--runtime", "web")
    assert done.code == 2
    assert "npm install onnxruntime-web" in done.err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The exported bundled model, and its page in a browser whose camera shows a test image."""
    if not (ROOT / LIBRARY).is_dir():
        pytest.skip(f"needs {LIBRARY}: npm install --no-save onnxruntime-web")
    browsers = pytest.importorskip("browsers")
    folder = tmp_path_factory.mktemp("web") / "page"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        export_folder(None, folder, runtime="onnxruntime", finish=write_page)
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browsers.open_driver(*camera) as driver:
        driver.set_script_timeout(60)
        browser = browsers.Browser(driver)
        browser.folder, browser.origin = folder, f"http://127.0.0.1:{server.server_port}"
        yield browser
    server.shutdown()


def run_module(page, code, *arguments):
    """Run the body of an asynchronous function with the page's modules."""
    script = f"""
const [given, done] = [arguments, arguments[arguments.length - 1]];
(async () => {{
  const [detector, text, model] = await Promise.all(
    ["detector", "text", "model"].map((name) => import(`./${{name}}.js`)));
  {code}
}})().then(done, (error) => done({{error: String(error.stack)}}));
"""
    result = page.driver.execute_async_script(script, *arguments)
    assert not (isinstance(result, dict) and "error" in result), result["error"]
    return result


@pytest.mark.slow
def test_texts_images_and_boxes_are_read_as_in_python(page):
    page.driver.get(f"{page.origin}/index.html")
    tokenizer = read_json_object(page.folder / TOKENIZER)
    code = "return given[0].map((line) => text.tokenize(line, given[1], given[2]).ids);"
    found = run_module(page, code, TEXTS, tokenizer, 26)
    reader = TextReader(load_tokenizer(find_model(None)), longest=26)
    assert found == [reader.read(line).token_ids.tolist() for line in TEXTS]

    settings = read_json_object(page.folder / "page.json")["detector"]
    config = DetectorConfig.from_file(find_model(None) / "extractor/config.json")
    generator = np.random.default_rng(8)
    code = """
const image = {data: given[0], height: given[1], width: given[2]};
const input = detector.prepare(image, given[3]);
return [input.height, input.width, input.scale, Array.from(input.pixels)];
"""
    for height, width in ((160, 160), (97, 211), (320, 240), (33, 500)):
        pixels = generator.integers(256, size=(height, width, 3), dtype=np.uint8)
        colors = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        rows, columns, scale, values = run_module(
            page, code, colors.flatten().tolist(), height, width, settings
        )
        expected = prepare(pixels, config)
        assert ((rows, columns), scale) == (expected.scaled_size, expected.scale)
        image = np.array(values).reshape(expected.pixel_values.shape)
        np.testing.assert_allclose(image, expected.pixel_values, atol=1e-4)

    corners = generator.uniform(0, 50, (80, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 30, (80, 2))], axis=1)
    scores = generator.integers(9, size=80) / 8  # with ties
    code = "return detector.suppress(given[0], given[1], given[2]);"
    kept = run_module(page, code, boxes.tolist(), scores.tolist(), 0.5)
    assert kept == nms(boxes.astype(np.float32), scores, 0.5).tolist()
    assert 5 < len(kept) < 80


@pytest.mark.slow
def test_answers_regions_and_relevance_are_those_of_python(page):
    page.driver.get(f"{page.origin}/index.html")
    code = """
const network = await model.loadModel(), results = [];
for (const [name, questions] of given[0]) {
  const bitmap = await createImageBitmap(await (await fetch(name)).blob());
  const brush = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  brush.drawImage(bitmap, 0, 0);
  const image = brush.getImageData(0, 0, bitmap.width, bitmap.height);
  const {boxes, features, names, found} = await network.regions(image), answers = [];
  for (const question of questions) {
    answers.push(await network.ask(image, {boxes, features}, question));
  }
  results.push({boxes, features: Array.from(features), names, found, answers});
}
return results;
"""
    Image.new("RGB", (200, 150), (90, 120, 90)).save(page.folder / "empty.png")
    asked = {}
    for line in (EXAMPLES / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked.setdefault(row["image"], []).append(row["question"])
    asked["empty.png"] = ["What color is the ball?"]
    results = run_module(page, code, list(asked.items()))
    pipeline = LxmertPipeline.from_pretrained(page.folder)
    for (name, questions), result in zip(asked.items(), results, strict=True):
        regions = pipeline.regions(page.folder / name)
        np.testing.assert_allclose(result["boxes"], regions.boxes, atol=1e-2)
        features = np.reshape(result["features"], regions.features.shape)
        np.testing.assert_allclose(features, regions.features, atol=1e-3)
        assert result["found"] == regions.found
        assert result["names"] == pipeline.labels(regions)
        for question, found in zip(questions, result["answers"], strict=True):
            with pytest.warns() if not regions.found else pytest.MonkeyPatch.context():
                expected = pipeline.answer(page.folder / name, question)
            assert found["answers"][0]["answer"] == expected.answers[0].answer
            assert found["answers"][0]["score"] == pytest.approx(
                expected.answers[0].score, abs=1e-3
            )
            if len(regions) > 1:
                np.testing.assert_allclose(found["relevance"], expected.relevance, atol=1e-3)


@pytest.mark.slow
def test_the_page_answers_about_examples_dropped_images_and_the_camera(page):
    page.resize()
    page.driver.get_log("performance")
    page.driver.get(f"{page.origin}/index.html")
    page.wait("!document.getElementById('ask').disabled")
    page.wait("document.getElementById('status').textContent.includes('found in')")
    assert "MB, loaded once from the folder of this page" in page.text("about")
    events = [
        json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")
    ]
    sent = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.endswith("text.onnx") for url in sent)
    assert all(url.startswith((f"{page.origin}/", "data:", "blob:")) for url in sent), sent

    cut = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", cut)
    page.run("document.getElementById('ask').click()")
    page.wait("!document.getElementById('result').hidden")
    assert page.text("best") == "yellow"
    assert len(page.find("#boxes .top")) == 1

    pixels = (EXAMPLES / "scene-2.png").read_bytes()
    page.run(
        """
const transfer = new DataTransfer();
transfer.items.add(new File([new Uint8Array(arguments[0])], "dropped.png", {type: "image/png"}));
document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}));
""",
        list(pixels),
    )
    page.wait("document.getElementById('result').hidden")
    page.wait("document.getElementById('status').textContent.includes('found in')")
    number = len(LxmertPipeline.from_pretrained(page.folder).regions(EXAMPLES / "scene-2.png"))
    assert len(page.find("#boxes span")) == number

    page.find("#use-camera")[0].click()
    page.wait("document.getElementById('camera').videoWidth > 0")
    page.find("#use-camera")[0].click()
    page.wait("/found in|Nothing/.test(document.getElementById('status').textContent)")
    page.run("document.getElementById('question').value = 'Is there a zebra?'")
    page.run("document.getElementById('ask').click()")
    page.wait("!document.getElementById('result').hidden")
    assert 'does not know "zebra"' in page.text("status")

    page.run(
        """
const transfer = new DataTransfer();
transfer.items.add(new File(["no image"], "note.txt", {type: "text/plain"}));
document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}));
"""
    )
    page.wait("document.getElementById('status').textContent.includes('note.txt is not an image')")
    severe = [e["message"] for e in page.driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not severe
