"""The contract of all methods, and what each of the plain ones computes."""

from dataclasses import replace

import pytest
import torch
from model import tiny
from torch import Tensor

from lxmert.explain import integrated_gradients, methods
from lxmert.explain.maps import AttentionMaps, attention_maps, maps_and_gradients
from lxmert.explain.methods import (
    METHODS,
    choose_methods,
    explain_answers,
    multiply,
    weigh_heads,
)
from lxmert.explain.relevance import propagate

ANSWERS = torch.tensor([4, 0, 12])
WORDS, REGIONS = [4, 7, 5], [5, 2, 3]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract holds for any number of steps."""
    monkeypatch.setattr(integrated_gradients, "STEPS", 8)


every_method = pytest.mark.parametrize("name", METHODS)


def model(**changes: object):  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering", **changes).double()


def inputs(**changes: object) -> dict[str, Tensor]:
    return tiny.inputs(dtype=torch.float64, **changes)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def row(given: dict[str, Tensor], index: int, *, cut: bool) -> dict[str, Tensor]:
    """Return one example, perhaps without its padding."""
    alone = {name: value[index : index + 1] for name, value in given.items()}
    if not cut:
        return alone
    lengths = {True: REGIONS[index], False: WORDS[index]}
    return {n: value[:, : lengths[n.startswith("visual")]] for n, value in alone.items()}


def test_the_default_comes_first_and_all_methods_are_there() -> None:
    names = ["propagation", "attention", "rollout", "gradcam", "attnlrp", "value_zeroing"]
    names += ["integrated_gradients", "occlusion", "shapley"]
    assert list(METHODS) == names


@every_method
def test_scores_are_finite_and_exactly_zero_for_padding_and_the_first_word(name: str) -> None:
    found = METHODS[name](model(), inputs(), ANSWERS)
    assert found.words.shape == (3, tiny.TEXT_LEN)
    assert found.regions.shape == (3, tiny.REGIONS)
    for scores, lengths in ((found.words, WORDS), (found.regions, REGIONS)):
        assert scores.dtype == torch.float32
        assert not scores.requires_grad
        assert scores.isfinite().all()
        real = tiny.mask(scores.shape[1], lengths).bool()
        assert bool((scores[~real] == 0).all())
        assert bool((scores[real] != 0).any())
    assert bool((found.words[:, 0] == 0).all())


@pytest.mark.long
@every_method
def test_batch_of_one_is_batch_of_many_and_padding_changes_nothing(name: str) -> None:
    network, given = model(), inputs()
    together = METHODS[name](network, given, ANSWERS)
    for index in range(tiny.BATCH):
        for cut in (False, True):
            alone = METHODS[name](network, row(given, index, cut=cut), ANSWERS[index : index + 1])
            close(alone.words[0], together.words[index, : alone.words.shape[1]])
            close(alone.regions[0], together.regions[index, : alone.regions.shape[1]])


@every_method
def test_what_lies_in_padding_changes_nothing(name: str) -> None:
    network, given = model(), inputs()
    expected = METHODS[name](network, given, ANSWERS)
    words, regions = (~given[m].bool() for m in ("attention_mask", "visual_attention_mask"))
    given["input_ids"] = given["input_ids"].masked_fill(words, 17)
    for field in ("visual_feats", "visual_pos"):
        given[field] = given[field].masked_fill(regions[..., None], 3.25)
    actual = METHODS[name](network, given, ANSWERS)
    close(actual.words, expected.words)
    close(actual.regions, expected.regions)


@every_method
def test_permuting_regions_permutes_their_relevance_and_keeps_that_of_words(name: str) -> None:
    network, given = model(), inputs()
    expected = METHODS[name](network, given, ANSWERS)
    order = torch.tensor([3, 0, 4, 2, 1])
    for field in ("visual_feats", "visual_pos", "visual_attention_mask"):
        given[field] = given[field][:, order]
    actual = METHODS[name](network, given, ANSWERS)
    close(actual.words, expected.words)
    close(actual.regions, expected.regions[:, order])


@every_method
def test_smallest_inputs_and_no_image_at_all_never_give_nan(name: str) -> None:
    """One word and one region; no word; no region that may be read."""
    network = model()
    for words, regions, seen in ((3, 1, 1), (2, 1, 1), (3, 2, 0), (2, 1, 0)):
        given = {
            k: v[:1, : regions if k.startswith("visual") else words] for k, v in inputs().items()
        }
        given["attention_mask"] = torch.ones(1, words, dtype=torch.long)
        given["visual_attention_mask"] = tiny.mask(regions, [seen])
        found = METHODS[name](network, given, ANSWERS[:1])
        assert found.words.isfinite().all()
        assert found.regions.isfinite().all()
        assert found.regions.count_nonzero() <= seen


@pytest.mark.long
@every_method
def test_inputs_without_masks_are_inputs_whose_masks_are_full(name: str) -> None:
    network, given = model(), inputs(masked=False)
    actual = METHODS[name](network, given, ANSWERS)
    full = {
        "attention_mask": torch.ones(3, tiny.TEXT_LEN, dtype=torch.long),
        "visual_attention_mask": torch.ones(3, tiny.REGIONS, dtype=torch.long),
    }
    expected = METHODS[name](network, given | full, ANSWERS)
    close(actual.words, expected.words)
    close(actual.regions, expected.regions)


@every_method
def test_other_answers_get_other_explanations_unless_only_attention_is_shown(name: str) -> None:
    network, given = model(), inputs()
    found = [METHODS[name](network, given, ids).regions for ids in (ANSWERS, (ANSWERS + 5) % 13)]
    assert torch.equal(*found) == (name in ("attention", "rollout", "value_zeroing"))


@every_method
def test_a_model_of_half_precision_without_gradients_can_be_explained(name: str) -> None:
    """Callers answer in inference mode, and load models in bfloat16."""
    network, given = model().bfloat16(), tiny.inputs()
    with torch.inference_mode():
        found = METHODS[name](network, given, ANSWERS)
    assert found.regions.dtype == torch.float32
    assert found.regions.isfinite().all()
    assert all(parameter.grad is None for parameter in network.parameters())


@every_method
def test_an_answer_that_is_none_of_the_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="answer id -8 is not in the model's vocabulary"):
        METHODS[name](model(), inputs(), torch.tensor([4, -8, 12]))


@every_method
def test_several_answers_to_one_question_are_explained_as_each_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "_ROWS", 2)
    network, given = model(), row(inputs(), 1, cut=False)
    found = explain_answers(network, given, ANSWERS, [name])[name]
    assert found.regions.shape == (3, tiny.REGIONS)
    for index in range(3):
        alone = METHODS[name](network, given, ANSWERS[index : index + 1])
        close(found.words[index], alone.words[0])
        close(found.regions[index], alone.regions[0])


def test_methods_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_methods(["all"]) == choose_methods(["occlusion", "all"]) == tuple(METHODS)
    assert choose_methods(["occlusion", "attention", "occlusion"]) == ("occlusion", "attention")
    with pytest.raises(ValueError, match="no method 'propogation': did you mean 'propagation"):
        choose_methods(["propogation"])
    with pytest.raises(ValueError, match="got no method, expected some of propagation, attention"):
        choose_methods([])
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    assert "integrated_gradients" not in choose_methods(["all"])
    with pytest.raises(ValueError, match=r"needs captum.*choose one of propagation, attention"):
        choose_methods(["integrated_gradients"])


def test_attention_is_the_mean_row_of_the_first_word_in_the_last_layer() -> None:
    network, given = model(), inputs()
    found = METHODS["attention"](network, given, ANSWERS)
    output = network(**given, output_attentions=True)
    close(found.regions, output.cross_encoder_attentions[-1].mean(1)[:, 0].float())
    expected = output.cross_language_attentions[-1].mean(1)[:, 0].float()
    close(found.words[:, 1:], expected[:, 1:])


def test_rollout_multiplies_half_maps_and_half_identities() -> None:
    """Two layers of two positions by hand: [[.75, .25], [0, 1]] after [[.5, .5], [.25, .75]]."""
    first = torch.tensor([[[0.0, 1], [0.5, 0.5]]])
    second = torch.tensor([[[0.5, 0.5], [0, 1]]])
    close(multiply([first, second]), torch.tensor([[[0.4375, 0.5625], [0.25, 0.75]]]))
    padded = torch.tensor([[[1.0, 0], [0, 0]]])
    close(multiply([padded]), torch.eye(2)[None])


def test_rollout_reads_regions_before_the_last_self_attention_of_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regions were counted with `R_tt` after that self-attention: .5625 and .1875, not .5 and 0.

    The published code for LXMERT takes it from before. By hand: half maps and half identities are
    [[.5, .5], [0, 1]] of the language layer and [[1, 0], [.5, .5]] of the cross layer.
    """
    maps = AttentionMaps(
        language=(torch.tensor([[[[0.0, 1], [0, 1]]]]),),
        relationship=(),
        text_over_regions=(torch.tensor([[[[1.0, 0], [0.25, 0.75]]]]),),
        regions_over_text=(torch.full((1, 1, 2, 2), 0.5),),
        text_over_text=(torch.tensor([[[[1.0, 0], [1, 0]]]]),),
        regions_over_regions=(torch.full((1, 1, 2, 2), 0.5),),
    )
    monkeypatch.setattr(methods, "attention_maps", lambda model, inputs: maps)
    given = {name: value[:1, :2] for name, value in inputs(masked=False).items()}
    found = METHODS["rollout"](model(), given, ANSWERS[:1])
    close(found.regions, torch.tensor([[0.5, 0]]))
    close(found.words, torch.tensor([[0.0, 0.5]]))  # after it: [[.5, .5], [.25, .75]]


