"""The bundled model's export, with which `lxmert ask` answers, is that of the bundled model."""

from pathlib import Path

import pytest
from exports import SCENE, run_without_torch

from lxmert import LxmertPipeline
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.readers import read_questions
from lxmert.exported import read_manifest
from lxmert.hub import BUNDLED_EXPORT, find_fast_model, find_model
from lxmert.weight_files import weight_digests

QUESTION = "What color is the ball?"


def test_it_was_made_from_the_weights_and_the_detector_of_the_bundled_model():
    manifest, model = read_manifest(BUNDLED_EXPORT), find_model(None)
    assert manifest.weights == weight_digests(model)
    assert manifest.fingerprint == PreprocessorConfig.load(model).fingerprint
    assert (manifest.source, manifest.precision) == ("the bundled model", "fp32")


@pytest.mark.long
def test_it_gives_the_answers_of_the_bundled_model():
    exported = LxmertPipeline.from_pretrained(BUNDLED_EXPORT)
    bundled = LxmertPipeline.from_pretrained(cache=False)
    examples = read_questions(SCENE.parent / "questions.jsonl")
    assert len(examples) == 24
    for example in examples:
        image = SCENE.parent / example.image_ids[0]
        found = exported.ask(image, example.text, top_k=3)
        for answer, expected in zip(found, bundled.ask(image, example.text, top_k=3), strict=True):
            assert answer.answer == expected.answer
            assert answer.score == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments", [("ask", str(SCENE), QUESTION), ("match", str(SCENE), "a yellow ball")]
)
def test_commands_answer_with_it_without_torch(arguments, tmp_path):
    code = f"sys.argv = ['lxmert', *{arguments}]\nfrom lxmert.cli.main import main\nmain()\n"
    done = run_without_torch(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "yellow" in done.stdout
    assert not done.stderr


def test_a_command_that_needs_torch_says_what_to_install(tmp_path):
    """It was "No module named 'torch'"."""
    arguments = ["extract", str(SCENE.parent), "-o", "store"]
    code = f"sys.argv = ['lxmert', *{arguments}]\nfrom lxmert.cli.main import main\nmain()\n"
    done = run_without_torch(code, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lxmert: extract needs torch, which is not installed; ")
    assert "use an environment with `pip install lxmert`" in done.stderr


def test_messages_call_it_the_bundled_model():
    assert LxmertPipeline.from_pretrained(BUNDLED_EXPORT).name == "the bundled model"


def test_it_serves_only_where_nothing_else_is_named(monkeypatch):
    nothing = {"extractor": None, "answers": None, "device": None}
    assert find_fast_model(None, **nothing) == BUNDLED_EXPORT
    assert find_fast_model("vqa", **nothing) == "vqa"
    for other in ({"extractor": Path("e")}, {"answers": Path("a")}, {"device": "cuda"}):
        assert find_fast_model(None, **nothing | other) is None
    monkeypatch.setattr("lxmert.hub.find_spec", lambda name: None)
    assert find_fast_model(None, **nothing) is None
