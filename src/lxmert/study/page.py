"""Writes the results of a study as one HTML page without external resources."""

import html
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.explain.faithfulness import MODALITIES
from lxmert.files import write_text
from lxmert.names import count
from lxmert.study.summary import summarize
from lxmert.study.trust import CHECKS

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
        f"<p>{count(report['count'], 'question')} of {html.escape(str(report['data']))}. All "
        "intervals are 95 % confidence intervals for which images, not questions, are resampled; "
        "an interval without width (all values are equal, or of one image) is no certainty. "
        f"Seed {report['seed']}.</p>",
        _in_short(report),
        _accuracy(report),
        _foils(report),
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


def _in_short(report: Mapping[str, Any]) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in summarize(report))
    return f"<h2>In short</h2><ul>{lines}</ul>"


def _accuracy(report: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{report['counts'][name]:,}", f"{value:.1%}", _span(*report["intervals"][name]))
        for name, value in report["accuracy"].items()
    ]
    return (
        "<h2>Accuracy by question type</h2><p>Share of right answers; with several accepted "
        "answers, their mean score.</p>"
        + _table(("question type", "questions", "accuracy", "interval"), rows)
    )


def _foils(report: Mapping[str, Any]) -> str:
    found = report["foils"]
    if found is None:
        return ""
    rows = [
        (
            name,
            f"{found['count'][name]:,}",
            f"{scores['pairwise_accuracy']:.1%}",
            _span(*found["intervals"][name]),
            f"{scores['accuracy']:.1%}",
            f"{scores['auroc']:.2f}",
        )
        for name, scores in found["scores"].items()
    ]
    head = ("phenomenon", "pairs", "pairwise accuracy", "interval", "accuracy", "AUROC")
    return (
        "<h2>Captions against foils: what it can tell apart</h2>"
        "<p>A foil is a caption with one wrong detail. <b>Pairwise accuracy</b>: share of pairs in "
        "which the caption matches the image better than the foil (chance 50 %). "
        "<b>Accuracy</b>: share of captions above, and of foils below, a match of 50 % (chance "
        "50 %). <b>AUROC</b>: probability that a random caption scores higher than a random foil "
        "(chance 0.5). Scores of VALSE "
        "(Parcalabescu et al. 2022).</p>" + _table(head, rows)
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
        f"regions, mean over {count(found['count'], 'question')} (T-SHAP of MM-SHAP, "
        "Parcalabescu and Frank 2023). Near 0 % or 100 %, a model uses one modality only.</p>"
    )


def _trust(report: Mapping[str, Any]) -> str:
    found = report["explanations"]
    if found is None:
        return ""
    removal = ("words removed", "regions removed")
    signs = ("wrong sign, words", "wrong sign, regions")
    return (
        "<h2>Explanations: which to trust</h2>"
        "<p>An explanation gives each word and region a relevance for the answer. Four tests show "
        "whether it is faithful to the model; the row <b>random</b> is a random order, for "
        "reference.</p>"
        "<h3>Confidence without, or with only, the most relevant</h3>"
        "<p>Differences of the answer's probability, -1 to 1. <b>AOPC</b>: mean drop without the "
        "top 5 to 100 % of the words and regions; <b>Del@15</b>: that drop at 15 %; "
        "<b>Ins@15</b>: gain over an empty input with only the top 15 %. High is good (Samek et "
        "al. 2017).</p>"
        + _measures(found, ("AOPC", "Del@15", "Ins@15"))
        + "<h3>Accuracy while the most relevant are removed</h3>"
        "<p>Area, 0 to 100, under the accuracy while 0 to 100 % of the words, or of the regions, "
        "are removed, the most relevant first. Low is good (Chefer, Gur and Wolf 2021).</p>"
        + _measures(found, removal, digits=1)
        + "<h3>Wrong signs</h3>"
        "<p>Share of questions, 0 to 1, in which removing the word or region with the largest "
        "score changes the answer's probability against the sign of that score. Low is good, "
        "chance is 0.5; occlusion has none by definition (Liu et al. 2022).</p>"
        + _measures(found, signs)
        + "<h3>Sanity checks</h3>"
        "<p>Rank correlation, -1 to 1, of an explanation with that of a model with random weights "
        "in the answer head or everywhere, and with that of another, random answer. Near 0 is "
        "good: at 1, the explanation does not depend on what the model has learned, or on the "
        "answer (Adebayo et al. 2018).</p>" + "".join(_checks(found, side) for side in MODALITIES)
    )


def _checks(found: Mapping[str, Mapping[str, Any]], side: str) -> str:
    """Return the table of the sanity checks of words or regions."""
    return _measures(found, [f"{side}, {check}" for check in CHECKS.values()])


def _measures(
    found: Mapping[str, Mapping[str, Any]], measures: Sequence[str], *, digits: int = 2
) -> str:
    """Return a table of some measures of those methods that have them."""
    rows = [
        (
            method.replace("_", " "),
            *(
                "not defined"
                if values[name] is None
                else f"{values[name]['mean']:.{digits}f} "
                f"({values[name]['low']:.{digits}f} to {values[name]['high']:.{digits}f})"
                for name in measures
            ),
        )
        for method, values in found.items()
        if set(measures) <= values.keys()
    ]
    return _table(("method", *measures), rows)


def _confidence(report: Mapping[str, Any]) -> str:
    found = report["confidence"]
    risk = f"a risk of {found['accepted_risk']:.0%} wrong answers"
    answering = f"No confidence threshold has {risk} on the validation half."
    if found["threshold"] is not None:
        answering = (
            f"A confidence threshold of {found['threshold']:.3f} has {risk} on the validation "
            f"half. Above it, the model answers {found['answered']:.1%} of the questions "
            f"(coverage), and {found['answered_risk'] or 0:.1%} of these answers are wrong (risk)."
        )
    return (
        "<h2>Calibration and risk</h2>"
        "<p>Confidence is the probability of the best answer. Temperature and threshold are fitted "
        "on half of the images (validation); the numbers are those of the other half, "
        f"{count(found['count'], 'question')}. The expected calibration error, the mean difference "
        "between confidence and accuracy in 15 bins (0 is best), is "
        f"<b>{found['calibration_error'] * 100:.1f} points</b>, and "
        f"{found['calibrated_error'] * 100:.1f} after dividing the logits by the temperature "
        f"{found['temperature']:.2f} (Guo et al. 2017). {answering}</p>"
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
