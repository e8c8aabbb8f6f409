"""Is an explanation faithful? Perturbation tests and the pointing game, always beside chance.

Perturbation (Chefer, Gur, Wolf, ICCV 2021, section 4): words or regions are removed in the order
of their relevance, and the answers are scored anew. Removing the most relevant first (positive)
should hurt at once, the least relevant first (negative) late.

Pointing game (Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016): the most
relevant region should lie on what the question asks about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.explain.deletion import answer_with_regions, answer_with_words
from lxmert.explain.inputs import (
    Inputs,
    check_explainable,
    real_regions,
    real_words,
    removable_words,
)
from lxmert.explain.methods import Method
from lxmert.explain.perturbation import DIRECTIONS, SHARES, area_under, keep
from lxmert.explain.pointing import lie_inside
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.schema import FloatArray

RANDOM = "random"
"""Name of the ranking by chance that stands beside the methods."""

MODALITIES = ("words", "regions")

Found = Mapping[str, Relevance]
"""What each method said about one batch."""


@dataclass(frozen=True)
class Trial:
    """A batch of questions whose right answers are known.

    Attributes:
        inputs: the batch.
        answer_scores: `[batch, answers]` in `[0, 1]`, how right each answer of the model is.
        boxes: of each example `[regions, 4]`, of its real regions in their order, in pixels.
        targets: of each example `[objects, 4]`, the true boxes of what it asks about, in pixels of
            the same image; without any, it takes no part in the pointing game.
    """

    inputs: Inputs
    answer_scores: Tensor
    boxes: Sequence[FloatArray]
    targets: Sequence[FloatArray]


class FaithfulnessMetrics(NamedTuple):
    """What a batch of questions says: sums, so that those of several batches add up.

    Attributes:
        questions: how many there were.
        correct: `[seeds, modalities, methods, directions, shares]`, of the scores of the answers.
        pointed: how many questions took part in the pointing game.
        hits: `[methods]`, of these.
    """

    questions: int
    correct: npt.NDArray[np.float64]
    pointed: int
    hits: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Mean accuracy of the answers as more and more is removed.

    Attributes:
        method: what ranked words and regions.
        modality: `words` or `regions`, what was removed.
        direction: `positive` (most relevant first) or `negative` (least relevant first).
        accuracies: `[seeds, shares]` in `[0, 1]`, the shares being `SHARES`.
    """

    method: str
    modality: str
    direction: str
    accuracies: npt.NDArray[np.float64]

    @property
    def areas(self) -> list[float]:
        """Area under the curve of each seed, in `[0, 100]`."""
        return [area_under(SHARES, accuracies) for accuracies in self.accuracies.tolist()]


@dataclass(frozen=True)
class Faithfulness:
    """What a data set says about methods and about chance.

    Attributes:
        questions: how many there were.
        curves: one for each method, modality and direction.
        pointed: how many questions took part in the pointing game.
        pointing: share of them whose top region is on its target, by method; that of `random` is
            the exact expectation. Empty where none took part.
    """

    questions: int
    curves: list[Curve]
    pointed: int
    pointing: dict[str, float]


def measure(
    model: LxmertForQuestionAnswering,
    trials: Iterable[Trial],
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
) -> Faithfulness:
    """Test how well methods explain a model's own best answers to questions with known answers.

    Args:
        model: in evaluation mode.
        trials: batches of questions; how they are cut changes nothing.
        methods: by name, such as `METHODS`; chance stands beside them as `random`.
        seeds: each of a random ranking, and of the order of equals in all others.

    Raises:
        ValueError: if there are no trials, a method is named as chance is, a model or its inputs
            cannot be explained, or an example has not as many boxes as regions.
    """
    tallies: list[FaithfulnessMetrics] = []
    for trial in trials:
        start = sum(metrics.questions for metrics in tallies)
        tallies.append(measure_batch(model, trial, methods, seeds=seeds, start=start))
    return summarize(tallies, tuple(methods))


def measure_batch(
    model: LxmertForQuestionAnswering,
    trial: Trial,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    start: int,
) -> FaithfulnessMetrics:
    """Test one batch; arguments and errors are those of `measure`.

    Args:
        model: in evaluation mode.
        trial: the batch.
        methods: by name.
        seeds: of the rankings.
        start: number of the batch's first question in the data set.
    """
    if RANDOM in methods:
        raise ValueError(f"a method is named {RANDOM!r}, as the ranking by chance: rename it")
    _check_trial(model, trial)
    found = _explain(model, trial.inputs, methods)
    hits = _point(trial, found)
    correct = [
        # [batch, seeds, methods, directions, shares] -> [seeds, methods, directions, shares]
        _perturb(model, trial, found, modality, seeds=seeds, start=start).sum(axis=0)
        for modality in MODALITIES
    ]
    totals = np.array(hits, dtype=np.float64).reshape(len(hits), len(found)).sum(axis=0)
    return FaithfulnessMetrics(
        len(trial.answer_scores), np.stack(correct, axis=1), len(hits), totals
    )


