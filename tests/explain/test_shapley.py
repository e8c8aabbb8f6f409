"""Shapley values of a model, compared with the definition over all coalitions."""

import functools
import itertools
import math

import pytest
import torch
from model import tiny
from torch import Tensor

from lxmert.explain import shapley_values
from lxmert.explain.relevance import Relevance
from lxmert.explain.shapley import shapley, shapley_for_answers, text_share

WORDS, REGIONS = [4, 7, 5], [5, 2, 3]


def model():  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering").double()


def example(row: int) -> dict[str, Tensor]:
    """Return one example without padding and masks."""
    lengths = {True: REGIONS[row], False: WORDS[row]}
    return {
        name: value[row : row + 1, : lengths[name.startswith("visual")]]
        for name, value in tiny.inputs(dtype=torch.float64).items()
        if "mask" not in name
    }


def probability(network, given: dict[str, Tensor], words, regions, answer: int) -> float:  # type: ignore[no-untyped-def]
    """Answer with only these positions; with no region, an empty mask."""
    parts = {
        name: value[:, list(regions) if name.startswith("visual") else list(words)]
        for name, value in given.items()
    }
    if not regions:
        parts = {n: given[n] if n.startswith("visual") else v for n, v in parts.items()}
        parts["visual_attention_mask"] = torch.zeros(1, given["visual_feats"].shape[1])
    with torch.no_grad():
        return network(**parts).question_answering_score.softmax(-1)[0, answer].item()


def definition(network, given: dict[str, Tensor], answer: int) -> list[float]:  # type: ignore[no-untyped-def]
    text_len, num_regions = given["input_ids"].shape[1], given["visual_feats"].shape[1]
    players = [("word", i) for i in range(1, text_len - 1)]
    players += [("region", i) for i in range(num_regions)]

    @functools.cache  # each coalition is asked for once for each player
    def worth(coalition: frozenset[tuple[str, int]]) -> float:
        words = [0, *sorted(i for kind, i in coalition if kind == "word"), text_len - 1]
        regions = sorted(i for kind, i in coalition if kind == "region")
        return probability(network, given, words, regions, answer)

    values = []
    for player in players:
        others = [other for other in players if other != player]
        total = 0.0
        for size in range(len(others) + 1):
            for chosen in itertools.combinations(others, size):
                weight = 1 / (len(players) * math.comb(len(others), size))
                coalition = frozenset(chosen)
                total += weight * (worth(coalition | {player}) - worth(coalition))
        values.append(total)
    return values


@pytest.mark.long
@pytest.mark.parametrize(("row", "answer"), [(0, 4), (1, 0), (2, 12)])
def test_values_are_those_of_the_definition(row: int, answer: int) -> None:
    network, given = model(), example(row)
    found = shapley(network, given, torch.tensor([answer]))
    values = [*found.words[0, 1:-1].tolist(), *found.regions[0].tolist()]
    assert values == pytest.approx(definition(network, given, answer), abs=1e-6)
    assert found.words[0, 0] == found.words[0, -1] == 0


def test_sampled_values_approach_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given, answers = model(), example(1), torch.tensor([4, 0, 12])
    exact, no_errors = shapley_for_answers(network, given, answers)
    assert not no_errors.words.any()
    monkeypatch.setattr(shapley_values, "MAX_EXACT_PLAYERS", 1)
    sampled, errors = shapley_for_answers(network, given, answers, samples=1000)
    for side in ("words", "regions"):
        distance = (getattr(sampled, side) - getattr(exact, side)).abs()
        assert (distance <= 4 * getattr(errors, side) + 1e-6).all()
        assert (getattr(errors, side)[:, 1:-1] > 0).all() or side == "regions"


def test_the_share_of_the_text() -> None:
    relevance = Relevance(
        torch.tensor([[0.0, -3.0, 1.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]),
        torch.tensor([[0.5, -0.5], [0.0, 0.25], [0.0, 0.0]]),
    )
    assert text_share(relevance).tolist() == pytest.approx([0.8, 0.0, 1.0])
    assert text_share(Relevance(torch.zeros(1, 2), torch.zeros(1, 2))).isnan().all()
