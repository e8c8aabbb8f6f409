"""Perturbation tests and the pointing game, against one example and one share at a time."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from faithfulness import measure
from model import tiny
from torch import Tensor

from lxmert.explain.faithfulness import Trial, points_at
from lxmert.explain.methods import METHODS
from lxmert.explain.perturbation import SHARES, area_under
from lxmert.explain.relevance import Relevance

WORDS, REGIONS = [4, 7, 5], [5, 2, 3]
GENERATOR = torch.Generator().manual_seed(4)
SCORES = torch.rand(tiny.BATCH, 13, generator=GENERATOR)
FIXED = Relevance(
    torch.rand(tiny.BATCH, tiny.TEXT_LEN, generator=GENERATOR),
    torch.rand(tiny.BATCH, tiny.REGIONS, generator=GENERATOR),
)
LIGHT = {name: METHODS[name] for name in ("propagation", "attention", "gradcam")}


@cache
def model():  # type: ignore[no-untyped-def]
    """Return a model whose best answer changes easily: no answer is better in the mean."""
    network = tiny.build("LxmertForQuestionAnswering").double()
    with torch.no_grad():
        scores = [
            network(**tiny.inputs(seed=seed, dtype=torch.float64)).question_answering_score.mean(0)
            for seed in range(20)
        ]
        network.answer_head.logit_fc[-1].bias -= torch.stack(scores).mean(0)
    return network


def boxes(count: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return boxes with centers at (10 i, 5)."""
    return np.array([[10 * i - 3, 2, 10 * i + 3, 8] for i in range(count)], dtype=np.float32)


def trial(rows: slice = slice(None)) -> Trial:
    given = {name: value[rows] for name, value in tiny.inputs(dtype=torch.float64).items()}
    targets = [boxes(2)[1:], np.zeros((0, 4), dtype=np.float32), boxes(3)[2:]]
    return Trial(given, SCORES[rows], [boxes(n) for n in REGIONS[rows]], targets[rows])


def answer(given: dict[str, Tensor]) -> int:
    with torch.no_grad():
        return int(model()(**given).question_answering_score.argmax())


def left(given: dict[str, Tensor], row: int, words: list[int], regions: list[int]):  # type: ignore[no-untyped-def]
    """Return one example without masks that has only some words, and regions or an empty mask."""
    part = {name: given[name][row : row + 1, words] for name in ("input_ids", "token_type_ids")}
    shown = regions or [0]
    part |= {name: given[name][row : row + 1, shown] for name in ("visual_feats", "visual_pos")}
    return part if regions else part | {"visual_attention_mask": torch.zeros(1, 1)}


def expected_curve(modality: str, direction: str) -> list[float]:
    """Perturb by plain lists, one question at a time."""
    given = trial().inputs
    means = []
    for share in SHARES:
        total = 0.0
        for row in range(tiny.BATCH):
            words, regions = list(range(WORDS[row])), list(range(REGIONS[row]))
            pool = words[1:-1] if modality == "words" else regions
            scores = getattr(FIXED, modality)[row]
            ranked = sorted(pool, key=lambda i: -scores[i].item())
            count = int((1 - share) * len(pool) + 1e-6)
            kept = ranked[len(pool) - count :] if direction == "positive" else ranked[:count]
            if modality == "words":
                words = [0, *sorted(kept), WORDS[row] - 1]
            else:
                regions = sorted(kept)
            total += SCORES[row, answer(left(given, row, words, regions))].item()
        means.append(total / tiny.BATCH)
    return means


def test_curves_are_those_of_really_removing_one_by_one() -> None:
    result = measure(model(), [trial()], {"fixed": lambda *_: FIXED}, seeds=[1])
    curves = {(c.method, c.modality, c.direction): c for c in result.curves}
    assert len(curves) == len(result.curves) == 2 * 2 * 2
    for modality in ("words", "regions"):
        for direction in ("positive", "negative"):
            curve = curves["fixed", modality, direction]
            expected = expected_curve(modality, direction)
            assert curve.accuracies.shape == (1, len(SHARES))
            assert curve.accuracies[0] == pytest.approx(expected, abs=1e-6)
            assert curve.areas == [pytest.approx(area_under(SHARES, expected), abs=1e-4)]


