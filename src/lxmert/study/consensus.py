"""Answers to groups of paraphrases, with the consensus score and its intervals."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.hub import find_model
from lxmert.metrics.consensus import consensus_score
from lxmert.metrics.intervals import Limits, interval_limits
from lxmert.names import count
from lxmert.predict import Predictor, Progress, open_reader
from lxmert.study.kinds import KindReport, report_by_kind
from lxmert.tasks.metrics import score_answers

MOST = 4
"""Largest subset that is scored: a question and three paraphrases in VQA-Rephrasings."""


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
) -> KindReport[dict[str, float]]:
    """Answer paraphrases of questions and score each group of them.

    Args:
        model: folder or hub name of a model that answers questions.
        data: JSONL file of questions with answers, in which paraphrases share a `group`.
        images: image folder.
        stores: region stores to use instead of images.
        device: where to compute.
        progress: called with the numbers of finished and of all questions.

    Returns:
        `consensus_1` and so on, the consensus scores of subsets of this size; `consensus_1` is the
        share of correct answers. Entries are groups; images are resampled.

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
    warning = f"{count(lost, 'question')} without paraphrase or answer: not scored"
    return _report(corpus, list(groups.values()), scores, warnings=[warning] if lost else [])


def _report(
    corpus: Corpus, groups: Sequence[list[int]], scores: dict[int, float], *, warnings: list[str]
) -> KindReport[dict[str, float]]:
    """Score the groups, overall and by the question type of their first question."""
    sizes = range(1, min(MOST, *map(len, groups)) + 1)
    table = np.array(
        [[consensus_score([scores[row] for row in rows], k) for k in sizes] for rows in groups]
    )
    images = np.array([corpus.image_ids(rows[0])[0] for rows in groups])
    kinds = [corpus.question_type(rows[0]) for rows in groups]

    def score(places: list[int]) -> dict[str, float]:
        return {f"consensus_{k}": float(table[places, k - 1].mean()) for k in sizes}

    def limits(places: list[int]) -> dict[str, Limits]:
        own = images[places].tolist()
        return {f"consensus_{k}": interval_limits(table[places, k - 1], own) for k in sizes}

    return report_by_kind(kinds, score, limits, warnings=warnings)
