"""Published weights from a server of this machine: fetched once, completed, resumed, refused."""

import json
import logging
import shutil
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import hubs
import huggingface_hub
import pytest
import squares
import torch
from conftest import ROOT, Command
from regions.published import caffe_bytes, detectron2_bytes, write_huggingface
from squares import write_squares
from web_server import Server

from lxmert import LxmertPipeline
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import StoreWriter
from lxmert.data.tsv import PUBLISHED_EXTRACTOR
from lxmert.downloading import FullDiskError
from lxmert.hub import find_extractor, find_model
from lxmert.vocabularies import ANSWERS
from lxmert.weights import fetching
from lxmert.weights.fetching import Sources
from lxmert.weights.folders import RECORD, open_published, published_folder
from lxmert.weights.table import PUBLISHED
from lxmert.workflows.training import read_with_options, train_recipe

SCENE = ROOT / "src/lxmert/examples/scene.png"
QUESTION = "How many books are there?"

pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hubs.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def caffe() -> bytes:
    return caffe_bytes(hubs.detector_state())


@pytest.fixture
def server(
    models: dict[str, Path], caffe: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    hubs.use_small_detectors(monkeypatch)
    files = {hubs.published_path("detector-caffe"): caffe}
    with hubs.serve_published(models, files, monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.mark.long
def test_one_command_answers_with_a_published_model(
    server: Server, lxmert: Command, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lxmert"):
        first = lxmert("ask", SCENE, QUESTION, "--model", "vqa", "--json")
    assert first.code == 0, first.err
    assert "HTTP" not in first.err
    weights = "/unc-nlp/lxmert-vqa-uncased/resolve/main/pytorch_model.bin"
    lines = [
        f"vqa: fetching once, to {published_folder('vqa')}",
        f"detector-caffe: checking and converting {PUBLISHED['detector-caffe'].files[0].urls[0]}",
        f"vqa: checking and converting {server.url}{weights}",
        "vqa: ready, with regions of detector-caffe",
    ]
    assert [
        record.message for record in caplog.records if record.name.startswith("lxmert")
    ] == lines
    found = json.loads(first.out)
    answers = json.loads(ANSWERS["vqa"].read_text())
    assert len(found["answers"]) == 5
    assert {answer["answer"] for answer in found["answers"]} <= set(answers)
    labels = [region["label"] for region in found["regions"]]
    assert labels
    assert not any("attribute" in label or "object" in label for label in labels)
    server.requests.clear()
    again = lxmert("ask", SCENE, QUESTION, "--model", "unc-nlp/lxmert-vqa-uncased", "--json")
    assert json.loads(again.out)["answers"] == found["answers"]
    assert server.requests == []  # nothing is asked for a second time


def test_the_answers_are_those_of_transformers_own_model(
    server: Server, models: dict[str, Path]
) -> None:
    pipeline = LxmertPipeline.from_pretrained("gqa")
    regions = pipeline.regions(SCENE)
    height, width = regions.image_size
    boxes = torch.from_numpy(regions.boxes) / torch.tensor([width, height] * 2)
    from transformers import LxmertForQuestionAnswering as Peer

    peer = Peer.from_pretrained(models["unc-nlp/lxmert-gqa-uncased"]).eval()
    tokens = pipeline.processor.text_inputs([QUESTION])
    with torch.no_grad():
        logits = peer(
            **tokens, visual_feats=torch.from_numpy(regions.features)[None], visual_pos=boxes[None]
        ).question_answering_score[0]
    best = int(logits.argmax())
    answer = pipeline.ask(SCENE, QUESTION)[0]
    assert answer.answer == json.loads(ANSWERS["gqa"].read_text())[best]
    assert answer.score == pytest.approx(float(logits.softmax(-1)[best]), abs=1e-5)


@pytest.mark.long
def test_the_pretrained_model_answers_and_matches(server: Server) -> None:
    pipeline = LxmertPipeline.from_pretrained("lxmert-base")
    assert len(pipeline.answers) == 9500
    assert len(pipeline.match(SCENE, ["a red ball", "two books"])) == 2


def test_a_folder_records_the_origin_of_its_files(server: Server) -> None:
    record = json.loads((open_published("vqa") / RECORD).read_text())
    assert (record["name"], record["extractor"]) == ("vqa", "detector-caffe")
    weights = record["files"][-1]
    assert weights["from"].endswith("/unc-nlp/lxmert-vqa-uncased/resolve/main/pytorch_model.bin")
    downloads = published_folder("downloads")
    assert not any(path.is_file() for path in downloads.rglob("*"))  # nothing is kept twice


def test_files_that_were_fetched_before_an_interruption_keep_their_origin(server: Server) -> None:
    """Bug: the record named a path that no longer exists."""
    server.answer.hub.spoiled = {"pytorch_model.bin"}
    with pytest.raises(OSError, match="run `lxmert weights fetch vqa --from FOLDER`"):
        open_published("vqa")
    server.answer.hub.spoiled = set()
    record = json.loads((open_published("vqa") / RECORD).read_text())
    assert len(record["files"]) == 3
    for file in record["files"]:
        assert file["from"].startswith(server.url)
        assert file["from"].endswith(f"/{file['file']}")
    assert not any(path.is_file() for path in published_folder("downloads").rglob("*"))


@pytest.mark.long
def test_the_regions_that_were_published_with_the_model_are_accepted(
    server: Server, tmp_path: Path, lxmert: Command
) -> None:
    """Bug: they were refused, as their store does not name the detector that was fetched."""
    pipeline = LxmertPipeline.from_pretrained("vqa")
    regions = pipeline.regions(SCENE)
    config = pipeline.processor.config
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question_id": 8, "image": "scene", "question": QUESTION}))
    for fingerprint, code in ((PUBLISHED_EXTRACTOR, 0), (config.fingerprint, 0), ("other", 2)):
        store, output = tmp_path / f"store-{code}-{len(fingerprint)}", tmp_path / "answers.jsonl"
        header = StoreHeader(
            fingerprint=fingerprint, feature_dim=hubs.FEATURES, dtype="float32", precision="fp32",
            object_names=pipeline.processor.extractor.object_names,
            attribute_names=pipeline.processor.extractor.attribute_names,
        )  # fmt: skip
        with StoreWriter(store, header) as writer:
            writer.add(("scene", regions))
            writer.finish()
        done = lxmert("predict", "vqa", "--data", questions, "--regions", store, "-o", output)
        assert done.code == code, done.err
    assert "was made by extractor other" in done.err
    assert config.fingerprint in done.err


def test_both_models_share_one_detector(server: Server) -> None:
    open_published("vqa")
    server.requests.clear()
    folder = open_published("gqa")
    assert not any("files/" in path for path in server.paths("GET"))
    assert (folder / "extractor/model.safetensors").samefile(
        find_extractor("detector-caffe") / "model.safetensors"
    )


def test_a_cut_connection_is_resumed(
    server: Server, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.answer.hub.cut = {"pytorch_model.bin": [5000, 9000]}
    server.answer.files.cuts = [70_000]
    open_published("vqa")
    ranges = dict.fromkeys(asked for _, path, asked in server.requests if asked)
    assert list(ranges) == ["bytes=70000-", "bytes=5000-", "bytes=9000-"]


def test_an_interrupted_fetch_goes_on_in_the_next_command(
    server: Server, monkeypatch: pytest.MonkeyPatch, lxmert: Command
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.answer.hub.cut = {"pytorch_model.bin": [7000] + [0] * 9}
    failed = lxmert("weights", "fetch", "vqa")
    assert failed.code == 2
    assert "rerun the command later to resume" in failed.err
    server.answer.hub.cut = {}
    server.requests.clear()
    done = lxmert("weights", "fetch", "vqa")
    assert done.code == 0, done.err
    assert {asked for _, _, asked in server.requests if asked} == {"bytes=7000-"}


def test_the_speed_of_a_resumed_download_is_that_of_new_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: what was there before counted as fetched at once, so that the time left was wrong."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with fetching._Bar(PUBLISHED["vqa"].files[-1]) as advance:
        advance(800_000_000, 856_000_000)
        time.sleep(0.2)
        advance(800_001_000, 856_000_000)
    assert "800M/856M" in screen.getvalue()
    assert "GB/s" not in screen.getvalue()


def test_dead_addresses_are_reported_with_the_next_one(
    server: Server, caffe: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer.files.files = {hubs.published_path("detector-caffe", 1): caffe}
    with caplog.at_level(logging.WARNING):
        open_published("detector-caffe")
    assert "answers 404 Not Found; trying the next address, " in caplog.text
    assert "bacig173qnxddvz" in caplog.text


def test_the_next_detector_is_taken_if_one_is_nowhere(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "huggingface"
    folder.mkdir()
    write_huggingface(folder, hubs.detector_state(), hubs.SMALL_YAML)
    server.answer.files.files = {
        hubs.published_path("detector-huggingface", 0, place): (folder / name).read_bytes()
        for place, name in enumerate(("config.yaml", "pytorch_model.bin"))
    }
    with caplog.at_level(logging.WARNING):
        model = open_published("vqa")
    assert json.loads((model / RECORD).read_text())["extractor"] == "detector-huggingface"
    assert "detector-detectron2 is not available; trying detector-huggingface" in caplog.text


@pytest.mark.long
def test_without_any_detector_the_error_says_how_to_use_a_file_and_nothing_large_is_fetched(
    server: Server, lxmert: Command, tmp_path: Path
) -> None:
    server.answer.files.files = {}
    result = lxmert("ask", SCENE, QUESTION, "--model", "vqa")
    assert (result.code, result.out) == (2, "")
    message = result.err.splitlines()[-1]
    for text in (
        "the region extractor of vqa was not fetched",
        "resnet101_faster_rcnn_final_iter_320000.caffemodel",
        "`lxmert weights fetch vqa --from FOLDER`",
    ):
        assert text in message
    assert message.count("rerun the command") == 0  # the advice of each file does not apply
    assert not any(path.endswith(".bin") for path in server.paths("GET") if "frcnn" not in path)
    (tmp_path / "mine").mkdir()
    own = tmp_path / "mine/faster_rcnn_from_caffe_attr.pkl"
    own.write_bytes(detectron2_bytes(hubs.detector_state()))
    done = lxmert("weights", "fetch", "vqa", "--from", own.parent)
    assert done.code == 0, done.err
    assert own.is_file()  # the user's files stay
    assert lxmert("ask", SCENE, QUESTION, "--model", "vqa").code == 0


def test_no_other_detector_is_tried_on_a_full_disk(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: all detectors were tried, and the disk was named between dead addresses."""
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(9_000_000, 0, 9_000_000))
    server.answer.files.files = {hubs.published_path("detector-caffe"): bytes(9_000_001)}
    with pytest.raises(FullDiskError, match="free space and rerun the same command"):
        open_published("vqa")
    assert len([path for path in server.paths("GET") if "/files/" in path]) == 1


def test_a_mirror_is_tried_first(server: Server, caffe: bytes) -> None:
    name = PUBLISHED["detector-caffe"].files[0].name
    server.answer.files.files = {f"mirror/{name}": caffe}
    mirror = f"{server.url}/files/mirror/"
    folder = open_published("detector-caffe", Sources(mirrors=(mirror,)))
    assert json.loads((folder / RECORD).read_text())["files"][0]["from"] == mirror + name


def test_a_wrong_checksum_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PUBLISHED["detector-caffe"]
    file = entry.files[0]._replace(sha256="8" * 64)
    monkeypatch.setitem(PUBLISHED, "detector-caffe", entry._replace(files=(file,)))
    with pytest.raises(OSError, match=r"has SHA-256 \w{64}, expected 8{64}"):
        open_published("detector-caffe")
    assert not published_folder("detector-caffe").exists()


def test_the_checksum_that_the_hub_announces_is_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch, models: dict[str, Path]
) -> None:
    monkeypatch.setattr(fetching, "_announced", lambda url: (None, "9" * 64))
    with pytest.raises(OSError, match=r"pytorch_model.bin .* expected 9{64}"):
        open_published("vqa")


def test_a_damaged_detector_is_not_used_again(server: Server, caffe: bytes) -> None:
    path = hubs.published_path("detector-caffe")
    server.answer.files.files[path] = caffe[:-5000]
    with pytest.raises(ValueError, match="caffemodel"):
        open_published("detector-caffe")
    server.answer.files.files[path] = caffe
    assert open_published("detector-caffe").is_dir()


def test_a_configuration_of_another_model_is_refused_before_the_weights(
    server: Server, tmp_path: Path
) -> None:
    other = hubs.write_models(tmp_path / "other", {"num_qa_labels": 9})
    server.answer.hub.repositories = other
    with pytest.raises(ValueError, match=r"the configuration of vqa has 9 answers, .* has 3129"):
        open_published("vqa")
    assert not any(path.endswith(".bin") for path in server.paths("GET"))


@pytest.mark.parametrize("name", ["config.json", "vocab.txt"])
def test_a_damaged_small_file_is_fetched_again(
    server: Server, models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Bug: it stayed among the downloads, so that every further attempt failed on it."""
    repository = "unc-nlp/lxmert-vqa-uncased"
    damaged = tmp_path / "damaged"
    shutil.copytree(models[repository], damaged)
    (damaged / name).write_text("")
    server.answer.hub.repositories = {repository: damaged}
    with pytest.raises(ValueError, match=name):
        open_published("vqa")
    server.answer.hub.repositories = models
    assert open_published("vqa").is_dir()


def test_without_a_network_one_sentence_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, lxmert: Command
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    result = lxmert("ask", SCENE, QUESTION, "--model", "vqa")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "HF_HUB_OFFLINE forbids downloads" in result.err
    assert server.requests == []


def test_a_folder_is_preferred_to_a_published_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vqa").mkdir()
    assert find_model("vqa") == Path("vqa")
    with pytest.raises(ValueError, match="is a published detector, not a model"):
        find_model("detector-caffe")


@pytest.mark.long
def test_training_starts_from_a_published_model_and_keeps_its_answers(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = write_squares(tmp_path / "world", 12)
    pairs = [
        option
        for option in squares.settings(
            f"data.train={world / 'train.jsonl'}",
            f"data.images={world / 'images'}",
            "model.init_from=lxmert-base",
            "optim.steps=2",
            "model.hidden_size=768",
        )
        if option != "--set"
    ]
    recipe = read_with_options(ROOT / "src/lxmert/recipes/custom.toml", pairs, {})
    with caplog.at_level(logging.INFO):
        train_recipe(recipe, tmp_path / "run", cpu=True)
    assert "answers keep their weights from the checkpoint" in caplog.text
    assert LxmertPipeline.from_pretrained(tmp_path / "run").answers


def test_what_training_refuses_is_refused_before_regions_are_extracted(
    server: Server, models: dict[str, Path], tmp_path: Path
) -> None:
    """Bug: answers without names were refused after the extraction."""
    world = write_squares(tmp_path / "world")
    extractor = find_extractor("detector-caffe")
    pairs = [
        option
        for option in squares.settings(
            f"data.train={world / 'train.jsonl'}",
            f"data.images={world / 'images'}",
            f"data.extractor={extractor}",
            f"model.init_from={models['unc-nlp/lxmert-base-uncased']}",
        )
        if option != "--set"
    ]
    recipe = read_with_options(ROOT / "src/lxmert/recipes/custom.toml", pairs, {})
    with pytest.raises(ValueError, match="does not name its 9500 answers"):
        train_recipe(recipe, tmp_path / "run", cpu=True)
    assert not (tmp_path / "run/regions").exists()
