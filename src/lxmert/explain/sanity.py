"""Sanity checks: does an explanation change if the model, or the explained answer, does?

The layers of a copy of the model are given random weights, from the answer head downwards. An
explanation that stays the same does not depend on what these layers have learned. The second check
explains another answer, drawn at random, to the same question. The third compares the explanations
of another model, such as one that was trained on shuffled answers: an explanation that stays the
same does not depend on what the answers have to do with questions and images.

Source: Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018), cascading randomization and
data randomization test; Sixt, Granz, Landgraf, When Explanations Lie (ICML 2020), section 4, for
the explanation of another answer.
"""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lxmert.explain.inputs import Inputs, real_regions, removable_words
from lxmert.explain.methods import Method
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.schema import FloatArray

OTHER_ANSWER = "another answer"
"""Name of the check that explains another answer."""

OTHER_MODEL = "another model"
"""Name of the check that explains the same answer of another model."""

SIMILARITIES = ("words, Spearman", "words, cosine", "regions, Spearman", "regions, cosine")


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Return the rank correlation of scores; ties get the mean of their ranks.

    Returns:
        A value in `[-1, 1]`; NaN for fewer than two scores, or if all scores of one are equal.
    """
    return _correlate(_ranks(first), _ranks(second))


def cosine(first: FloatArray, second: FloatArray) -> float:
    """Return the cosine of the angle between scores; NaN if all scores of one are 0."""
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else float("nan")


def stages(model: LxmertForQuestionAnswering) -> dict[str, list[nn.Module]]:
    """Return the modules that are randomized one after the other, from output to input."""
    encoder = model.lxmert.encoder
    layers = list(enumerate(encoder.x_layers, start=1))
    return {
        "answer head": [model.answer_head, model.lxmert.pooler],
        **{f"cross layer {number}": [layer] for number, layer in reversed(layers)},
        "lower layers": [encoder.layer, encoder.r_layers],
        "embeddings": [model.lxmert.embeddings, encoder.visn_fc],
    }


def check_names(
    model: LxmertForQuestionAnswering, against: LxmertForQuestionAnswering | None = None
) -> list[str]:
    """Return the names of the checks: the stages, another answer and, if given, another model."""
    return [*stages(model), OTHER_ANSWER, *([] if against is None else [OTHER_MODEL])]


def measure_sanity(
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    answer_ids: Tensor,
    methods: Mapping[str, Method],
    generators: Sequence[np.random.Generator],
    *,
    seed: int,
    against: LxmertForQuestionAnswering | None = None,
    checks: Collection[str] | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure how similar explanations are to those of other models and of other answers.

    Args:
        model: in evaluation mode; it is not changed.
        inputs: a batch of questions.
        answer_ids: `[batch]`, the explained answers, also of the other models.
        methods: by name.
        generators: one for each question, to draw the other answer.
        seed: of the random weights.
        against: another model with the same inputs and answers, in evaluation mode; None: none.
        checks: the ones of `check_names` to measure; None: all.

    Returns:
        `[batch, checks * similarities]` for each method: `SIMILARITIES` of each check, in the order
        of `check_names`.
    """
    before = {name: method(model, inputs, answer_ids) for name, method in methods.items()}
    after: dict[str, list[Relevance]] = {name: [] for name in methods}
    others = _other_answers(answer_ids, model.num_qa_labels, generators)
    for check, checked in _models(model, against, seed):
        if checks is None or check in checks:
            explained = others if check == OTHER_ANSWER else answer_ids
            for name, method in methods.items():
                after[name].append(method(checked, inputs, explained))
    return {name: _compare(inputs, before[name], after[name]) for name in methods}


def _models(
    model: LxmertForQuestionAnswering, against: LxmertForQuestionAnswering | None, seed: int
) -> Iterator[tuple[str, LxmertForQuestionAnswering]]:
    """Yield the names of the checks with the explained model, in the order of `check_names`."""
    random_model = copy.deepcopy(model)
    weights = torch.Generator().manual_seed(seed)
    for name, modules in stages(random_model).items():
        for module in modules:
            randomize(module, model.config.initializer_range, weights)
        yield name, random_model
    yield OTHER_ANSWER, model
    if against is not None:
        yield OTHER_MODEL, against


@torch.no_grad()
def randomize(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """Give a module the weights of an untrained one: normal weights, no biases, plain norms.

    Args:
        module: changed in place, with all modules below it.
        std: standard deviation of the weights.
        generator: draws them, on the CPU.
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            elif isinstance(part, nn.LayerNorm):
                parameter.fill_(1)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def _other_answers(
    answer_ids: Tensor, number: int, generators: Sequence[np.random.Generator]
) -> Tensor:
    """Draw an answer other than the given one for each question."""
    if number < 2:
        return answer_ids
    steps = [int(generator.integers(1, number)) for generator in generators]
    return (answer_ids + torch.tensor(steps, device=answer_ids.device)) % number


def _compare(
    inputs: Inputs, before: Relevance, after: Sequence[Relevance]
) -> npt.NDArray[np.float64]:
    """Return the similarities of one explanation to others, `[batch, others * similarities]`."""
    masks = (removable_words(inputs), real_regions(inputs))
    rows = []
    for row in range(len(before.words)):
        similar: list[float] = []
        for other in after:
            for mask, *sides in zip(masks, before, other, strict=True):
                pair = [side[row][mask[row]].double().cpu().numpy() for side in sides]
                similar += [spearman(*pair), cosine(*pair)]
        rows.append(similar)
    return np.array(rows)


def _ranks(scores: FloatArray) -> FloatArray:
    """Return the ranks of scores, from 0; ties get the mean of their ranks."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum() - 1
    return np.asarray((last - (counts - 1) / 2)[places], dtype=np.float64)


def _correlate(first: FloatArray, second: FloatArray) -> float:
    """Return the Pearson correlation; NaN if it is not defined."""
    if any(len(side) < 2 or side.min() == side.max() for side in (first, second)):
        return float("nan")
    return cosine(first - first.mean(), second - second.mean())
