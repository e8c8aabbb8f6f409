"""The pipeline as libraries use it: called with lists and generators, moved, saved, uploaded."""

import copy
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from model.test_publishing import Hub
from PIL import Image

from lxmert import LxmertForImageAndTextRetrieval, LxmertPipeline, LxmertProcessor
from lxmert.regions.cache import DiskCache
from lxmert.regions.extract import DetectorExtractor

SCENES = sorted((ROOT / "src/lxmert/examples").glob("*.png"))[:3]
QUESTIONS = ["What color is the ball?", "Is there a mug?"]


@pytest.fixture(scope="module")
def pipe() -> LxmertPipeline:
    return LxmertPipeline.from_pretrained()


def expected(pipe: LxmertPipeline, image: Any, question: str, top_k: int = 5) -> list[Any]:
    return [
        {"score": pytest.approx(found.score, abs=1e-5), "answer": found.answer}
        for found in pipe.ask(image, question, top_k=top_k)
    ]


def test_a_question_about_an_image_is_answered_as_by_ask(pipe: LxmertPipeline) -> None:
    wanted = expected(pipe, SCENES[0], QUESTIONS[0], 2)
    assert pipe(image=SCENES[0], question=QUESTIONS[0], top_k=2) == wanted
    assert pipe(str(SCENES[0]), QUESTIONS[0], top_k=2) == wanted
    assert pipe({"image": Image.open(SCENES[0]), "question": QUESTIONS[0]}, top_k=2) == wanted


@pytest.mark.long
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_lists_are_answered_in_batches_in_their_order(
    pipe: LxmertPipeline, batch_size: int
) -> None:
    pairs = [(image, question) for image in SCENES for question in QUESTIONS]
    rows = [{"image": image, "question": question} for image, question in pairs]
    wanted = [expected(pipe, *pair) for pair in pairs]
    assert pipe(rows, batch_size=batch_size) == wanted
    assert pipe(SCENES, QUESTIONS[0], batch_size=batch_size) == wanted[::2]
    assert pipe(SCENES[0], QUESTIONS, batch_size=batch_size) == wanted[:2]
    assert pipe([rows[0]]) == wanted[:1]


def test_a_generator_is_answered_as_it_comes(pipe: LxmertPipeline) -> None:
    taken = []

    def rows() -> Iterator[dict[str, object]]:
        for number in range(100):
            taken.append(number)
            yield {"image": SCENES[number % 3], "question": QUESTIONS[0]}

    answers = pipe(rows(), top_k=1, batch_size=4)
    assert taken == []
    first = next(answers)
    assert (first, len(taken)) == (expected(pipe, SCENES[0], QUESTIONS[0], 1), 4)


def test_images_of_a_generator_are_answered_as_they_come(pipe: LxmertPipeline) -> None:
    """Bug: all images were read before the first answer, so that a camera never got one."""
    frames = itertools.chain(SCENES, itertools.repeat(None))  # reading on would fail
    answers = pipe(frames, QUESTIONS[0], top_k=1, batch_size=3)
    assert next(answers) == expected(pipe, SCENES[0], QUESTIONS[0], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pipe: pipe(SCENES[0]), "a PosixPath without a question; expected image=..."),
        (lambda pipe: pipe("scene.png"), "a str without a question"),
        (lambda pipe: pipe([{"image": SCENES[0]}]), "a dict with 'image'; expected a dictionary"),
        (lambda pipe: pipe([SCENES[0]]), "a PosixPath; expected a dictionary with 'image' and"),
        (lambda pipe: pipe(SCENES, QUESTIONS), "3 images and a list of questions"),
        (lambda pipe: pipe(SCENES[0], " "), "the text is empty"),
        (lambda pipe: pipe(SCENES[0], QUESTIONS, batch_size=0), "batch_size is 0"),
        (lambda pipe: pipe(SCENES[0], QUESTIONS, batch_size=None), "batch_size is None"),
        (lambda pipe: pipe(SCENES[0], QUESTIONS, top_k=0), "top_k is 0"),
        (lambda pipe: pipe(QUESTIONS[0], str(SCENES[0])), "looks like a question: the image"),
    ],
)
def test_other_arguments_are_one_sentence(
    pipe: LxmertPipeline, call: Callable[[LxmertPipeline], object], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message.replace(".", r"\.")):
        call(pipe)