def test_rollout_joins_both_streams_by_the_last_map_across() -> None:
    """Against the formula without padding, each stream's layers multiplied in order."""
    network, given = model(), inputs(masked=False)
    maps = attention_maps(network, given)

    def flow(layers, index: int):  # type: ignore[no-untyped-def]
        mixed = [0.5 * (m[index].mean(0) + torch.eye(m.shape[-1])) for m in layers]
        result = mixed[0]
        for each in mixed[1:]:
            result = each @ result
        return result

    found = METHODS["rollout"](network, given, ANSWERS)
    for index in range(3):
        before = flow([*maps.language, *maps.text_over_text[:-1]], index)
        text = flow([*maps.language, *maps.text_over_text], index)
        images = flow([*maps.relationship, *maps.regions_over_regions[:-1]], index)
        across = before.T @ maps.text_over_regions[-1][index].mean(0) @ images
        close(found.words[index, 1:], text[0, 1:].float())
        close(found.regions[index], across[0].float())


def test_gradcam_weighs_heads_by_their_mean_gradient_over_real_pairs() -> None:
    """By hand: weights of the heads are (1 + 3) / 2 = 2 and -1; key 3 and query 2 are padding."""
    maps = torch.tensor([[[[0.5, 0.5, 0], [9, 9, 9]], [[0.25, 2, 0], [9, 9, 9]]]])
    gradient = torch.tensor([[[[1.0, 3, 99], [99, 99, 99]], [[-3, 1, 99], [99, 99, 99]]]])
    queries, keys = torch.tensor([[True, False]]), torch.tensor([[True, True, False]])
    found = weigh_heads(maps, gradient, queries, keys)
    # head 1: 2 * [.5, .5], head 2: -1 * [.25, 2]; the mean is [.375, -.5 -> 0]
    close(found[:, 0], torch.tensor([[0.375, 0, 0]]))


