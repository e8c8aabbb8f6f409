"""Answers to groups of paraphrases, with the consensus score and its intervals."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.hub import find_model
from lxmert.metrics.consensus import consensus_score
from lxmert.metrics.intervals import Limits, interval_limits
from lxmert.names import count
from lxmert.predict import Predictor, Progress, open_reader
from lxmert.tasks.metrics import rows_by_kind, score_answers

MOST = 4
"""Largest subset that is scored: a question and three paraphrases in VQA-Rephrasings."""


class ConsensusReport(TypedDict):
    """Result of `evaluate_consensus`.

    Attributes:
        scores: by question type and `overall`, `consensus_1` and so on, the consensus scores of
            subsets of this size. `consensus_1` is the share of correct answers.
        intervals: lower and upper limit of the 95 % interval of each score, resampling images.
        count: number of groups.
        warnings: what limits the meaning of the numbers.
    """

    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Limits]]
    count: dict[str, int]
    warnings: list[str]


def read_group_names(path: Path) -> list[str]:
    """Return the `group` of each line, empty if it has none."""
    found = ((line.record or {}).get("group") for line in scan_lines(path))
    return ["" if name is None else str(name) for name in found]


def evaluate_consensus(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> ConsensusReport:
    """Answer paraphrases of questions and score each group of them.

    Args:
        model: folder or hub name of a model that answers questions.
        data: JSONL file of questions with answers, in which paraphrases share a `group`.
        images: image folder.
        stores: region stores to use instead of images.
        device: where to compute.
        progress: called with the numbers of finished and of all questions.

    Raises:
        ValueError: if no group has two questions with answers.

    Source: Shah et al. 2019 (VQA-Rephrasings).
    """
    corpus = Corpus.read([data], strict=True)
    names = read_group_names(data)
    groups: dict[str, list[int]] = defaultdict(list)
    for row, (name, answers) in enumerate(zip(names, corpus.num_answers(), strict=True)):
        if name and answers:
            groups[name].append(row)
    groups = {name: rows for name, rows in groups.items() if len(rows) > 1}
    if not groups:
        raise ValueError(
            f"{data} has no two questions with answers in the same group: add a key 'group' to the "
            "lines, with the same value for all paraphrases of a question"
        )
    used = [row for rows in groups.values() for row in rows]
    asked = corpus.select(np.array(used))
    folder = find_model(model)
    read = open_reader(folder, images=images, stores=stores, device=device)
    answers_given = Predictor.from_pretrained(folder, device=device).predict(
        asked, read, progress=progress
    )
    found = score_answers(list(asked), [answer.answer for answer in answers_given])
    scores = dict(zip(used, found, strict=True))
    lost = len(corpus) - len(used)
    return {
        **_summarize(corpus, list(groups.values()), scores),
        "warnings": [f"{count(lost, 'question')} without paraphrase or answer: not scored"]
        if lost
        else [],
    }


class _Summary(TypedDict):
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Limits]]
    count: dict[str, int]


def _summarize(corpus: Corpus, groups: Sequence[list[int]], scores: dict[int, float]) -> _Summary:
    """Score the groups, overall and by the question type of their first question."""
    sizes = range(1, min(MOST, *map(len, groups)) + 1)
    table = np.array(
        [[consensus_score([scores[row] for row in rows], k) for k in sizes] for rows in groups]
    )
    images = [corpus.image_ids(rows[0])[0] for rows in groups]
    kinds = rows_by_kind([corpus.question_type(rows[0]) for rows in groups])
    summary: _Summary = {"scores": {}, "intervals": {}, "count": {}}
    for kind, places in kinds.items():
        columns = {f"consensus_{k}": table[places, k - 1] for k in sizes}
        own = [images[place] for place in places]
        summary["scores"][kind] = {name: float(each.mean()) for name, each in columns.items()}
        summary["intervals"][kind] = {
            name: interval_limits(each, own) for name, each in columns.items()
        }
        summary["count"][kind] = len(places)
    return summary