def test_batches_of_any_size_give_the_same_result() -> None:
    """Also the random ranking: its seed is the question's number, not its place in a batch."""
    singles = (trial(slice(i, i + 1)) for i in range(3))
    together = measure(model(), [trial()], LIGHT, seeds=[3, 8])
    one_by_one = measure(model(), singles, LIGHT, seeds=[3, 8])
    assert together.questions == one_by_one.questions == 3
    for first, second in zip(together.curves, one_by_one.curves, strict=True):
        assert (first.method, first.modality, first.direction) == (
            second.method,
            second.modality,
            second.direction,
        )
        assert first.accuracies == pytest.approx(second.accuracies, abs=1e-9)
    assert together.pointing == pytest.approx(one_by_one.pointing)


def test_nothing_and_everything_removed_are_the_same_for_all_methods() -> None:
    for modality in ("words", "regions"):
        result = measure(model(), [trial()], LIGHT, seeds=[5])
        curves = [c for c in result.curves if c.modality == modality]
        assert len({c.method for c in curves}) == 4
        for end in (0, -1):
            assert len({float(c.accuracies[0, end]) for c in curves}) == 1


def test_another_seed_gives_another_random_ranking_and_the_same_methods() -> None:
    def curves(seed: int) -> Iterator[tuple[str, tuple[float, ...]]]:
        result = measure(model(), [trial()], {"fixed": lambda *_: FIXED}, seeds=[seed])
        return ((c.method, tuple(c.accuracies[0].tolist())) for c in result.curves)

    first, second = list(curves(1)), list(curves(2))
    assert [c for c in first if c[0] == "fixed"] == [c for c in second if c[0] == "fixed"]
    assert first != second
    assert first == list(curves(1))
    both = measure(model(), [trial()], {"fixed": lambda *_: FIXED}, seeds=[1, 2])
    for curve, one, two in zip(both.curves, first, second, strict=True):
        assert curve.accuracies.tolist() == [list(one[1]), list(two[1])]


def test_the_top_region_points_with_its_center() -> None:
    """Centers (0, 5), (10, 5), (20, 5); the borders of a target belong to it."""
    target = np.array([[10, 0, 12, 5], [100, 0, 200, 9]], dtype=np.float32)
    for relevance, expected in (
        ([0.1, 0.3, 0.2], 1.0),
        ([0.4, 0.3, 0.2], 0.0),
        ([0.3, 0.3, 0.2], 0.5),
        ([0.3, 0.3, 0.3], 1 / 3),
        ([-2.0, -1.0, -3.0], 1.0),
    ):
        scores = np.array(relevance, dtype=np.float32)
        assert points_at(scores, boxes(3), target) == pytest.approx(expected)
    above = target - np.array([0, 0.25, 0, 0.25], dtype=np.float32)
    assert points_at(np.array([0, 1, 0], dtype=np.float32), boxes(3), above) == 0


def test_padding_is_never_pointed_at_and_chance_is_exact() -> None:
    """Bug: if all real regions have negative scores, padding with 0 was above them all."""
    regions = torch.where(tiny.mask(tiny.REGIONS, REGIONS).bool(), -1 - FIXED.regions, 0)
    regions[0, 1] = regions[2, 0] = -0.5
    method = {"against": lambda *_: Relevance(FIXED.words, regions)}
    result = measure(model(), [trial()], method, seeds=[1])
    # The second example has no target; the first has its target at region 1, the third at 2.
    assert result.pointed == 2
    assert result.pointing == {
        "against": pytest.approx(0.5),
        "random": pytest.approx((1 / 5 + 1 / 3) / 2),
    }


def test_without_any_target_there_is_no_pointing_game() -> None:
    result = measure(model(), [trial(slice(1, 2))], {}, seeds=[1])
    assert (result.pointed, result.pointing) == (0, {})
    assert len(result.curves) == 4


def test_what_does_not_fit_is_refused() -> None:
    good = trial()
    with pytest.raises(ValueError, match="at least 1 trial"):
        measure(model(), [], {}, seeds=[1])
    with pytest.raises(ValueError, match=r"'random'.*rename"):
        measure(model(), [good], {"random": LIGHT["attention"]}, seeds=[1])
    with pytest.raises(ValueError, match=r"\[5, 5, 5\] boxes and 3 targets for \[5, 2, 3\]"):
        measure(model(), [Trial(good.inputs, SCORES, [boxes(5)] * 3, good.targets)], {}, seeds=[1])
    fewer = Trial(good.inputs, SCORES[:, 1:], good.boxes, good.targets)
    with pytest.raises(ValueError, match=r"\[3, 12\], expected \[3, 13\]"):
        measure(model(), [fewer], {}, seeds=[1])
