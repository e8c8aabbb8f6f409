"""Reports of scores, overall and of each kind of entry."""

from collections.abc import Callable, Sequence
from typing import Generic, TypedDict, TypeVar

from lxmert.metrics.foils import FoilScores, GroupScores
from lxmert.metrics.intervals import Limits
from lxmert.tasks.metrics import rows_by_kind

ScoresT = TypeVar("ScoresT", FoilScores, GroupScores, dict[str, float])


class KindReport(TypedDict, Generic[ScoresT]):
    """Scores of entries, such as pairs of a caption and a foil.

    Attributes:
        scores: `overall` and by kind.
        intervals: lower and upper limit of the 95% interval of each score, likewise.
        count: number of entries, likewise.
        warnings: what limits the meaning of the numbers.
    """

    scores: dict[str, ScoresT]
    intervals: dict[str, dict[str, Limits]]
    count: dict[str, int]
    warnings: list[str]


def report_by_kind(
    kinds: Sequence[str],
    score: Callable[[list[int]], ScoresT],
    limits: Callable[[list[int]], dict[str, Limits]],
    *,
    warnings: list[str],
) -> KindReport[ScoresT]:
    """Score all entries, and those of each kind.

    Args:
        kinds: of each entry; empty for none.
        score: returns the scores of the entries with some indices.
        limits: returns the limits of their intervals.
        warnings: what limits the meaning of the numbers.
    """
    rows = rows_by_kind(kinds)
    return {
        "scores": {name: score(own) for name, own in rows.items()},
        "intervals": {name: limits(own) for name, own in rows.items()},
        "count": {name: len(own) for name, own in rows.items()},
        "warnings": warnings,
    }
