"""Published models: fetched by name from a local server, with extractor and answers."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import published
import pytest
import torch
from conftest import ROOT, Command
from safetensors.torch import load_file, save_file
from web_server import COMMIT, Hub, Server, serve

from lxmert import DetectorExtractor, LxmertPipeline, LxmertProcessor
from lxmert.hub import find_model
from lxmert.terminal import quiet_libraries

SCENE = ROOT / "src/lxmert/examples/scene.png"
EXTRACTOR = ROOT / "src/lxmert/default/extractor"
QUESTION = "What color is the ball?"
CAPTIONS = ["a red ball on the table", "how many books are there ?", "the mug"]
VQA, BASE, TENSORS = "some/answering", "some/pretrained", "some/tensors"

pytestmark = pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("repositories")
    answering = published.build()
    pretrained = published.build("LxmertForPreTraining")
    return {
        VQA: published.write(folder / "vqa", answering),
        BASE: published.write(folder / "base", pretrained),
        TENSORS: published.write(folder / "tensors", answering, safetensors=True),
    }


@pytest.fixture
def hub(
    repositories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Let the hub's own client talk to a server of ours, with an empty cache."""
    with serve(Hub(repositories)) as server:
        constants = huggingface_hub.constants
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        yield server


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "trainval_label2ans.json"
    path.write_text(json.dumps(published.ANSWERS))
    return path


def expected_inputs() -> dict[str, torch.Tensor]:
    """Return what the question and the image become, made by hand."""
    (regions,) = DetectorExtractor.from_pretrained(EXTRACTOR)([SCENE])
    words = ["[CLS]", "what", "color", "is", "the", "ball", "?", "[SEP]"]
    height, width = regions.image_size
    return {
        "input_ids": torch.tensor([[published.WORDS.index(word) for word in words]]),
        "visual_feats": torch.from_numpy(regions.features)[None],
        "visual_pos": torch.from_numpy(regions.boxes / np.float32([width, height] * 2))[None],
    }


@pytest.mark.long
@pytest.mark.parametrize("name", [VQA, BASE, TENSORS])
def test_a_published_model_answers_as_transformers_own_does(
    hub: Server, answers: Path, tmp_path: Path, name: str
) -> None:
    kind = "LxmertForPreTraining" if name == BASE else "LxmertForQuestionAnswering"
    pipeline = LxmertPipeline.from_pretrained(name, extractor=EXTRACTOR, answers=answers)
    with torch.no_grad():
        logits = published.build(kind)(**expected_inputs()).question_answering_score[0]
    expected = dict(zip(published.ANSWERS, logits.softmax(-1).tolist(), strict=True))
    found = {a.answer: a.score for a in pipeline.ask(SCENE, QUESTION, top_k=13)}
    assert found == pytest.approx(expected, abs=1e-5)


def test_only_what_is_read_is_fetched(hub: Server) -> None:
    find_model(VQA)
    fetched = {Path(path).name for path in hub.paths("GET") if "/resolve/" in path}
    assert fetched | {"pytorch_model.bin"} == {
        "config.json",
        "pytorch_model.bin",
        "tokenizer_config.json",
        "vocab.txt",
    }
    assert any(path.endswith("cdn/" + COMMIT + "/pytorch_model.bin") for path in hub.paths("GET"))
    assert not any("tf_model" in path for path in hub.paths("GET"))
    hub.requests.clear()
    find_model(TENSORS)
    assert not any(path.endswith(".bin") for path in hub.paths("GET"))