def test_propagation_is_the_propagation_of_the_model_s_maps() -> None:
    network, given = model(), inputs()
    found = METHODS["propagation"](network, given, ANSWERS)
    maps, gradients = maps_and_gradients(network, given, ANSWERS)
    expected = propagate(maps, gradients)
    assert torch.equal(found.words, expected.words), "padding was relevant before it was cleared"
    assert torch.equal(found.regions, expected.regions)
    # Half of the pairs of map and gradient swapped away: without language layers, other words.
    without = replace(gradients, language=tuple(g * 0 for g in gradients.language))
    assert not torch.equal(propagate(maps, without).words, expected.words)


@pytest.mark.parametrize("changes", [{"r_layers": 0}, {"l_layers": 0}, {"x_layers": 1}])
@every_method
def test_models_without_layers_of_a_kind_can_be_explained(name: str, changes: dict) -> None:  # type: ignore[type-arg]
    found = METHODS[name](model(**changes), inputs(), ANSWERS)
    assert found.words.isfinite().all()
    assert found.regions.isfinite().all()


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in inputs(masked=False).items() if key != name}


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (without("input_ids"), r"inputs lack \['input_ids'\]"),
        (inputs(masked=False) | {"visual_feats": None}, r"inputs lack \['visual_feats'\]"),
        (inputs(masked=False) | {"visual_feats": [[0.5]]}, "visual_feats is a list"),
        ({k: v[:0] for k, v in inputs(masked=False).items()}, "expected at least one question"),
        (inputs(masked=False) | {"input_ids": torch.zeros(3, 0).long()}, "at least one word piece"),
        (inputs(masked=False) | {"input_ids": torch.zeros(3).long()}, "expected 2 axes"),
        (inputs(masked=False) | {"input_ids": torch.full((3, 4), 9999)}, "expected integers from"),
        (inputs(masked=False) | {"input_ids": torch.full((3, 4), -8)}, "expected integers from"),
        ({k: v[: 1 + 2 * ("v" not in k)] for k, v in inputs(masked=False).items()}, "and 1 images"),
        (
            inputs(masked=False) | {"visual_feats": torch.full((3, tiny.REGIONS, 9), torch.nan)},
            "visual_feats has NaN",
        ),
    ],
)
@every_method
def test_a_batch_that_cannot_be_explained_is_refused_in_one_sentence(
    name: str, given: dict[str, Tensor], message: str
) -> None:
    """An empty batch divided by zero, NaN became relevance, ids out of range an IndexError."""
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        METHODS[name](model(), given, ANSWERS)
    assert "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([4, 0, 12], "answer_ids is a list"),
        (4, "answer_ids is a int"),
        (torch.tensor([4.0, 0, 12]), "expected .3. integers"),
        (torch.tensor([True, False, True]), "type torch.bool"),
        (torch.tensor([4]), "expected .3. integers"),
    ],
)
@every_method
def test_answers_that_are_no_ids_are_refused_in_one_sentence(
    name: str, answers: Tensor, message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        METHODS[name](model(), inputs(), answers)


@pytest.mark.parametrize("names", [None, 5, "attention", [5], [None, "attention"]])
def test_methods_that_are_no_list_of_names_are_refused(names: object) -> None:
    with pytest.raises(TypeError, match="expected a list of names such as"):
        choose_methods(names)  # type: ignore[arg-type]


def test_one_question_at_a_time_is_explained_for_several_answers() -> None:
    """Bug: two questions raised an error of torch about tensor sizes."""
    with pytest.raises(ValueError, match="there are 3 questions and 1 answers"):
        explain_answers(model(), inputs(), ANSWERS[:1], ["attention"])
    with pytest.raises(ValueError, match="1 questions and 0 answers"):
        explain_answers(model(), row(inputs(), 0, cut=True), ANSWERS[:0], ["attention"])
    with pytest.raises(ValueError, match="no method 'lime'"):
        explain_answers(model(), row(inputs(), 0, cut=True), ANSWERS[:1], ["lime"])
