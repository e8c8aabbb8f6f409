"""Faithfulness of methods over several batches, without files."""

from collections.abc import Iterable, Mapping, Sequence

from lxmert.explain.faithfulness import (
    Faithfulness,
    FaithfulnessMetrics,
    Trial,
    measure_batch,
    summarize,
)
from lxmert.explain.methods import Method
from lxmert.model.heads import LxmertForQuestionAnswering


def measure(
    model: LxmertForQuestionAnswering,
    trials: Iterable[Trial],
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
) -> Faithfulness:
    measured: list[FaithfulnessMetrics] = []
    for trial in trials:
        start = sum(metrics.questions for metrics in measured)
        measured.append(measure_batch(model, trial, methods, seeds=seeds, start=start))
    return summarize(measured, tuple(methods))