@pytest.mark.long
def test_a_complete_folder_is_written_once_and_answers_without_a_network(
    hub: Server, answers: Path, tmp_path: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extractor and the answers of a command were remembered in a hidden file."""
    parts = ("--extractor", EXTRACTOR, "--answers", answers)
    first = lxmert("ask", SCENE, QUESTION, "--model", VQA, *parts, "--json")
    assert first.code == 0, first.err
    assert json.loads(first.out)["answers"][0]["answer"] in published.ANSWERS
    assert lxmert("ask", SCENE, QUESTION, "--model", VQA).code == 2
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    done = lxmert("convert", VQA, tmp_path / "vqa", *parts)
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "cache")
    again = lxmert("ask", SCENE, QUESTION, "--model", tmp_path / "vqa", "--json")
    for found, expected in zip(
        *(json.loads(r.out)["answers"] for r in (again, first)), strict=True
    ):
        assert found["answer"] == expected["answer"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert hub.requests == []


@pytest.mark.long
@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_complete_folder_needs_a_tokenizer(
    repositories: dict[str, Path], answers: Path, tmp_path: Path, lxmert: Command, tokenizer: bool
) -> None:
    model, target = tmp_path / "model", tmp_path / "out"
    shutil.copytree(repositories[VQA], model)
    vocabulary = (model / "vocab.txt").rename(tmp_path / "words.txt")
    options = ("--tokenizer", vocabulary) if tokenizer else ()
    done = lxmert(
        "convert", model, target, "--extractor", EXTRACTOR, "--answers", answers, *options
    )
    if tokenizer:
        assert done.code == 0, done.err
        assert lxmert("ask", SCENE, QUESTION, "--model", target).code == 0
    else:
        assert (done.code, target.exists()) == (2, False)
        assert f"{model} has no tokenizer; expected one beside --extractor" in done.err


def test_an_extractor_of_another_width_is_not_written(
    answers: Path, tmp_path: Path, lxmert: Command
) -> None:
    folder = published.write(tmp_path / "model", published.build(visual_feat_dim=9))
    done = lxmert("convert", folder, tmp_path / "out", "--extractor", EXTRACTOR)
    assert (done.code, (tmp_path / "out").exists()) == (2, False)
    assert "features of width 256, but the model expects 9" in done.err


def test_without_them_the_error_says_where_they_are_to_be_had(hub: Server, lxmert: Command) -> None:
    result = lxmert("ask", SCENE, QUESTION, "--model", VQA)
    assert (result.code, result.out) == (2, "")
    message = result.err.splitlines()[-1]
    for text in (
        f"{VQA} comes without its region extractor and the list of its 13 answers",
        f"`lxmert convert {VQA} FOLDER --extractor DETECTOR --answers LIST`",
        "one of vqa, gqa, pretraining",
        "such as detector-caffe",
    ):
        assert text in message
    result = lxmert("ask", SCENE, QUESTION, "--model", VQA, "--extractor", EXTRACTOR)
    message = result.err.splitlines()[-1]
    assert not any(path.endswith(".bin") for path in hub.paths("GET"))  # nothing large is fetched
    assert "without the list of its 13 answers:" in message
    assert f"`lxmert convert {VQA} FOLDER --answers LIST`" in message


@pytest.mark.parametrize(
    ("count", "message"), [(12, "got 12 answers for a model with 13"), (14, "got 14 answers")]
)
def test_a_list_of_another_length_is_refused(
    repositories: dict[str, Path], tmp_path: Path, count: int, message: str
) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("\n".join(f"answer {index}" for index in range(count)))
    with pytest.raises(ValueError, match=message):
        LxmertPipeline.from_pretrained(repositories[VQA], extractor=EXTRACTOR, answers=path)


def test_extractor_of_another_width_are_refused_naming_both(tmp_path: Path, answers: Path) -> None:
    folder = published.write(tmp_path / "model", published.build(visual_feat_dim=9))
    with pytest.raises(ValueError, match="features of width 256, but the model expects 9"):
        LxmertPipeline.from_pretrained(folder, extractor=EXTRACTOR, answers=answers)


def test_a_list_beside_answers_that_the_model_names_itself_must_be_the_same(
    answers: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"differs from the answer list of .* instead of '0'"):
        LxmertPipeline.from_pretrained(None, answers=answers)


def test_an_unknown_repository_is_one_sentence(hub: Server) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model 'no/such': .*401") as error:
        find_model("no/such")
    assert "\n" not in str(error.value)


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: Server, repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.answer.cut = {"pytorch_model.bin": [5000, 9000]}
    fetched = find_model(VQA) / "pytorch_model.bin"
    assert fetched.read_bytes() == (repositories[VQA] / "pytorch_model.bin").read_bytes()
    ranges = [asked for _, path, asked in hub.requests if path.endswith(".bin") and asked]
    assert ranges == ["bytes=5000-", "bytes=9000-"]


def test_a_download_that_cannot_be_finished_is_one_sentence_and_the_next_one_works(
    hub: Server, repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HTTP library's own error came through as a traceback."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.answer.cut = {"pytorch_model.bin": [5000] * 20}
    with pytest.raises(FileNotFoundError, match=f"no model '{VQA}'") as error:
        find_model(VQA)
    assert "\n" not in str(error.value)
    hub.answer.cut = {}
    assert (find_model(VQA) / "pytorch_model.bin").stat().st_size > 5000


def test_without_a_network_what_was_never_fetched_is_one_sentence(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"no model '{VQA}'"):
        find_model(VQA)
    assert hub.requests == []


@pytest.mark.long
def test_pretraining_weights_match_as_transformers_own_do(
    repositories: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = LxmertPipeline.from_pretrained(repositories[BASE], extractor=EXTRACTOR)
    inputs = LxmertProcessor.from_pretrained(repositories[BASE], extractor=EXTRACTOR)(
        [SCENE] * 3, CAPTIONS
    )
    with torch.no_grad():
        output = published.build("LxmertForPreTraining")(**inputs)
    expected = output.cross_relationship_score.softmax(-1)[:, 1].tolist()
    assert pipeline.match(SCENE, CAPTIONS) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="comes without the list of its 13 answers"):
        pipeline.ask(SCENE, QUESTION)


def test_both_heads_of_a_pretraining_share_one_body(
    repositories: dict[str, Path], answers: Path, tmp_path: Path
) -> None:
    pipeline = LxmertPipeline.from_pretrained(
        repositories[BASE], extractor=EXTRACTOR, answers=answers
    )
    assert pipeline.answering is pipeline.model
    assert pipeline.matcher.lxmert is pipeline.answering.lxmert
    assert len(pipeline.match(SCENE, CAPTIONS)) == 3
    assert len(pipeline.ask(SCENE, QUESTION)) == 5


@pytest.mark.long
def test_the_match_command_ranks_captions(
    repositories: dict[str, Path],
    tmp_path: Path,
    lxmert: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    options = ("--model", repositories[BASE], "--extractor", EXTRACTOR)
    result = lxmert("match", SCENE, *CAPTIONS, *options, "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["captions"]
    assert sorted(row["caption"] for row in rows) == sorted(CAPTIONS)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    shown = lxmert("match", SCENE, *CAPTIONS, *options).out
    places = [shown.index(row["caption"]) for row in rows]
    assert places == sorted(places)
    assert f"{scores[0]:.1%}" in shown


def test_the_bundled_model_matches(lxmert: Command) -> None:
    result = lxmert("match", SCENE, "there is a yellow ball", "there is a red ball", "--json")
    assert (result.code, result.err) == (0, "")
    scores = {row["caption"]: row["score"] for row in json.loads(result.out)["captions"]}
    assert scores["there is a yellow ball"] > 0.9
    assert scores["there is a red ball"] < 0.1


def test_a_model_without_a_matching_head_says_so(lxmert: Command, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src/lxmert/default", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = {n: v for n, v in load_file(path).items() if not n.startswith("cls.")}
    save_file(state, path, metadata={"format": "pt"})
    result = lxmert("match", SCENE, CAPTIONS[0], "--model", tmp_path / "model")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "has no matching head" in result.err
    assert "--model" in result.err


def test_a_file_with_code_in_it_is_refused_and_not_run(
    repositories: dict[str, Path], answers: Path, tmp_path: Path
) -> None:
    class Dangerous:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "it ran",))

    folder = tmp_path / "model"
    shutil.copytree(repositories[VQA], folder)
    torch.save({"lxmert": Dangerous()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="nothing was run"):
        LxmertPipeline.from_pretrained(folder, extractor=EXTRACTOR, answers=answers)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.slow
def test_a_published_model_of_full_size_answers_and_matches(
    hub: Server, repositories: dict[str, Path], tmp_path: Path
) -> None:
    """228 million random weights, the decoder twice, from the server to answers and scores."""
    from lxmert import DetectorConfig
    from lxmert.regions.detector import Detector

    sizes = {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "num_qa_labels": 9500,
        "num_object_labels": 1600,
        "num_attr_labels": 400,
        "max_position_embeddings": 512,
        "l_layers": 9,
        "x_layers": 5,
        "r_layers": 5,
        "visual_feat_dim": 2048,
    }
    model = published.build("LxmertForPreTraining", **sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == 228_051_752
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 0.1  # as large as trained ones, that logits stay in range
    repositories = repositories | {"unc-nlp/full": published.write(tmp_path / "full", model)}
    assert (tmp_path / "full/pytorch_model.bin").stat().st_size > 1e9
    hub.answer.repositories = repositories
    bundled = json.loads((EXTRACTOR / "config.json").read_text())
    config = DetectorConfig.from_dict(bundled | {"feature_dim": 2048, "score_threshold": 0.0})
    torch.manual_seed(8)
    DetectorExtractor(Detector(config)).save_pretrained(tmp_path / "extractor")
    (tmp_path / "all_ans.json").write_text(
        json.dumps([{"ans": f"answer {index}", "dsets": ["vqa"]} for index in range(9500)])
    )
    pipeline = LxmertPipeline.from_pretrained(
        "unc-nlp/full", extractor=tmp_path / "extractor", answers=tmp_path / "all_ans.json"
    )
    regions = pipeline.regions(SCENE)
    inputs = pipeline.processor.inputs([regions] * 3, CAPTIONS)
    with torch.no_grad():
        output = model(**inputs)
    expected = output.cross_relationship_score.softmax(-1)[:, 1].tolist()
    assert pipeline.match_regions(regions, CAPTIONS) == pytest.approx(expected, abs=1e-4)
    best = pipeline.ask_regions(regions, CAPTIONS, top_k=1)
    ids = output.question_answering_score.argmax(-1).tolist()
    assert [ranked[0].answer for ranked in best] == [f"answer {index}" for index in ids]


@pytest.mark.parametrize("name", ["httpx", "httpx2", "huggingface_hub"])
def test_requests_to_the_hub_are_not_logged(name: str) -> None:
    """Bug: an `HTTP Request:` line for each, as the hub's client has changed its library."""
    logger = logging.getLogger(name)
    before = logger.level
    try:
        quiet_libraries()
        assert not logger.isEnabledFor(logging.INFO)
    finally:
        logger.setLevel(before)
