"""Explains single questions: share of each modality, and which explanation to trust.

Everything is measured question by question, so that a study can be resumed after any of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from lxmert.explain.faithfulness import MODALITIES, RANDOM, Trial, measure_batch
from lxmert.explain.inputs import Inputs, real_regions
from lxmert.explain.methods import METHODS, Method
from lxmert.explain.perturbation import DIRECTIONS
from lxmert.explain.protocols import measure_names, measure_questions
from lxmert.explain.relevance import Relevance
from lxmert.explain.sanity import OTHER_ANSWER
from lxmert.explain.shapley import shapley_for_answers, text_share
from lxmert.explain.shapley_values import SAMPLES
from lxmert.metrics.intervals import bootstrap
from lxmert.model.heads import LxmertForQuestionAnswering

COMPARED = ("propagation", "attention", "attnlrp", "occlusion")
"""Methods that are compared; `lxmert explain-eval` tests all of them."""

CHECKS = {
    "answer head": "random answer head",
    "embeddings": "all weights random",
    OTHER_ANSWER: "another answer",
}
"""Sanity checks that are reported, and their titles; the first two are cascading."""


class Explained(NamedTuple):
    """A question to explain.

    Attributes:
        inputs: a batch of one with the arguments of forward.
        image: its image.
        answer_scores: `[answers]` in `[0, 1]`, the accuracy of each answer of the model.
    """

    inputs: dict[str, Tensor]
    image: str
    answer_scores: Tensor


class TrustMeasure(TypedDict):
    """One measure of one method.

    Attributes:
        mean: its mean over questions.
        low: lower limit of the 95% interval, resampling images.
        high: upper limit.
        count: number of questions for which it is defined.
    """

    mean: float
    low: float
    high: float
    count: int


Trust = dict[str, dict[str, TrustMeasure | None]]
"""Method -> measure -> its value; None if it is defined for no question."""


def measure_question(
    model: LxmertForQuestionAnswering,
    question: Explained,
    *,
    index: int,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Explain the best answer to one question, and test the explanations.

    Args:
        model: in evaluation mode.
        question: the question.
        index: its number in the study.
        samples: coalitions for the Shapley values.
        seed: seed of rankings, random weights and coalitions.

    Returns:
        JSON values: `text_share` (T-SHAP; None if nothing contributes), and `measures`: method ->
        measure -> value or None. The measures are `AOPC`, `Del@15` and `Ins@15` (`aopc.py`),
        `wrong sign, words` and `wrong sign, regions` (`sign.py`), the areas `words removed` and
        `regions removed` under the accuracy (`faithfulness.py`, the most relevant first), and the
        rank correlations `words, CHECK` and `regions, CHECK` for each of `CHECKS` (`sanity.py`).
    """
    methods = {name: _once(METHODS[name], model) for name in COMPARED}
    measures: dict[str, dict[str, float | None]] = {}
    for protocol in ("chefer", "aopc", "sign", "sanity"):
        for method, values in _measure(protocol, model, question, methods, index, seed).items():
            found = {name: float(v) if np.isfinite(v) else None for name, v in values.items()}
            measures.setdefault(method, {}).update(found)
    share = question_text_share(model, question.inputs, samples=samples, seed=seed)
    return {"text_share": share, "measures": measures}


def question_text_share(
    model: LxmertForQuestionAnswering,
    inputs: Mapping[str, Tensor],
    *,
    answer_id: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> float | None:
    """Return the share of the words in the Shapley values of an answer to one question.

    Args:
        model: in evaluation mode.
        inputs: a batch of one question.
        answer_id: the answer; None: the best one.
        samples: coalitions.
        seed: seed of the coalitions.

    Returns:
        T-SHAP in `[0, 1]`; None if neither words nor regions contribute.
    """
    with torch.inference_mode():
        best = model(**inputs).question_answering_score.argmax(dim=-1)
    chosen = best if answer_id is None else torch.full_like(best, answer_id)
    values, _ = shapley_for_answers(model, inputs, chosen, samples=samples, seed=seed)
    share = float(text_share(values)[0])
    return share if np.isfinite(share) else None


def summarize_trust(records: Sequence[Mapping[str, Any]], images: Sequence[str]) -> Trust:
    """Return the mean of each measure over the records of `measure_question`, by method."""
    return {
        method: {
            measure: mean_of([record["measures"][method][measure] for record in records], images)
            for measure in measures
        }
        for method, measures in records[0]["measures"].items()
    }


def mean_of(values: Sequence[float | None], images: Sequence[str]) -> TrustMeasure | None:
    """Return the mean of the values that are not None, with its interval."""
    defined = [
        (value, image) for value, image in zip(values, images, strict=True) if value is not None
    ]
    if not defined:
        return None
    mean, low, high = bootstrap(*zip(*defined, strict=True))
    return {"mean": mean, "low": low, "high": high, "count": len(defined)}


def _measure(
    protocol: str,
    model: LxmertForQuestionAnswering,
    question: Explained,
    methods: Mapping[str, Method],
    index: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Return the values of one protocol by method and by title."""
    if protocol == "chefer":
        # Without targets, the pointing game is not played, and the boxes have no meaning.
        boxes = np.zeros((int(real_regions(question.inputs).sum()), 4), np.float32)
        trial = Trial(question.inputs, question.answer_scores[None], [boxes], [boxes[:0]])
        areas = measure_batch(model, trial, methods, seeds=[seed], start=index).areas[0]
        first = DIRECTIONS.index("positive")
        return {
            method: {
                f"{modality} removed": areas[side, place, first]
                for side, modality in enumerate(MODALITIES)
            }
            for place, method in enumerate((*methods, RANDOM))
        }
    found = measure_questions(
        protocol, model, question.inputs, methods, seeds=[seed], start=index, checks=CHECKS
    )
    titles = [_title(protocol, name) for name in measure_names(protocol, model, checks=CHECKS)]
    return {
        method: {title: value for title, value in zip(titles, row[0], strict=True) if title}
        for method, row in found.items()
    }


def _title(protocol: str, measure: str) -> str:
    """Return the title of a measure; empty if it is not reported."""
    if protocol != "sanity":
        return f"wrong sign, {measure}" if protocol == "sign" else measure
    check, _, similarity = measure.partition(": ")
    side, _, kind = similarity.partition(", ")
    return f"{side}, {CHECKS[check]}" if kind == "Spearman" else ""


def _once(method: Method, model: LxmertForQuestionAnswering) -> Method:
    """Return a method that explains each answer of `model` to one question only once."""
    known: dict[int, Relevance] = {}

    def explain(
        explained: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor
    ) -> Relevance:
        if explained is not model:
            return method(explained, inputs, answer_ids)
        (answer_id,) = answer_ids.tolist()
        if answer_id not in known:
            known[answer_id] = method(explained, inputs, answer_ids)
        return known[answer_id]

    return explain