def summarize(tallies: Sequence[FaithfulnessMetrics], methods: Sequence[str]) -> Faithfulness:
    """Turn the sums of all batches into means.

    Args:
        tallies: of all batches.
        methods: their names, in the order of the tallies, without chance.

    Raises:
        ValueError: if there is no question.
    """
    if not sum(metrics.questions for metrics in tallies):
        raise ValueError("there are no questions to test on: pass at least 1 trial")
    total = FaithfulnessMetrics(*(sum(parts[1:], parts[0]) for parts in zip(*tallies, strict=True)))
    names = (*methods, RANDOM)
    means = total.correct / total.questions
    curves = [
        Curve(name, modality, direction, means[:, k, i, j])
        for k, modality in enumerate(MODALITIES)
        for j, direction in enumerate(DIRECTIONS)
        for i, name in enumerate(names)
    ]
    rates = (total.hits / total.pointed).tolist() if total.pointed else ()
    pointing = dict(zip(names, rates, strict=False))
    return Faithfulness(total.questions, curves, total.pointed, pointing)


def points_at(relevance: FloatArray, boxes: FloatArray, targets: FloatArray) -> float:
    """Return the share of the most relevant regions whose centre lies inside a target.

    Args:
        relevance: `[regions]`; several may be the most relevant, then each counts as much.
        boxes: `[regions, 4]`.
        targets: `[objects, 4]`, borders included.
    """
    return float(lie_inside(boxes[relevance == relevance.max()], targets).mean())


def _check_trial(model: LxmertForQuestionAnswering, trial: Trial) -> None:
    """Refuse a trial whose parts do not belong together."""
    check_explainable(model, trial.inputs)
    batch_size = len(trial.inputs["input_ids"])
    expected = (batch_size, model.num_qa_labels)
    if trial.answer_scores.shape != expected:
        raise ValueError(
            f"answer_scores has shape {list(trial.answer_scores.shape)}, expected "
            f"{list(expected)}: a score for each answer of the model"
        )
    regions = real_regions(trial.inputs).sum(dim=1).tolist()
    if [len(boxes) for boxes in trial.boxes] != regions or len(trial.targets) != batch_size:
        raise ValueError(
            f"examples have {[len(boxes) for boxes in trial.boxes]} boxes and "
            f"{len(trial.targets)} targets for {regions} regions: give each example the boxes of "
            "its regions, and its targets, which may be empty"
        )


def _explain(
    model: LxmertForQuestionAnswering, inputs: Inputs, methods: Mapping[str, Method]
) -> dict[str, Relevance]:
    """Return what each method says about the model's best answers; chance says nothing."""
    with torch.inference_mode():
        answer_ids = model(**inputs).question_answering_score.argmax(dim=-1)
    found = {name: method(model, inputs, answer_ids) for name, method in methods.items()}
    words, regions = real_words(inputs), real_regions(inputs)
    return found | {RANDOM: Relevance(torch.zeros(words.shape), torch.zeros(regions.shape))}


def _point(trial: Trial, found: Found) -> list[list[float]]:
    """Return whether each method points at the target, by question that has one."""
    real = real_regions(trial.inputs).cpu().numpy()
    scores = [relevance.regions.cpu().numpy() for relevance in found.values()]
    return [
        [points_at(regions[row][real[row]], boxes, targets) for regions in scores]
        for row, (boxes, targets) in enumerate(zip(trial.boxes, trial.targets, strict=True))
        if len(targets) and len(boxes)
    ]


def _perturb(
    model: LxmertForQuestionAnswering,
    trial: Trial,
    found: Found,
    modality: str,
    *,
    seeds: Sequence[int],
    start: int,
) -> npt.NDArray[np.float64]:
    """Return `[batch, seeds, methods, directions, shares]`, how right what is left is answered.

    What several rankings leave alike is answered once.
    """
    by_words = modality == "words"
    real = real_words(trial.inputs) if by_words else real_regions(trial.inputs)
    removable = removable_words(trial.inputs) if by_words else real
    kept = _keep_by_all(found, modality, removable, seeds=seeds, start=start)
    shape = kept.shape[:-1]
    masks = torch.from_numpy(kept).flatten(1, 4)  # [batch, variants, length]
    masks |= (real & ~removable).cpu()[:, None]
    rows = torch.arange(len(real))[:, None].expand(masks.shape[:2])
    # [batch, variants, length] -> [different variants, 1 + length]
    variants = torch.cat([rows.reshape(-1, 1), masks.flatten(0, 1)], dim=1)
    variants, places = torch.unique(variants, dim=0, return_inverse=True)
    variants = variants.to(real.device)
    answer = answer_with_words if by_words else answer_with_regions
    examples = variants[:, 0]
    answer_ids = answer(model, trial.inputs, examples, kept=variants[:, 1:].bool()).argmax(dim=-1)
    scores = trial.answer_scores.cpu()[examples.cpu(), answer_ids.cpu()]
    return scores.double()[places].view(shape).numpy()


def _keep_by_all(
    found: Found, modality: str, removable: Tensor, *, seeds: Sequence[int], start: int
) -> npt.NDArray[np.bool_]:
    """Return `[batch, seeds, methods, directions, shares, length]`, what each ranking leaves.

    The generator depends on the number of the question in the whole data set.
    """
    may_go = removable.cpu().numpy()
    scores = [getattr(relevance, modality).cpu().numpy() for relevance in found.values()]
    part = MODALITIES.index(modality)

    def leave(row: int, seed: int, method: FloatArray) -> npt.NDArray[np.bool_]:
        generator = np.random.default_rng([seed, start + row, part])
        return keep(method[row], may_go[row], generator)

    return np.stack(
        [
            np.stack([np.stack([leave(row, seed, method) for method in scores]) for seed in seeds])
            for row in range(len(may_go))
        ]
    )
