"""Faithfulness metrics: perturbation tests and the pointing game, with random baselines.

Perturbation (Chefer, Gur, Wolf, ICCV 2021, section 4): words or regions are removed in order of
relevance, and the answers are scored again. Accuracy should drop quickly if the most relevant are
removed first (positive), and slowly if the least relevant are removed first (negative).

Pointing game (Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016): the most
relevant region should lie on the object that the question asks about.
"""

from collections.abc import Mapping, Sequence
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
"""Name of the random baseline."""

MODALITIES = ("words", "regions")

Found = Mapping[str, Relevance]
"""Scores of each method for one batch."""


@dataclass(frozen=True)
class Trial:
    """A batch of questions with known answers.

    Attributes:
        inputs: the batch.
        answer_scores: `[batch, answers]` in `[0, 1]`, the accuracy of each answer of the model.
        boxes: for each example `[regions, 4]`, boxes of its real regions in pixels.
        targets: for each example `[objects, 4]`, true boxes of the objects it asks about, in the
            same pixels; empty: the example is not used in the pointing game.
    """

    inputs: Inputs
    answer_scores: Tensor
    boxes: Sequence[FloatArray]
    targets: Sequence[FloatArray]


class FaithfulnessMetrics(NamedTuple):
    """Sums over a batch of questions; sums of several batches can be added.

    Attributes:
        questions: number of questions.
        correct: `[seeds, modalities, methods, directions, shares]`, summed accuracy.
        pointed: number of questions in the pointing game.
        hits: `[methods]`, summed score of these.
        areas: `[questions, modalities, methods, directions]`, the area under the curve of each
            question, mean over the seeds; not summed but joined.
    """

    questions: int
    correct: npt.NDArray[np.float64]
    pointed: int
    hits: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Mean accuracy as an increasing fraction is removed.

    Attributes:
        method: relevance method of the ranking.
        modality: `words` or `regions`, whichever is removed.
        direction: `positive` (most relevant first) or `negative` (least relevant first).
        accuracies: `[seeds, shares]` in `[0, 1]` for the removed fractions `SHARES`.
    """

    method: str
    modality: str
    direction: str
    accuracies: npt.NDArray[np.float64]

    @property
    def areas(self) -> list[float]:
        """Area under the curve for each seed, in `[0, 100]`."""
        return [area_under(SHARES, accuracies) for accuracies in self.accuracies.tolist()]


@dataclass(frozen=True)
class Faithfulness:
    """Faithfulness of methods and of the random baseline on a dataset.

    Attributes:
        questions: number of questions.
        curves: one for each method, modality and direction.
        pointed: number of questions in the pointing game.
        pointing: fraction of them whose top region is on its target, by method; for `random` the
            exact expectation. Empty without such questions.
    """

    questions: int
    curves: list[Curve]
    pointed: int
    pointing: dict[str, float]


def measure_batch(
    model: LxmertForQuestionAnswering,
    trial: Trial,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    start: int,
) -> FaithfulnessMetrics:
    """Measure how well methods explain a model's best answers to a batch of questions.

    Args:
        model: in evaluation mode.
        trial: the batch; its size does not change the results of a dataset.
        methods: by name, such as `METHODS`; the baseline `random` is added.
        seeds: for the random baseline and for breaking ties in all other rankings.
        start: index of the batch's first question in the dataset.

    Raises:
        ValueError: if a method is named `random`, model or inputs cannot be explained, or numbers
            of boxes and regions differ.
    """
    if RANDOM in methods:
        raise ValueError(f"the method name {RANDOM!r} is reserved for the baseline: rename it")
    _check_trial(model, trial)
    found = _explain(model, trial.inputs, methods)
    hits = _point(trial, found)
    # [batch, seeds, modalities, methods, directions, shares]
    correct = np.stack(
        [
            _perturb(model, trial, found, modality, seeds=seeds, start=start)
            for modality in MODALITIES
        ],
        axis=2,
    )
    return FaithfulnessMetrics(
        questions=len(trial.answer_scores),
        correct=correct.sum(axis=0),
        pointed=len(hits),
        hits=np.array(hits, dtype=np.float64).reshape(len(hits), len(found)).sum(axis=0),
        areas=100 * np.trapezoid(correct.mean(axis=1), SHARES, axis=-1),
    )


def summarize(tallies: Sequence[FaithfulnessMetrics], methods: Sequence[str]) -> Faithfulness:
    """Compute means from the sums of all batches.

    Args:
        tallies: the sums.
        methods: method names in the order of the sums, without the random baseline.

    Raises:
        ValueError: if there are no questions.
    """
    if not sum(metrics.questions for metrics in tallies):
        raise ValueError("got 0 questions, expected at least one: pass at least 1 trial")
    questions, correct, pointed, hits = (
        sum(parts[1:], parts[0]) for parts in list(zip(*tallies, strict=True))[:4]
    )
    names = (*methods, RANDOM)
    means = correct / questions
    curves = [
        Curve(name, modality, direction, means[:, k, i, j])
        for k, modality in enumerate(MODALITIES)
        for j, direction in enumerate(DIRECTIONS)
        for i, name in enumerate(names)
    ]
    rates = (hits / pointed).tolist() if pointed else ()
    pointing = dict(zip(names, rates, strict=False))
    return Faithfulness(questions, curves, pointed, pointing)


def points_at(relevance: FloatArray, boxes: FloatArray, targets: FloatArray) -> float:
    """Return the fraction of the most relevant regions with their center inside a target.

    Args:
        relevance: `[regions]`; tied regions count equally.
        boxes: `[regions, 4]`.
        targets: `[objects, 4]`, borders included.
    """
    return float(lie_inside(boxes[relevance == relevance.max()], targets).mean())


def _check_trial(model: LxmertForQuestionAnswering, trial: Trial) -> None:
    """Check that the parts of a trial match."""
    check_explainable(model, trial.inputs)
    batch_size = len(trial.inputs["input_ids"])
    expected = (batch_size, model.num_qa_labels)
    if trial.answer_scores.shape != expected:
        raise ValueError(
            f"answer_scores has shape {list(trial.answer_scores.shape)}, expected "
            f"{list(expected)}: one score for each answer of the model"
        )
    regions = real_regions(trial.inputs).sum(dim=1).tolist()
    if [len(boxes) for boxes in trial.boxes] != regions or len(trial.targets) != batch_size:
        raise ValueError(
            f"examples have {[len(boxes) for boxes in trial.boxes]} boxes and "
            f"{len(trial.targets)} targets for {regions} regions, expected one box for each region "
            "and one (possibly empty) list of targets for each example"
        )


def _explain(
    model: LxmertForQuestionAnswering, inputs: Inputs, methods: Mapping[str, Method]
) -> dict[str, Relevance]:
    """Return each method's scores for the model's best answers, with a constant baseline."""
    with torch.inference_mode():
        answer_ids = model(**inputs).question_answering_score.argmax(dim=-1)
    found = {name: method(model, inputs, answer_ids) for name, method in methods.items()}
    words, regions = real_words(inputs), real_regions(inputs)
    return found | {RANDOM: Relevance(torch.zeros(words.shape), torch.zeros(regions.shape))}


def _point(trial: Trial, found: Found) -> list[list[float]]:
    """Return each method's pointing score, for each question with targets."""
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
    """Return the accuracy after removal, `[batch, seeds, methods, directions, shares]`.

    Identical remainders are answered only once.
    """
    by_words = modality == "words"
    real = real_words(trial.inputs) if by_words else real_regions(trial.inputs)
    removable = removable_words(trial.inputs) if by_words else real
    kept = _keep_by_all(found, modality, removable, seeds=seeds, start=start)
    shape = kept.shape[:-1]
    masks = torch.from_numpy(kept).flatten(1, 4)  # [batch, variants, length]
    masks |= (real & ~removable).cpu()[:, None]
    rows = torch.arange(len(real))[:, None].expand(masks.shape[:2])
    # [batch, variants, length] -> [distinct variants, 1 + length]
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
    """Return what each ranking keeps, `[batch, seeds, methods, directions, shares, length]`.

    The random generator depends on the question's index in the whole dataset.
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
