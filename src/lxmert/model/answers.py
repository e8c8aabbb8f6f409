"""The answers of a model: names in its configuration, weights in its last layer."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertAnsweringModel

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS, start=1)} | {"grey": "gray"}
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class CarriedAnswers:
    """Weights of a last layer, rearranged for another list of answers.

    Attributes:
        weight: `[answers, width]`; zeros for new answers.
        bias: `[answers]`; zero for new answers.
        missing: the new answers, which the old list does not have.
    """

    weight: Tensor
    bias: Tensor
    missing: tuple[str, ...]

    @property
    def found(self) -> int:
        """Number of answers that keep their weights."""
        return len(self.bias) - len(self.missing)


def normalize_answer(answer: str) -> str:
    """Normalize an answer as in the answer list of pretraining.

    Lower case, no final full stop, no leading article; the numbers one to ten as digits; gray for
    grey. Source: the answer table of the original pretraining code.
    """
    answer = answer.lower()
    answer = answer.removesuffix(".")
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article)
    return _WORDS.get(answer, answer)


def match_answers(
    table: Sequence[str],
    answers: Iterable[str],
    *,
    normalize: Callable[[str], str] = normalize_answer,
) -> list[int | None]:
    """Look up answers in a table.

    An exact match is preferred to a match after normalization; among several, the first is taken.

    Args:
        table: answers by class id.
        answers: answers to look up.
        normalize: normalizes answers before they are compared.

    Returns:
        The class id of each answer; None if it is not in the table.
    """
    rows = {normalize(answer): row for row, answer in reversed(list(enumerate(table)))}
    exact = {answer: row for row, answer in reversed(list(enumerate(table)))}
    return [exact.get(answer, rows.get(normalize(answer))) for answer in answers]


def map_answers(
    weight: Tensor,
    bias: Tensor,
    old: Sequence[str],
    new: Sequence[str],
    *,
    normalize: Callable[[str], str] = normalize_answer,
) -> CarriedAnswers:
    """Rearrange the weights of a last layer for another list of answers by `match_answers`.

    Source: the answer head of the original fine-tuning code.

    Args:
        weight: `[old answers, width]`.
        bias: `[old answers]`.
        old: the answers of these weights.
        new: the new list of answers.
        normalize: normalizes answers before they are compared.

    Raises:
        ValueError: if the number of rows is not the number of old answers.
    """
    if not len(weight) == len(bias) == len(old):
        raise ValueError(
            f"got {len(old)} answers for {len(weight)} rows and {len(bias)} biases; expected "
            "equal numbers: use the list that the weights were trained with"
        )
    sources = match_answers(old, new, normalize=normalize)
    carried = CarriedAnswers(
        weight.new_zeros(len(new), weight.shape[1]),
        bias.new_zeros(len(new)),
        tuple(answer for answer, row in zip(new, sources, strict=True) if row is None),
    )
    targets = [index for index, row in enumerate(sources) if row is not None]
    known = [row for row in sources if row is not None]
    carried.weight[targets] = weight[known]
    carried.bias[targets] = bias[known]
    return carried


@torch.no_grad()
def carry_answers(
    model: LxmertAnsweringModel,
    answers: Sequence[str],
    *,
    old_answers: Sequence[str] | None = None,
    normalize: Callable[[str], str] = normalize_answer,
) -> CarriedAnswers:
    """Change the answer list of a model, keeping the weights of answers in both lists.

    Afterwards the last layer has one row per answer, and the configuration has their names.

    Args:
        model: a model with an answer head; changed in place.
        answers: the new list; the position is the class id.
        old_answers: the list that the model was trained with; None: that of the configuration.
        normalize: as in `map_answers`.

    Returns:
        The new weights and the new answers, whose weights are zero.

    Raises:
        ValueError: if the model has no answer head, its answers are unknown, or the new list is
            empty or has duplicates.
    """
    layer = model.get_qa_logit_layer()
    if layer is None:
        raise ValueError(
            f"this {type(model).__name__} has no answer head: expected a model with answers"
        )
    _check_answers(answers)
    old = old_answers or answers_of(model.config)
    if old is None:
        raise ValueError(
            f"the configuration does not name the {layer.out_features} answers of the model: give "
            "the list that it was trained with as old_answers=[...]"
        )
    carried = map_answers(layer.weight, layer.bias, old, answers, normalize=normalize)
    resized = model.resize_num_qa_labels(len(answers))
    assert resized is not None
    resized.weight.copy_(carried.weight)
    resized.bias.copy_(carried.bias)
    name_answers(model.config, answers)
    return carried


def answers_of(config: LxmertConfig) -> tuple[str, ...] | None:
    """Return the answers that a configuration names, by class id; None if it names none."""
    names = {int(index): name for index, name in (config.id2label or {}).items()}
    if sorted(names) != list(range(config.num_qa_labels)):
        return None
    if all(_UNNAMED.fullmatch(name) for name in names.values()):
        return None
    return tuple(names[index] for index in range(len(names)))


def name_answers(config: LxmertConfig, answers: Sequence[str]) -> None:
    """Set `id2label` and `label2id` of a configuration.

    Raises:
        ValueError: if they are not `num_qa_labels` different answers.
    """
    _check_answers(answers)
    if len(answers) != config.num_qa_labels:
        raise ValueError(
            f"got {len(answers)} answers for a model with {config.num_qa_labels}; expected equal "
            "numbers: use the list that the model was trained with"
        )
    config.id2label = dict(enumerate(answers))
    config.label2id = {answer: index for index, answer in enumerate(answers)}


def _check_answers(answers: Sequence[str]) -> None:
    if not answers:
        raise ValueError("the list of answers is empty; expected at least one")
    twice, count = Counter(answers).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"answer {twice!r} is in the list more than once; expected different answers"
        )
