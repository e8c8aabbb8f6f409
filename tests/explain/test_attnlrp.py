"""AttnLRP: conservation, its rules by hand, and models without rules."""

import math

import pytest
import torch
from model import tiny
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lxmert.explain.attnlrp import RelevanceRules, attnlrp
from lxmert.model.attention import attend_eagerly

ANSWERS = torch.tensor([4, 0, 12])


def network(**changes: object):  # type: ignore[no-untyped-def]
    return tiny.build("LxmertForQuestionAnswering", **changes).double()


class Softmaxes(TorchFunctionMode):
    """Keeps the input and the output of every softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        value = func(*args, **kwargs or {})
        if func is Tensor.softmax:
            self.pairs.append((args[0], value))
        return value


def product(tensors: list[Tensor], gradients: list[Tensor]) -> float:
    pairs = zip(tensors, gradients, strict=True)
    return sum((tensor * gradient).sum().item() for tensor, gradient in pairs)


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_relevance_is_conserved(act: str) -> None:
    """Inputs, biases and what softmax layers take add up to the score, within 1e-4."""
    model, given = network(hidden_act=act), tiny.inputs(dtype=torch.float64)
    model.requires_grad_(requires_grad=True)
    words = model.get_input_embeddings()(given.pop("input_ids")).detach()
    leaves = {
        "inputs_embeds": words.requires_grad_(),
        **{name: given.pop(name).requires_grad_() for name in ("visual_feats", "visual_pos")},
    }
    with Softmaxes() as kept, RelevanceRules():
        output = model(**leaves, **given, output_attentions=True)
    score = output.question_answering_score.gather(1, ANSWERS[:, None]).sum()
    embeddings = model.lxmert.embeddings
    tables = [embeddings.position_embeddings.weight, embeddings.token_type_embeddings.weight]
    biases = [value for name, value in model.named_parameters() if name.endswith("bias")]
    sources = [*leaves.values(), *tables, *biases]
    softmax = [tensor for pair in kept.pairs for tensor in pair]
    found = torch.autograd.grad(
        score, [*sources, *softmax], allow_unused=True, materialize_grads=True
    )
    total = product(sources, list(found[: len(sources)]))
    for place, (scores, probabilities) in enumerate(kept.pairs):
        of_scores, of_probabilities = found[len(sources) + 2 * place :][:2]
        lost = product([probabilities], [of_probabilities]) - product([scores], [of_scores])
        total += lost
    assert kept.pairs
    assert total == pytest.approx(float(score.detach()), rel=1e-4)
    plain = model(**leaves, **given)
    assert output.question_answering_score.allclose(plain.question_answering_score, atol=1e-9)


def test_the_scores_are_the_products_with_the_changed_gradient() -> None:
    """Words get their share of all three embeddings, regions that of features and boxes."""
    model, given = network(), tiny.inputs(dtype=torch.float64)
    found = attnlrp(model, given, ANSWERS)
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        states.append(args[0].detach().requires_grad_())
        return module.forward(states[0])

    hook = model.lxmert.embeddings.LayerNorm.register_forward_hook(keep)
    with RelevanceRules():
        output = model(**given, output_attentions=True)
    hook.remove()
    score = output.question_answering_score.gather(1, ANSWERS[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, states)
    expected = (gradient * states[0]).sum(-1).detach().float()
    expected[:, 0] = 0
    expected = expected * given["attention_mask"]
    torch.testing.assert_close(found.words, expected, rtol=1e-4, atol=1e-6)
    assert found.words.min() < 0 < found.words.max()


def test_attention_distributes_relevance_by_the_published_rules() -> None:
    """Uniform rule of both products and Taylor rule of softmax, written out (eq. 6 to 8)."""
    generator = torch.Generator().manual_seed(3)
    query, key, value, relevance = torch.randn(4, 1, 1, 3, 2, generator=generator).double()
    leaves = [each.requires_grad_() for each in (query, key, value)]
    with RelevanceRules():
        read, _ = attend_eagerly(*leaves, None, dropout=0)
    # A gradient of relevance / value makes the product with the value the relevance.
    gradients = torch.autograd.grad(read, leaves, relevance.transpose(1, 2) / read.detach())
    with torch.no_grad():
        scale = 1 / math.sqrt(2)
        scores = query[0, 0] @ key[0, 0].T * scale
        weights = scores.softmax(-1)
        share = relevance[0, 0] / (weights @ value[0, 0]) / 2
        of_value = value[0, 0] * (weights.T @ share)
        of_weights = weights * (share @ value[0, 0].T)
        of_scores = scores * (of_weights - weights * of_weights.sum(-1, keepdim=True))
        each = of_scores / scores / 2 * scale
        of_query = query[0, 0] * (each @ key[0, 0])
        of_key = key[0, 0] * (each.T @ query[0, 0])
    for leaf, gradient, expected in zip(
        leaves, gradients, (of_query, of_key, of_value), strict=True
    ):
        torch.testing.assert_close((leaf * gradient)[0, 0], expected)
    assert of_value.sum() == pytest.approx(relevance.sum().item() / 2)


def test_an_activation_of_zero_gives_no_nan() -> None:
    given = torch.tensor([0.0, -1.0, 2.0], requires_grad=True)
    with RelevanceRules():
        value = nn.functional.gelu(given)
    (gradient,) = torch.autograd.grad(value.sum(), given)
    assert (gradient * given).tolist() == pytest.approx(nn.functional.gelu(given).tolist())
    assert gradient.isfinite().all()


def test_activations_without_a_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="no rule for the activation 'gelu_new', expected one of"):
        attnlrp(network(hidden_act="gelu_new"), tiny.inputs(dtype=torch.float64), ANSWERS)
