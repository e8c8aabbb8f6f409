"""Protocols of faithfulness tests, against hand-made cases and one forward pass at a time."""

import copy
import math
from functools import cache

import numpy as np
import pytest
import torch
from model import tiny
from scipy import stats
from torch import Tensor

from lxmert.explain import aopc
from lxmert.explain.aopc import PERCENTAGES, measure_confidence_curves, summarize_confidence
from lxmert.explain.methods import METHODS
from lxmert.explain.protocols import check_protocol, measure_names, measure_questions
from lxmert.explain.relevance import Relevance
from lxmert.explain.sanity import SIMILARITIES, cosine, measure_sanity, randomize, spearman, stages
from lxmert.explain.sign import chance_of_violation, violation

WORDS, REGIONS = [4, 7, 5], [5, 2, 3]
ANSWERS = torch.tensor([4, 0, 12])
GENERATOR = torch.Generator().manual_seed(4)
FIXED = Relevance(
    torch.rand(tiny.BATCH, tiny.TEXT_LEN, generator=GENERATOR),
    torch.rand(tiny.BATCH, tiny.REGIONS, generator=GENERATOR),
)


@cache
def model():  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering").double()


def inputs() -> dict[str, Tensor]:
    return tiny.inputs(dtype=torch.float64)


def draws(seed: int = 1) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, row]) for row in range(tiny.BATCH)]


def test_the_three_numbers_of_a_hand_made_curve() -> None:
    """Confidence 0.9 that falls by 0.05 a step, and rises from 0.1 by 0.04 a step."""
    steps = np.arange(1, len(PERCENTAGES) + 1)
    assert PERCENTAGES[2] == 15
    found = summarize_confidence(0.9, 0.9 - 0.05 * steps, 0.1 + 0.04 * steps, 0.1)
    assert found == pytest.approx([0.05 * 6.5, 0.15, 0.12])


def confidence(row: int, words: list[int], regions: list[int]) -> float:
    """Answer one question with some of its words and regions only."""
    given = inputs()
    part = {name: given[name][row : row + 1, words] for name in ("input_ids", "token_type_ids")}
    shown = regions or [0]
    part |= {name: given[name][row : row + 1, shown] for name in ("visual_feats", "visual_pos")}
    if not regions:
        part["visual_attention_mask"] = torch.zeros(1, 1)
    with torch.no_grad():
        scores = model()(**part).question_answering_score
    return float(scores.softmax(-1)[0, ANSWERS[row]])


def test_aopc_is_that_of_removing_by_hand() -> None:
    found = measure_confidence_curves(model(), inputs(), ANSWERS, {"fixed": FIXED}, draws())
    for row in range(tiny.BATCH):
        last = WORDS[row] - 1
        words = sorted(range(1, last), key=lambda i: -FIXED.words[row, i].item())
        regions = sorted(range(REGIONS[row]), key=lambda i: -FIXED.regions[row, i].item())
        deleted, inserted = [], []
        for percentage in PERCENTAGES:
            top = [math.ceil(percentage * len(side) / 100 - 1e-9) for side in (words, regions)]
            gone, left = words[: top[0]], words[top[0] :]
            deleted.append(confidence(row, [0, *sorted(left), last], sorted(regions[top[1] :])))
            inserted.append(confidence(row, [0, *sorted(gone), last], sorted(regions[: top[1]])))
        complete = confidence(row, list(range(last + 1)), list(range(REGIONS[row])))
        empty = confidence(row, [0, last], [])
        expected = [
            complete - np.mean(deleted),
            complete - deleted[2],
            inserted[2] - empty,
        ]
        assert found["fixed"][row] == pytest.approx(expected, abs=1e-9)
    assert np.abs(found["fixed"]).min() > 1e-6


def test_a_percentage_is_rounded_up() -> None:
    counts = [aopc.number_of(percentage, 36) for percentage in PERCENTAGES]
    assert counts == [2, 4, 6, 8, 11, 15, 18, 22, 26, 29, 33, 36]
    assert aopc.number_of(5, 0) == 0


def test_violations_of_hand_made_scores() -> None:
    effects = np.array([0.2, -0.1, 0.0, 0.3])
    for scores, expected in (
        ([0.9, 0.1, 0.0, 0.2], 0.0),
        ([-0.9, 0.1, 0.0, 0.2], 1.0),
        ([0.1, 0.9, 0.0, 0.2], 1.0),
        ([0.1, -0.9, 0.0, 0.2], 0.0),
        ([0.1, 0.1, 0.9, 0.2], 0.0),
        ([0.9, 0.9, 0.0, 0.2], 0.5),
    ):
        assert violation(np.array(scores), effects) == expected
    assert math.isnan(violation(np.zeros(4), effects))
    assert chance_of_violation(effects) == 3 / 8


