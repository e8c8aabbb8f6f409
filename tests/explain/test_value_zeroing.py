"""Value zeroing, against layers whose value vectors are really set to zero."""

import torch
from model import tiny
from scipy.spatial.distance import cosine
from torch import Tensor, nn

from lxmert.explain.inputs import real_regions, real_words
from lxmert.explain.value_zeroing import value_zeroing, zero_values
from lxmert.model.attention import additive_mask

ANSWERS = torch.tensor([4, 0, 12])


def network(**changes: object):  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering", **changes).double()


def without(value: nn.Module, position: int):  # type: ignore[no-untyped-def]
    """Set the value vector of a position to zero from now on."""

    def zero(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        changed = result.clone()
        changed[:, position] = 0
        return changed

    return value.register_forward_hook(zero)


@torch.no_grad()
def test_distances_are_those_of_the_layer_with_a_zero_value() -> None:
    layer = network().lxmert.encoder.layer[0]
    width = layer.attention.self.value.in_features
    states = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(1)).double()
    mask = additive_mask(tiny.mask(5, [5, 3]).bool()[:, None, None], torch.float64)
    result, distances = zero_values(
        layer.attention.self,
        layer.attention.output,
        lambda attended: layer.output(layer.intermediate(attended), attended),
        states,
        states,
        mask,
    )
    expected = layer(states, mask)[0]
    torch.testing.assert_close(result, expected)
    for position in range(5):
        hook = without(layer.attention.self.value, position)
        changed = layer(states, mask)[0]
        hook.remove()
        for row in range(2):
            for query in range(5):
                distance = cosine(changed[row, query].numpy(), expected[row, query].numpy())
                assert abs(distances[row, query, position].item() - distance) < 1e-9
    assert distances[1, :, 3:].abs().max() == 0
    assert distances[0].min() > 0


def test_what_the_first_word_contains_is_distributed_over_words_and_regions() -> None:
    """Scores sum to 1 with that of `[CLS]`, which is not shown."""
    given = tiny.inputs(dtype=torch.float64)
    found = value_zeroing(network(), given, ANSWERS)
    total = found.words.sum(1) + found.regions.sum(1)
    assert (total < 1).all()
    assert (total > 0.2).all()
    assert found.words.min() >= 0
    assert (found.words[:, 1:][real_words(given)[:, 1:]] > 0).all()
    assert (found.regions[real_regions(given)] > 0).all()


@torch.no_grad()
def test_one_layer_of_each_kind_is_joined_by_hand() -> None:
    """Without layers of their own, both streams meet once, and `[CLS]` reads words that read.

    Half of each state is what it was before.
    """
    model, given = network(l_layers=0, r_layers=0, x_layers=1), tiny.inputs(dtype=torch.float64)
    given = {name: value[:1] for name, value in given.items() if "mask" not in name}
    layer = model.lxmert.encoder.x_layers[0]
    text = model.lxmert.embeddings(given["input_ids"], given["token_type_ids"])
    image = model.lxmert.encoder.visn_fc(given["visual_feats"], given["visual_pos"])

    def normal(rows: Tensor) -> Tensor:
        return rows / rows.sum(-1, keepdim=True)

    def distances(run, value: nn.Module, number: int) -> Tensor:  # type: ignore[no-untyped-def]
        columns, expected = [], run()
        for position in range(number):
            hook = without(value, position)
            changed = run()
            hook.remove()
            columns.append(1 - torch.cosine_similarity(changed, expected, dim=-1)[0])
        return normal(torch.stack(columns, dim=1))

    def cross() -> Tensor:
        return layer.visual_attention(text, image)[0]

    def after() -> Tensor:
        attended = layer.lang_self_att(cross())[0]
        return layer.lang_output(layer.lang_inter(attended), attended)

    read = distances(cross, layer.visual_attention.att.value, image.shape[1])
    joined = distances(after, layer.lang_self_att.self.value, text.shape[1])
    found = value_zeroing(model, given, ANSWERS[:1])
    kept = (torch.eye(len(joined)) + joined)[0] / 2
    torch.testing.assert_close(found.words[0, 1:], (kept[1:] / 2).float())
    torch.testing.assert_close(found.regions[0], (kept @ read / 2).float())
