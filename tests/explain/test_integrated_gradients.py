"""Integrated gradients add up to what the score gained (completeness), on tiny and real models."""

import sys

import pytest
import torch
from conftest import ROOT
from model import tiny

from lxmert import LxmertPipeline
from lxmert.explain.integrated_gradients import integrated_gradients

ANSWERS = torch.tensor([4, 0, 12])


def gained(network, given, answer_ids):  # type: ignore[no-untyped-def]
    """Return what the score gains over blank words and over blank regions, `[batch]` each."""

    def score(**changes: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scores = network(**given | changes).question_answering_score
        return scores.gather(1, answer_ids[:, None])[:, 0]

    blank = given["input_ids"].clone()
    for row, length in enumerate(given["attention_mask"].sum(1).tolist()):
        blank[row, 1 : length - 1] = 0  # [PAD] of a configuration that names none
    features, boxes = (torch.zeros_like(given[name]) for name in ("visual_feats", "visual_pos"))
    whole = score()
    return whole - score(input_ids=blank), whole - score(visual_feats=features, visual_pos=boxes)


def test_scores_add_up_to_the_gain_over_the_baseline() -> None:
    network = tiny.build("LxmertForQuestionAnswering").double()
    given = tiny.inputs(dtype=torch.float64)
    found = integrated_gradients(network, given, ANSWERS)
    words, regions = gained(network, given, ANSWERS)
    torch.testing.assert_close(found.words.sum(1).double(), words, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.regions.sum(1).double(), regions, rtol=0, atol=1e-3)
    assert words.abs().min() > 0.01
    assert regions.abs().min() > 0.01


@pytest.mark.long
def test_scores_add_up_for_the_bundled_model() -> None:
    pipeline = LxmertPipeline.from_pretrained()
    seen = pipeline.processor.extractor([ROOT / "src/lxmert/examples/scene.png"])
    texts = ["What color is the ball?", "How many books are there?"]
    given = pipeline.processor.inputs(seen * 2, texts)
    best = pipeline.model(**given).question_answering_score.argmax(-1)
    found = integrated_gradients(pipeline.model, given, best)
    words, regions = gained(pipeline.model, given, best)
    torch.testing.assert_close(found.words.sum(1), words, rtol=0, atol=0.05)
    torch.testing.assert_close(found.regions.sum(1), regions, rtol=0, atol=0.05)


def test_the_first_and_the_last_word_are_part_of_the_baseline() -> None:
    found = integrated_gradients(tiny.build("LxmertForQuestionAnswering"), tiny.inputs(), ANSWERS)
    for row, length in enumerate([4, 7, 5]):
        assert found.words[row, 0] == found.words[row, length - 1] == 0
        assert bool((found.words[row, 1 : length - 1] != 0).all())


def test_without_captum_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ModuleNotFoundError, match=r"lxmert\[explain\]"):
        integrated_gradients(tiny.build("LxmertForQuestionAnswering"), tiny.inputs(), ANSWERS)
