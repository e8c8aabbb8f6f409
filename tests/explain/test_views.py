"""Contrasts, matching and statements about two images, explained by every method."""

import pytest
import torch
from model import tiny
from torch import Tensor

from lxmert.explain import integrated_gradients
from lxmert.explain.attnlrp import attnlrp
from lxmert.explain.deletion import answer_with_both
from lxmert.explain.methods import METHODS, explain_answers
from lxmert.explain.views import contrast_answers, join_images, match_view, statement_view

WORDS, REGIONS = [4, 7, 5], [5, 2, 3]
LEFT, RIGHT = REGIONS, REGIONS[::-1]
every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrated_gradients, "STEPS", 8)


def answering():  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering").double()


def judge():  # type: ignore[no-untyped-def]
    return tiny.build(tiny.PAIRS).double()


def pairs() -> dict[str, Tensor]:
    """Return three statements about two images each."""
    return tiny.inputs_for(tiny.PAIRS, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_scores_of_views_are_those_of_the_models() -> None:
    given = tiny.inputs(dtype=torch.float64)
    model = answering()
    logits = model(**given).question_answering_score[:, [4, 9]]
    found = contrast_answers(model, 4, 9)(**given).question_answering_score
    close(found[:, 0] - found[:, 1], logits[:, 0] - logits[:, 1])
    close(found.softmax(-1), logits.softmax(-1))
    matcher = tiny.build(tiny.MATCHING).double()
    found = match_view(matcher)(**given).question_answering_score
    close(found.softmax(-1), matcher(**given).logits.softmax(-1))
    found = statement_view(judge())(**join_images(pairs())).question_answering_score
    close(found.softmax(-1), judge()(**pairs()).logits.softmax(-1))


def test_the_contrast_is_the_relevance_of_the_difference() -> None:
    """AttnLRP is linear in the explained score: half of one relevance minus the other."""
    model, given = answering(), tiny.inputs(dtype=torch.float64)
    view = contrast_answers(model, 4, 9)
    found = attnlrp(view, given, torch.zeros(3, dtype=torch.long))
    reverse = attnlrp(view, given, torch.ones(3, dtype=torch.long))
    one, other = (attnlrp(model, given, torch.full((3,), answer)) for answer in (4, 9))
    close(found.regions, (one.regions - other.regions) / 2)
    close(found.words, (one.words - other.words) / 2)
    close(found.regions, -reverse.regions)
    assert (model.num_qa_labels, model.config.num_qa_labels) == (13, 13)


@every_method
def test_matching_is_explained(name: str) -> None:
    view = match_view(tiny.build(tiny.MATCHING).double())
    found = METHODS[name](view, tiny.inputs(dtype=torch.float64), torch.tensor([1, 0, 1]))
    assert found.regions.isfinite().all()
    assert (found.regions != 0).any()


def swapped(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same statements with their images in the other order."""
    return {n: v.flip(1) if n.startswith("visual") else v for n, v in given.items()}


@pytest.mark.long
@every_method
def test_statements_are_explained_as_a_model_of_one_image_per_row_would_be(name: str) -> None:
    """A judge that reads only its left image has no relevance for the right one.

    Scores are exactly zero for padding, which lies between the images.
    """
    model, given = judge(), pairs()
    width = model.config.hidden_size
    with torch.no_grad():
        model.classifier.logit_fc[0].weight[:, width:] = 0
    view, ids = statement_view(model), torch.tensor([1, 0, 1])
    found = METHODS[name](view, join_images(given), ids)
    assert found.words.shape == (3, tiny.TEXT_LEN)
    assert found.regions.shape == (3, 2 * tiny.REGIONS)
    real = given["visual_attention_mask"].flatten(1, 2).bool()
    assert (found.regions[~real] == 0).all()
    assert (found.words[:, 1:] != 0).any()
    left, right = found.regions.view(3, 2, -1).unbind(1)
    assert (left != 0).any()
    if name not in ("attention", "rollout", "value_zeroing"):
        assert right.abs().max() < 1e-6
    mirrored = METHODS[name](view, join_images(swapped(given)), ids)
    if name in ("attention", "rollout", "value_zeroing"):
        close(mirrored.words, found.words)
        close(mirrored.regions, found.regions.view(3, 2, -1).flip(1).flatten(1))


@pytest.mark.long
@every_method
def test_statements_of_a_batch_are_those_of_each_alone(name: str) -> None:
    view, given = statement_view(judge()), join_images(pairs())
    ids = torch.tensor([1, 0, 1])
    together = METHODS[name](view, given, ids)
    for row in range(3):
        one = {key: value[row : row + 1] for key, value in given.items()}
        alone = explain_answers(view, one, ids[row : row + 1], [name])[name]
        close(alone.words[0], together.words[row])
        close(alone.regions[0], together.regions[row])


@torch.no_grad()
def test_what_is_removed_from_a_statement_is_removed_from_its_own_image() -> None:
    given = {name: value[:1] for name, value in pairs().items()}
    model, joined = judge(), join_images(given)
    generator = torch.Generator().manual_seed(6)
    regions = torch.rand(6, 2 * tiny.REGIONS, generator=generator) < 0.5
    regions &= joined["visual_attention_mask"].bool()
    words = joined["attention_mask"].bool().expand(6, -1).clone()
    words[3:, 1] = False
    found = answer_with_both(statement_view(model), joined, kept_words=words, kept_regions=regions)
    for row in range(6):
        places = words[row].nonzero()[:, 0]
        alone = {
            "input_ids": given["input_ids"][:, places],
            "token_type_ids": given["token_type_ids"][:, places],
            "visual_feats": given["visual_feats"],
            "visual_pos": given["visual_pos"],
            "visual_attention_mask": regions[row].view(1, 2, -1).long(),
        }
        close(found[row].softmax(-1), model(**alone).logits[0].softmax(-1))


def test_a_judge_of_three_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 classes, expected 2: only statements that are"):
        statement_view(tiny.build(tiny.PAIRS, num_classes=3))