def test_occlusion_never_violates_its_own_sign() -> None:
    against = {
        "against": lambda *given: Relevance(*(-side for side in METHODS["occlusion"](*given)))
    }
    methods = {"occlusion": METHODS["occlusion"], **against}
    found = measure_questions("sign", model(), inputs(), methods, seeds=[1], start=0)
    assert (found["occlusion"] == 0).all()
    assert (found["against"] == 1).all()
    assert (found["random"] == 0.5).all()


def test_similarities_are_those_of_scipy() -> None:
    generator = np.random.default_rng(3)
    for _ in range(5):
        first, second = generator.integers(0, 5, (2, 9)) / 7
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert cosine(np.array([3.0, 4]), np.array([4.0, 3])) == pytest.approx(24 / 25)
    for nothing in (spearman(np.ones(3) / 3, np.arange(3)), spearman(np.ones(1), np.ones(1))):
        assert math.isnan(nothing)
    assert math.isnan(cosine(np.zeros(3), np.arange(3)))


def test_layers_are_randomized_from_the_answer_head_to_the_embeddings() -> None:
    """After the last stage no weight is left, and each stage names its own ones."""
    network = copy.deepcopy(model())
    before = {name: value.clone() for name, value in network.named_parameters()}
    changed: set[str] = set()
    generator = torch.Generator().manual_seed(1)
    names = list(stages(network))
    assert names[:2] == ["answer head", f"cross layer {network.config.x_layers}"]
    assert names[-2:] == ["lower layers", "embeddings"]
    for modules in stages(network).values():
        for module in modules:
            randomize(module, 0.02, generator)
        now = {n for n, value in network.named_parameters() if not value.equal(before[n])}
        assert now > changed
        changed = now
    assert changed == set(before)
    assert network.answer_head.logit_fc[0].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert network.answer_head.logit_fc[0].bias.abs().max() == 0


def test_attention_passes_neither_check_and_the_model_stays() -> None:
    """Raw attention does not depend on the answer head, nor on the answer."""
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    methods = {name: METHODS[name] for name in ("attention", "occlusion")}
    found = measure_sanity(network, inputs(), ANSWERS, methods, draws(), seed=1)
    names = measure_names("sanity", network)
    assert (
        len(names) == found["attention"].shape[1] == len(SIMILARITIES) * (len(stages(network)) + 1)
    )
    by_name = dict(zip(names, found["attention"].T, strict=True))
    for check in ("answer head", "another answer"):
        for similar in SIMILARITIES:
            # Two words or regions at least, so that they can be ranked.
            assert by_name[f"{check}: {similar}"] == pytest.approx([1, 1, 1], nan_ok=True)
    assert np.nanmin(by_name["embeddings: regions, Spearman"]) < 0.99
    other = dict(zip(names, found["occlusion"].T, strict=True))
    assert np.nanmin(other["another answer: regions, Spearman"]) < 0.99
    for name, value in network.state_dict().items():
        assert value.equal(before[name]), name


def test_another_model_is_compared_by_its_explanation_of_the_same_answers() -> None:
    other = copy.deepcopy(model())
    randomize(other, 0.3, torch.Generator().manual_seed(5))
    method = METHODS["occlusion"]
    for against in (model(), other):
        found = measure_sanity(
            model(), inputs(), ANSWERS, {"occlusion": method}, draws(), seed=1, against=against
        )["occlusion"]
        names = measure_names("sanity", model(), against)
        assert names[-len(SIMILARITIES) :] == [f"another model: {name}" for name in SIMILARITIES]
        first, second = (method(each, inputs(), ANSWERS) for each in (model(), against))
        for row, number in enumerate(REGIONS):
            sides = [each.regions[row, :number].numpy() for each in (first, second)]
            expected = stats.spearmanr(*sides).statistic
            assert found[row, names.index("another model: regions, Spearman")] == pytest.approx(
                expected
            )
        assert (np.nanmin(found[:, -len(SIMILARITIES) :]) > 0.999) == (against is model())


@pytest.mark.long
def test_batches_of_any_size_give_the_same_numbers() -> None:
    methods = {"gradcam": METHODS["gradcam"]}
    for protocol in ("aopc", "sign", "sanity"):
        together = measure_questions(protocol, model(), inputs(), methods, seeds=[1, 2], start=0)
        for row in range(tiny.BATCH):
            one = {name: value[row : row + 1] for name, value in inputs().items()}
            alone = measure_questions(protocol, model(), one, methods, seeds=[1, 2], start=row)
            for name, numbers in alone.items():
                np.testing.assert_allclose(numbers[0], together[name][row], atol=1e-6)


def test_unknown_protocols_and_reserved_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no protocol 'chefr': did you mean 'chefer'"):
        check_protocol("chefr")
    with pytest.raises(ValueError, match="'random' is reserved"):
        measure_questions(
            "aopc", model(), inputs(), {"random": METHODS["attention"]}, seeds=[1], start=0
        )
