"""Writes the results of a study as one HTML page without external resources."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lxmert.explain.faithfulness import MODALITIES
from lxmert.explain.report import ABOUT
from lxmert.files import write_text
from lxmert.names import count
from lxmert.study.summary import summarize
from lxmert.study.trust import CHECKS, COMPARED
from lxmert.templates import fill

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the page of a report of `lxmert.study.run.study_model`."""
    modality, confidence = report["modality"], report["confidence"]
    explained = _num_explained(report["explanations"] or {})
    page = fill(
        _TEMPLATE,
        **report,
        summary=summarize(report),
        methods={name: ABOUT[name][1].partition(". ")[0].rstrip(".") for name in COMPARED},
        checks=[[f"{side}, {check}" for check in CHECKS.values()] for side in MODALITIES],
        questions=count(report["count"], "question"),
        num_contributions=modality and count(modality["count"], "question"),
        num_explained=count(explained, "question"),
        num_tested=count(confidence["count"], "question"),
        figure=Markup(_draw(confidence)),
    )
    write_text(path, page)


def _num_explained(found: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the number of explained questions: measures may be undefined for some of them."""
    measures = (each for row in found.values() for each in row.values() if each)
    return int(max((each["count"] for each in measures), default=0))


def _draw(found: Mapping[str, Any]) -> str:
    """Return the reliability diagram and the risk-coverage curve as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for low, high, _, accuracy, number in found["bins"]:
        share = 0.25 + 0.75 * number / found["count"]
        left.bar(low, accuracy, width=high - low, align="edge", color="#2b6cb0", alpha=share)
    left.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="Reliability")
    right.step([0, *found["coverage"]], [found["risk"][0], *found["risk"]], where="post")
    right.axhline(found["accepted_risk"], color="0.6", linewidth=1)
    right.set(xlabel="coverage", ylabel="risk", xlim=(0, 1), title="Risk and coverage")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    text = StringIO()
    figure.savefig(
        text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    return "<svg" + text.getvalue().partition("<svg")[2]
