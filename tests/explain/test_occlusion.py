"""Occlusion is compared with examples without the word or the region."""

import pytest
import torch
from model import tiny
from torch import Tensor

from lxmert.explain import deletion
from lxmert.explain.occlusion import occlude_for_answers, occlusion

ANSWERS = torch.tensor([4, 0, 12])
WORDS, REGIONS = [4, 7, 5], [5, 2, 3]


def probability(network, given: dict[str, Tensor], answer: int) -> float:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return network(**given).question_answering_score.softmax(-1)[0, answer].item()


def without(
    given: dict[str, Tensor], row: int, side: str, left_out: int | None
) -> dict[str, Tensor]:
    """Return one example without padding, masks, and one of its words or regions."""
    lengths = {"text": WORDS[row], "image": REGIONS[row]}
    alone = {}
    for name, value in given.items():
        if "mask" in name:
            continue
        part = "image" if name.startswith("visual") else "text"
        kept = [i for i in range(lengths[part]) if part != side or i != left_out]
        alone[name] = value[row : row + 1, kept]
    return alone


@pytest.mark.parametrize("chunk", [64, 3])
def test_scores_are_what_really_leaving_out_costs(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "CHUNK", chunk)
    network = tiny.build("LxmertForQuestionAnswering").double()
    given = tiny.inputs(dtype=torch.float64)
    found = occlusion(network, given, ANSWERS)
    for row, answer in enumerate(ANSWERS.tolist()):
        whole = probability(network, without(given, row, "text", None), answer)
        for index in range(REGIONS[row]):
            expected = whole - probability(network, without(given, row, "image", index), answer)
            assert found.regions[row, index].item() == pytest.approx(expected, abs=1e-6)
        for index in range(1, WORDS[row] - 1):
            expected = whole - probability(network, without(given, row, "text", index), answer)
            assert found.words[row, index].item() == pytest.approx(expected, abs=1e-6)
        assert found.words[row, WORDS[row] - 1] == 0, "[SEP] was left out"


def test_several_answers_to_one_question_are_explained_as_each_alone() -> None:
    network, given = tiny.build("LxmertForQuestionAnswering"), tiny.inputs()
    for row in range(tiny.BATCH):
        alone = {name: value[row : row + 1] for name, value in given.items()}
        found = occlude_for_answers(network, alone, ANSWERS)
        for index, answer in enumerate(ANSWERS.tolist()):
            expected = occlusion(network, alone, torch.tensor([answer]))
            torch.testing.assert_close(found.words[index], expected.words[0])
            torch.testing.assert_close(found.regions[index], expected.regions[0])


def test_a_single_region_is_removed_by_an_empty_mask() -> None:
    network = tiny.build("LxmertForQuestionAnswering")
    given = {
        name: value[:1, :1] if "visual" in name else value[:1]
        for name, value in tiny.inputs().items()
    }
    baselines = given | {"visual_attention_mask": torch.zeros(1, 1)}
    expected = probability(network, given, 4) - probability(network, baselines, 4)
    found = occlusion(network, given, torch.tensor([4])).regions
    assert found[0].tolist() == [pytest.approx(expected, abs=1e-6)]
