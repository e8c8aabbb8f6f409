"""Writes the results of a study as one HTML page without external resources."""

import html
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; }
td { white-space: nowrap; }
th, td { padding: 0.15rem 0.7rem 0.15rem 0; text-align: right; font-variant-numeric: tabular-nums; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid; }
.scroll { overflow-x: auto; }
figure { margin: 0; background: #fff; border-radius: 6px; display: inline-block; max-width: 100%; }
figure svg { max-width: 100%; height: auto; display: block; }
p.note { opacity: 0.75; }
"""

_CHANGES = {
    "original": "nothing is changed",
    "image exchanged": "the question is asked about another image",
    "question exchanged": "another question is asked about the image",
    "features zero": "the regions keep their boxes, but all features are zero",
    "half of the regions": "a random half of the regions is dropped",
    "noisy features": "noise of half a standard deviation is added to the features",
}


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the page of a report of `lxmert.study.run.study_model`."""
    parts = [
        f"<h1>Study of {html.escape(str(report['model']))}</h1>",
        f"<p>{report['count']:,} questions of {html.escape(str(report['data']))}. All intervals "
        "are 95 % confidence intervals for which images, not questions, are resampled. "
        f"Seed {report['seed']}.</p>",
        _accuracy(report),
        _robustness(report),
        _modality(report),
        _trust(report),
        _confidence(report),
    ]
    title = html.escape(f"Study of {report['model']}")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    write_text(path, page)


def _accuracy(report: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{value:.1%}", _span(*report["intervals"][name]))
        for name, value in report["accuracy"].items()
    ]
    return "<h2>Accuracy by question type</h2>" + _table(
        ("question type", "accuracy", "interval"), rows
    )


def _robustness(report: Mapping[str, Any]) -> str:
    rows = []
    for name, row in report["robustness"].items():
        accuracy = row["accuracy"]
        rows.append(
            (
                name,
                "" if accuracy is None else f"{accuracy:.1%}",
                "" if accuracy is None else _span(row["low"], row["high"]),
                f"{row['same_answer']:.1%}",
                _span(row["same_low"], row["same_high"]),
            )
        )
    head = ("change", "accuracy", "interval", "same answer", "interval")
    meanings = "; ".join(f"<b>{name}</b>: {text}" for name, text in _CHANGES.items())
    return (
        "<h2>Robustness: does it use the image</h2>"
        "<p>Each question is answered again after one change. A model that uses "
        "the image changes many answers when the image is exchanged, and its accuracy on the "
        "original answers falls to what guessing from the question gives.</p>"
        + _table(head, rows)
        + f'<p class="note">{meanings}.</p>'
    )


def _modality(report: Mapping[str, Any]) -> str:
    found = report["modality"]
    if found is None:
        return ""
    share = found["text_share"]
    return (
        "<h2>Modality contribution</h2>"
        f"<p>The question contributes <b>{share['mean']:.1%}</b> "
        f"({_span(share['low'], share['high'])}) to the probability of the given answers, the "
        "image the rest: the share of the words in the absolute Shapley values of words and "
        f"regions, mean over {found['count']:,} questions (T-SHAP of MM-SHAP, "
        "Parcalabescu and Frank 2023). Near 0 % or 100 %, a model uses one modality only.</p>"
    )


def _trust(report: Mapping[str, Any]) -> str:
    found = report["explanations"]
    if found is None:
        return ""
    measures = list(next(iter(found.values())))
    rows = [
        (
            method.replace("_", " "),
            *(
                ""
                if each is None
                else f"{each['mean']:.2f} ({each['low']:.2f} to {each['high']:.2f})"
                for each in values.values()
            ),
        )
        for method, values in found.items()
    ]
    return (
        "<h2>Explanations: which to trust</h2>"
        "<p>The most relevant words and regions of each explanation are removed, and the question "
        "is answered again. <b>AOPC</b>: mean drop of the confidence without the top 5 to 100 %; "
        "<b>Del@15</b>: that drop at 15 %; <b>Ins@15</b>: gain over an empty input with only the "
        "top 15 % (high is good). <b>Wrong sign</b>: share of questions in which the answer's "
        "probability changes the other way than the top score says (low is good; occlusion has "
        "none by definition).</p>" + _table(("method", *measures), rows)
    )


def _confidence(report: Mapping[str, Any]) -> str:
    found = report["confidence"]
    answering = "No confidence threshold reaches"
    if found["threshold"] is not None:
        answering = (
            f"Answering only above a confidence of {found['threshold']:.3f}, a threshold that has "
            f"this risk on the validation half, it answers {found['answered']:.1%} of the "
            f"questions, and {found['answered_risk'] or 0:.1%} of these answers are wrong. It "
            "was chosen for"
        )
    return (
        "<h2>Calibration and risk</h2>"
        f"<p>Half of the images are for validation; the numbers are those of the other half, "
        f"{found['count']:,} questions. The expected calibration error, the mean distance between "
        f"confidence and accuracy, is <b>{found['calibration_error'] * 100:.1f} points</b>, and "
        f"{found['calibrated_error'] * 100:.1f} after dividing the logits by the temperature "
        f"{found['temperature']:.2f}. {answering} a risk of {found['accepted_risk']:.0%}.</p>"
        f"<figure>{_figure(found)}</figure>"
        '<p class="note">Left: accuracy of the answers in each bin of confidence; on the diagonal, '
        "confidence is accuracy. Right: share of wrong answers if only the most confident "
        "questions are answered.</p>"
    )


def _figure(found: Mapping[str, Any]) -> str:
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
    right.set(xlabel="answered share", ylabel="share of wrong answers", xlim=(0, 1))
    right.set_ylim(bottom=0)
    right.set_title("Risk and coverage")
    _no_frame((left, right))
    text = StringIO()
    figure.savefig(
        text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def _no_frame(axes: Sequence["Axes"]) -> None:
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)


def _span(low: float, high: float) -> str:
    return f"{low * 100:.1f} to {high * 100:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
