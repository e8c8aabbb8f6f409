"""The answers of a model: their names in its configuration, and their rows in its last layer."""

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
    """Rows of a last layer, arranged for another list of answers.

    Attributes:
        weight: `[answers, width]`; zeros for an answer that was not known.
        bias: `[answers]`; zero for an answer that was not known.
        missing: the answers that were not known.
    """

    weight: Tensor
    bias: Tensor
    missing: tuple[str, ...]

    @property
    def found(self) -> int:
        """Number of answers whose rows were carried over."""
        return len(self.bias) - len(self.missing)


def normalize_answer(answer: str) -> str:
    """Bring an answer into the form of the pretraining's answer list.

    Lower case, without a final full stop and without a leading article; the numbers one to ten as
    digits; gray. Source: the answer table of the original pretraining code.
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
    """Find answers in a table, by their words.

    An answer of exactly these words is taken first, then one that is equal once both are
    normalised, of several the first.

    Args:
        table: answers by class id.
        answers: those to find.
        normalize: brings an answer into the form in which answers are compared.

    Returns:
        The class id of each answer; None where the table does not have it.
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
    """Arrange the rows of a last layer for another list of answers, as `match_answers` finds them.

    Source: the answer head of the original fine-tuning code.

    Args:
        weight: `[old answers, width]`.
        bias: `[old answers]`.
        old: the answers of these rows.
        new: the answers that are wanted.
        normalize: brings an answer into the form in which answers are compared.

    Raises:
        ValueError: if there are not as many rows as old answers.
    """
    if not len(weight) == len(bias) == len(old):
        raise ValueError(
            f"Got {len(old)} answers for {len(weight)} rows and {len(bias)} biases; expected one "
            "of each for every answer: take the list that the weights were trained with."
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
    """Give a model another list of answers, keeping what it knows of those that it has already.

    The last layer then has one row for each of `answers`, and the configuration their names.

    Args:
        model: a model with an answer head; changed in place.
        answers: the new list; the position is the class id.
        old_answers: the list that the model was trained with; None means the configuration's.
        normalize: as in `map_answers`.

    Returns:
        The rows with the answers that were not known, which start at zero.

    Raises:
        ValueError: if the model has no answer head, its answers are not known, or the new list is
            empty or has an answer twice.
    """
    layer = model.get_qa_logit_layer()
    if layer is None:
        raise ValueError(f"this {type(model).__name__} has no answer head, so no answers to carry")
    _check_answers(answers)
    old = old_answers or answers_of(model.config)
    if old is None:
        raise ValueError(
            f"it is not known what the {layer.out_features} answers of the model are: give the "
            "list that it was trained with as old_answers=[...]"
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
    """Write the answers into a configuration, as `id2label` and `label2id`.

    Raises:
        ValueError: if these are not `num_qa_labels` different answers.
    """
    _check_answers(answers)
    if len(answers) != config.num_qa_labels:
        raise ValueError(
            f"Got {len(answers)} answers for a model with {config.num_qa_labels}; expected one for "
            "each: take the list that the model was trained with."
        )
    config.id2label = dict(enumerate(answers))
    config.label2id = {answer: index for index, answer in enumerate(answers)}


def _check_answers(answers: Sequence[str]) -> None:
    if not answers:
        raise ValueError("the list of answers is empty; expected at least one")
    twice, count = Counter(answers).most_common(1)[0]
    if count > 1:
        raise ValueError(f"answer {twice!r} is in the list more than once; expected each once")
