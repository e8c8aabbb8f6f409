"""Contrasts, matches and statements about two images, with the bundled model and a judge of its."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Command

from lxmert.explain.methods import METHODS
from lxmert.explaining import MATCHES, explain_match, explain_statement
from lxmert.hub import find_model
from lxmert.model.heads import LxmertForImagesAndTextClassification
from lxmert.pipeline import LxmertPipeline

IMAGES = ROOT / "src/lxmert/examples"
SCENE, OTHER = IMAGES / "scene.png", IMAGES / "scene-1.png"
QUESTION = "What color is the ball?"
METHODS_TESTED = ("propagation", "attnlrp", "occlusion")


@pytest.fixture(scope="module")
def pipe() -> LxmertPipeline:
    return LxmertPipeline.from_pretrained()


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, pipe: LxmertPipeline) -> Path:
    """Return a judge of statements with the encoder of the bundled model and a random head."""
    folder = tmp_path_factory.mktemp("judge") / "model"
    shutil.copytree(find_model(None), folder)
    torch.manual_seed(3)
    model = LxmertForImagesAndTextClassification(pipe.model.config)
    model.lxmert = pipe.model.lxmert
    model.save_pretrained(folder)
    return folder


def test_a_contrast_explains_one_answer_rather_than_another(pipe: LxmertPipeline) -> None:
    found = pipe.explain(SCENE, QUESTION, contrast="red", methods=METHODS_TESTED)
    names = ["yellow rather than red", "red rather than yellow"]
    assert [answer.answer for answer in found.answers] == names
    assert sum(answer.score for answer in found.answers) == pytest.approx(1)
    plain = pipe.explain(SCENE, QUESTION, answers=["red"], top_k=1, methods=METHODS_TESTED)
    yellow, red = (answer.score for answer in plain.answers)
    assert found.answers[0].score == pytest.approx(yellow / (yellow + red))
    one, other = plain.by_method["attnlrp"].regions
    torch.testing.assert_close(
        found.by_method["attnlrp"].regions[0], (one - other) / 2, rtol=1e-3, atol=1e-4
    )
    assert "rather than red" in found.to_html()
    for answers, message in (
        (["red"], "'red' is the explained answer itself"),
        (["mug", "ball"], "2 answers are named: name at most one"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.explain(SCENE, QUESTION, contrast="red", answers=answers)
    with pytest.raises(ValueError, match=r"'reed' is not among the .* nearest are red"):
        pipe.explain(SCENE, QUESTION, contrast="reed")


@pytest.mark.long
def test_a_match_is_explained_with_the_probability_of_match(pipe: LxmertPipeline) -> None:
    caption = "there is a yellow ball"
    found = explain_match(pipe, SCENE, caption, methods=["all"])
    assert list(found.by_method) == list(METHODS)
    scores = {answer.answer: answer.score for answer in found.answers}
    assert set(scores) == set(MATCHES)
    assert scores["matches"] == pytest.approx(pipe.match(SCENE, [caption])[0], abs=1e-5)
    row = [answer.answer for answer in found.answers].index("matches")
    # AttnLRP explains the difference of two scores, of which one gains what the other loses.
    relevance = found.by_method["attnlrp"].regions
    torch.testing.assert_close(relevance[row], -relevance[1 - row], rtol=1e-4, atol=1e-5)
    assert found.to_dict()["answers"][0]["answer"] == found.answers[0].answer  # type: ignore[index]


def test_a_statement_about_two_images_is_explained_side_by_side(
    judge: Path, pipe: LxmertPipeline
) -> None:
    statement = "there is a yellow ball"
    found = explain_statement(judge, [SCENE, OTHER], statement, methods=METHODS_TESTED)
    left, right = (pipe.regions(image) for image in (SCENE, OTHER))
    assert [answer.answer for answer in found.answers] in (["True", "False"], ["False", "True"])
    assert len(found.regions) == len(left) + len(right)
    assert found.labels[0].startswith("left: ")
    assert found.labels[-1].startswith("right: ")
    (height, width), (other_height, other_width) = left.image_size, right.image_size
    assert found.image.shape == (max(height, other_height), width + other_width, 3)
    np.testing.assert_allclose(
        found.regions.boxes[len(left) :], right.boxes + np.array([width, 0, width, 0])
    )
    inputs = pipe.processor([[SCENE, OTHER]], [statement])
    model = LxmertForImagesAndTextClassification.from_pretrained(judge)
    with torch.no_grad():
        expected = model(**inputs).logits.softmax(-1)[0]
    assert {a.answer: a.score for a in found.answers} == {
        "False": pytest.approx(float(expected[0]), abs=1e-5),
        "True": pytest.approx(float(expected[1]), abs=1e-5),
    }
    for relevance in found.by_method.values():
        assert relevance.regions.shape == (2, len(found.regions))
        assert (relevance.regions[0] != 0).any()
    for kind, layers in found.maps.kinds().items():
        for layer in layers:
            assert layer.shape[0] == 1
            torch.testing.assert_close(
                layer.sum(-1), torch.ones(layer.shape[:-1]), rtol=1e-4, atol=1e-5, msg=kind
            )
    assert "left: " in found.to_html()


def test_what_a_model_cannot_say_is_not_explained(judge: Path, pipe: LxmertPipeline) -> None:
    with pytest.raises(ValueError, match="answers questions about one image, expected a model"):
        explain_statement(find_model(None), [SCENE, OTHER], "true")
    with pytest.raises(ValueError, match="got 1 image, expected a left and a right one"):
        explain_statement(judge, [SCENE], "true")
    alone = LxmertPipeline(pipe.model, pipe.processor)
    with pytest.raises(ValueError, match="has no matching head, or is exported"):
        explain_match(alone, SCENE, "a ball")


@pytest.mark.long
def test_the_command_explains_contrasts_matches_and_statements(
    lxmert: Command, judge: Path, tmp_path: Path
) -> None:
    page = tmp_path / "pair.html"
    for options, shown in (
        ((QUESTION, "--contrast", "red"), "yellow rather than red"),
        (("there is a ball", "--match"), "does not match"),
        (("a ball", "--second", OTHER, "--model", judge, "-o", page), "False"),
    ):
        result = lxmert("explain", SCENE, *options, "--methods", "propagation")
        assert result.code == 0, result.err
        assert shown in result.out
    assert "right: " in page.read_text(encoding="utf-8")
    for options, message in (
        ((QUESTION, "--match", "--contrast", "red"), "--contrast and --match exclude each other"),
        (("a ball", "--second", OTHER), "--second needs a model that judges statements"),
    ):
        result = lxmert("explain", SCENE, *options)
        assert result.code == 2
        assert message in result.err