@pytest.mark.long
def test_an_image_is_extracted_once_for_all_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    look = DetectorExtractor.__call__

    def count(self: DetectorExtractor, images: list[object]) -> object:
        seen.append(len(images))
        return look(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(DetectorExtractor, "__call__", count)
    pipe = LxmertPipeline.from_pretrained(cache=DiskCache(tmp_path))
    first = pipe.ask(SCENES[0], QUESTIONS[0])
    pipe.explain(SCENES[0], QUESTIONS[1], methods=["occlusion"])
    pipe(Image.open(SCENES[0]), QUESTIONS)
    assert LxmertPipeline.from_pretrained(cache=DiskCache(tmp_path)).ask(
        np.asarray(Image.open(SCENES[0]).convert("RGB")), QUESTIONS[0]
    ) == first  # fmt: skip
    assert seen == [1]
    LxmertPipeline.from_pretrained(cache=False).ask(SCENES[0], QUESTIONS[0])
    assert seen == [1, 1]


def test_it_moves_to_a_device_and_back(pipe: LxmertPipeline) -> None:
    processor = LxmertProcessor.from_pretrained()
    extractor = processor.to("meta").extractor
    assert isinstance(extractor, DetectorExtractor)
    places = {value.device.type for value in extractor.detector.parameters()}
    assert places == {extractor.device.type} == {"meta"}
    with pytest.raises(ValueError, match="cpu"):
        pipe.to("gpu")
    before = pipe.ask(SCENES[0], QUESTIONS[0])
    assert pipe.to("cpu").ask(SCENES[0], QUESTIONS[0]) == before


def test_a_saved_pipeline_answers_and_matches_as_before(
    pipe: LxmertPipeline, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    config = copy.deepcopy(pipe.model.config)
    config.task_matched = True
    answering = type(pipe.model)(config)
    matcher = LxmertForImageAndTextRetrieval(config)
    matcher.lxmert = answering.lxmert
    both = LxmertPipeline(answering, pipe.processor, matcher=matcher)
    both.save_pretrained(tmp_path / "both")
    again = LxmertPipeline.from_pretrained(tmp_path / "both")
    assert again(SCENES[0], QUESTIONS[0]) == expected(both, SCENES[0], QUESTIONS[0])
    assert again.match(SCENES[0], ["a mug"]) == pytest.approx(both.match(SCENES[0], ["a mug"]))
    assert len(repr(both)) < 120
    assert "answers, matching; DetectorExtractor; cpu" in repr(both)


def test_representations_are_one_short_line(pipe: LxmertPipeline) -> None:
    number = len(pipe.answers)
    assert repr(pipe) == (
        f"LxmertPipeline(the bundled model: {number} answers, matching; DetectorExtractor; cpu)"
    )
    shown = repr(pipe.processor)
    assert shown.startswith("LxmertProcessor(DetectorExtractor ")
    assert len(shown) < 120


def test_a_dynamically_quantized_model_answers(pipe: LxmertPipeline) -> None:
    if not hasattr(torch.ao.quantization, "quantize_dynamic"):
        pytest.skip("this torch has no dynamic quantization")
    with pytest.warns(DeprecationWarning, match="quantization"):
        small = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(pipe.model), {torch.nn.Linear}, dtype=torch.qint8
        )
    check_quantized(LxmertPipeline(small, pipe.processor), pipe)


def check_quantized(quantized: LxmertPipeline, pipe: LxmertPipeline) -> None:
    for question in QUESTIONS:
        (best,) = quantized.ask(SCENES[0], question, top_k=1)
        (wanted,) = pipe.ask(SCENES[0], question, top_k=1)
        assert (best.answer, best.score) == (wanted.answer, pytest.approx(wanted.score, abs=0.05))


def test_a_model_quantized_by_torchao_answers(pipe: LxmertPipeline) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    small = copy.deepcopy(pipe.model)
    quantization.quantize_(small, quantization.Int8WeightOnlyConfig())
    weights = small.lxmert.encoder.layer[0].attention.self.query.weight
    assert type(weights) is not torch.nn.Parameter  # it is torchao's
    check_quantized(LxmertPipeline(small, pipe.processor), pipe)


_UPLOAD = """
from lxmert import LxmertPipeline
print(LxmertPipeline.from_pretrained().push_to_hub("someone/sofas", private=True))
"""


@pytest.mark.long
def test_a_complete_folder_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = type("OneHub", (Hub,), {"files": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_sofa")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", _UPLOAD], capture_output=True, text=True, check=False
    )
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/someone/sofas")
    names = {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"}
    assert handler.files.keys() >= names | {
        "README.md", "extractor/config.json", "extractor/model.safetensors",
    }  # fmt: skip
    assert json.loads(handler.files["config.json"])["id2label"]["0"]
