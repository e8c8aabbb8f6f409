"""Names and gradients of attention maps; computing them has no side effects."""

import pytest
import torch
from model import tiny

from lxmert.explain.maps import attention_maps, maps_and_gradients
from lxmert.model.attention import LxmertAttention

ANSWERS = torch.tensor([4, 0, 12])
SHAPES = {
    "language": (2, tiny.TEXT_LEN, tiny.TEXT_LEN),
    "relationship": (1, tiny.REGIONS, tiny.REGIONS),
    "text_over_regions": (3, tiny.TEXT_LEN, tiny.REGIONS),
    "regions_over_text": (3, tiny.REGIONS, tiny.TEXT_LEN),
    "text_over_text": (3, tiny.TEXT_LEN, tiny.TEXT_LEN),
    "regions_over_regions": (3, tiny.REGIONS, tiny.REGIONS),
}


def model(**changes: object):  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering", **changes)


def test_every_map_of_every_encoder_has_its_name_and_shape() -> None:
    maps = attention_maps(model(), tiny.inputs())
    expected = {
        f"{kind}.{layer}": (tiny.BATCH, 4, queries, keys)
        for kind, (layers, queries, keys) in SHAPES.items()
        for layer in range(layers)
    }
    assert {name: tuple(each.shape) for name, each in maps.named().items()} == expected
    for each in maps.named().values():
        torch.testing.assert_close(each.sum(-1), torch.ones_like(each[..., 0]))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_maps_are_those_of_the_transformers_reference(attention: str) -> None:
    ours, theirs = tiny.pair("LxmertForQuestionAnswering")
    ours.set_attn_implementation(attention)
    given = tiny.inputs(dtype=torch.float64)
    expected = theirs(**given, output_attentions=True)
    maps, _ = maps_and_gradients(ours, given, ANSWERS)
    for actual, reference in (
        (maps.language, expected.language_attentions),
        (maps.relationship, expected.vision_attentions),
        (maps.text_over_regions, expected.cross_encoder_attentions),
    ):
        assert len(actual) == len(reference)
        for one, other in zip(actual, reference, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def attention_calls() -> list[str]:
    """Return the name of each map in the order in which the tiny model computes it."""
    names = ["language.0", "language.1", "relationship.0"]
    for layer in range(3):
        kinds = ("text_over_regions", "regions_over_text", "text_over_text", "regions_over_regions")
        names += [f"{kind}.{layer}" for kind in kinds]
    return names


def score_with(network, given, name, entry, change, monkeypatch):  # type: ignore[no-untyped-def]
    """Answer with one entry of one map moved, through the function that computes maps."""
    import lxmert.model.attention as module

    calls = iter(attention_calls())

    def moved(query, key, value, mask, *, dropout):  # type: ignore[no-untyped-def]
        read, probabilities = original(query, key, value, mask, dropout=dropout)
        if next(calls) == name:
            probabilities = probabilities.clone()
            probabilities[entry] += change
            read = (probabilities @ value).transpose(1, 2)
        return read, probabilities

    original = module.attend_eagerly
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(module, "attend_eagerly", moved)
        scores = network(**given, output_attentions=True).question_answering_score
    assert next(calls, None) is None
    return scores.gather(1, ANSWERS[:, None])[:, 0]


def test_gradients_are_what_moving_an_entry_of_a_map_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Central differences in float64 at three random entries of every map, one in [CLS]'s row."""
    network, given = model().double(), tiny.inputs(dtype=torch.float64)
    _, gradients = maps_and_gradients(network, given, ANSWERS)
    generator = torch.Generator().manual_seed(5)
    checked = 0
    for name, gradient in gradients.named().items():
        for first in (0, None, None):
            entry = tuple(int(torch.randint(n, (1,), generator=generator)) for n in gradient.shape)
            entry = entry if first is None else (*entry[:2], first, entry[3])
            step = 1e-6
            up = score_with(network, given, name, entry, step, monkeypatch)
            down = score_with(network, given, name, entry, -step, monkeypatch)
            difference = ((up - down) / (2 * step))[entry[0]]
            torch.testing.assert_close(difference, gradient[entry], rtol=1e-5, atol=1e-8)
            checked += bool(gradient[entry])
    assert checked > 15, "nearly all gradients are zero"


def test_the_answer_does_not_depend_on_what_regions_read_in_the_last_layer() -> None:
    _, gradients = maps_and_gradients(model(), tiny.inputs(), ANSWERS)
    unread = {"regions_over_text.2", "regions_over_regions.2"}
    for name, gradient in gradients.named().items():
        assert bool(gradient.count_nonzero()) == (name not in unread), name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_need_neither_gradient_mode_nor_trainable_parameters(mode) -> None:  # type: ignore[no-untyped-def]
    network, given = model(), tiny.inputs()
    _, expected = maps_and_gradients(network, given, ANSWERS)
    network.requires_grad_(requires_grad=False)
    with mode():
        fresh = {name: value.clone() for name, value in given.items()}
        _, actual = maps_and_gradients(network, fresh, ANSWERS.clone())
    for name, gradient in actual.named().items():
        torch.testing.assert_close(gradient, expected.named()[name])


def test_nothing_is_kept_on_the_model_or_its_inputs() -> None:
    network, given = model(), tiny.inputs()
    network.activation_checkpointing_enable()
    before = {name: dict(vars(module)) for name, module in network.named_modules()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 3.25)
    maps, gradients = maps_and_gradients(network, given, ANSWERS)
    for parameter in network.parameters():
        assert bool((parameter.grad == 3.25).all())
    for name, module in network.named_modules():
        assert vars(module).keys() == before[name].keys()
        if isinstance(module, LxmertAttention):
            assert not module._forward_hooks
            assert not module._backward_hooks
    assert not any(value.requires_grad for value in given.values())
    for each in (*maps.named().values(), *gradients.named().values()):
        assert not each.requires_grad


def test_what_cannot_be_explained_is_refused_with_what_would_work() -> None:
    network, given = model(), tiny.inputs()
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        maps_and_gradients(network.train(), given, ANSWERS)
    network.eval()
    with pytest.raises(ValueError, match=r"answer id 13 is not .* 0 to 12.*label2id"):
        maps_and_gradients(network, given, torch.tensor([4, 13, 0]))
    with pytest.raises(ValueError, match=r"shape \[2\].*expected \[3\] integers"):
        maps_and_gradients(network, given, torch.tensor([4, 0]))
    wrong = given | {"labels": ANSWERS}
    del wrong["visual_pos"]
    with pytest.raises(
        ValueError, match=r"lack \['visual_pos'\] and have the unknown keys \['labels'\]"
    ):
        attention_maps(network, wrong)
    given = tiny.inputs()
    given["attention_mask"] = torch.ones(3, 7, 7, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"attention_mask has shape \[3, 7, 7\], expected \[3, 7\]"
    ):
        attention_maps(network, given)
    with pytest.raises(ValueError, match="0 cross layers"):
        attention_maps(model(x_layers=0), tiny.inputs())
