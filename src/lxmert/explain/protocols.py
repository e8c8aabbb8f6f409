"""The protocols of faithfulness tests by name, and those that give numbers for each question.

`chefer`, which compares accuracies of whole data sets, is in `faithfulness.py`.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from lxmert.explain.aopc import AOPC_MEASURES, measure_confidence_curves
from lxmert.explain.faithfulness import RANDOM
from lxmert.explain.inputs import Inputs, check_explainable, real_regions, real_words
from lxmert.explain.methods import Method
from lxmert.explain.relevance import Relevance
from lxmert.explain.sanity import SIMILARITIES, check_names, measure_sanity
from lxmert.explain.sign import SIGN_MEASURES, measure_signs
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import did_you_mean

PROTOCOLS = {
    "chefer": "accuracy after removing shares of the words or regions, and the pointing game",
    "aopc": "confidence without, or with only, the most relevant words and regions",
    "sign": "does the answer really lose what the top score says it would",
    "sanity": "similarity to explanations of other models and of other answers",
}
"""Name -> what is measured; the first is the default."""

Measured = dict[str, npt.NDArray[np.float64]]
"""Method -> `[questions, measures]`; NaN where a measure is not defined."""


def check_protocol(name: str) -> str:
    """Return the name of a protocol.

    Raises:
        ValueError: listing the valid names, if it is none.
    """
    if name not in PROTOCOLS:
        hint = f"{did_you_mean(name, PROTOCOLS)} choose one of {', '.join(PROTOCOLS)}"
        raise ValueError(f"no protocol {name!r}: {hint.lstrip()}")
    return name


def measure_names(
    protocol: str,
    model: LxmertForQuestionAnswering,
    against: LxmertForQuestionAnswering | None = None,
    *,
    checks: Collection[str] | None = None,
) -> list[str]:
    """Return the names of the numbers that a protocol other than `chefer` gives."""
    if protocol == "sanity":
        used = [n for n in check_names(model, against) if checks is None or n in checks]
        return [f"{check}: {similar}" for check in used for similar in SIMILARITIES]
    return list({"aopc": AOPC_MEASURES, "sign": SIGN_MEASURES}[protocol])


def measure_questions(
    protocol: str,
    model: LxmertForQuestionAnswering,
    inputs: Inputs,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    start: int,
    against: LxmertForQuestionAnswering | None = None,
    checks: Collection[str] | None = None,
) -> Measured:
    """Measure explanations of a model's best answers by any protocol but `chefer`.

    Args:
        protocol: its name.
        model: in evaluation mode.
        inputs: a batch of questions.
        methods: by name.
        seeds: of random rankings, weights and answers; numbers are means over them.
        start: index of the first question in the data set.
        against: another model to compare with, for `sanity` only; None: none.
        checks: the sanity checks to measure, of `check_names`; None: all.

    Returns:
        The numbers of `measure_names` for each method and, unless the protocol compares an
        explanation to itself, for the baseline `random`.

    Raises:
        ValueError: if model or inputs cannot be explained, or a method is named `random`.
    """
    check_explainable(model, inputs)
    if RANDOM in methods:
        raise ValueError(f"the method name {RANDOM!r} is reserved for the baseline: rename it")
    with torch.inference_mode():
        answer_ids = model(**inputs).question_answering_score.argmax(dim=-1)
    generators = {
        seed: [np.random.default_rng([seed, start + row]) for row in range(len(answer_ids))]
        for seed in seeds
    }
    if protocol == "sanity":
        return _mean(
            [
                measure_sanity(
                    model,
                    inputs,
                    answer_ids,
                    methods,
                    draws,
                    seed=seed,
                    against=against,
                    checks=checks,
                )
                for seed, draws in generators.items()
            ]
        )
    found = {name: method(model, inputs, answer_ids) for name, method in methods.items()}
    if protocol == "sign":
        return measure_signs(model, inputs, answer_ids, found, baseline=RANDOM)
    # Equal scores are ranked at random.
    masks = (real_words(inputs), real_regions(inputs))
    found[RANDOM] = Relevance(*(torch.zeros(mask.shape) for mask in masks))
    return _mean(
        [
            measure_confidence_curves(model, inputs, answer_ids, found, draws)
            for draws in generators.values()
        ]
    )


def _mean(measured: Sequence[Measured]) -> Measured:
    """Return the mean over seeds."""
    return {name: np.mean([each[name] for each in measured], axis=0) for name in measured[0]}
