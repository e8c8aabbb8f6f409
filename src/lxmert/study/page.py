"""Writes the results of a study as one HTML page without external resources."""

import html
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.explain.faithfulness import MODALITIES
from lxmert.explain.report import ABOUT
from lxmert.files import write_text
from lxmert.names import count
from lxmert.study.summary import summarize
from lxmert.study.trust import CHECKS, COMPARED

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
    "image exchanged": "the question is asked about a random other image",
    "question exchanged": "a random other question is asked about the image, so that its answer "
    "is compared with the original one, but not scored",
    "features zero": "the regions keep their boxes, but all features are zero",
    "half of the regions": "a random half of the regions is dropped",
    "noisy features": "Gaussian noise of half a standard deviation is added to the features",
}


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the page of a report of `lxmert.study.run.study_model`."""
    parts = [
        f"<h1>Study of {html.escape(str(report['model']))}</h1>",
        f"<p>{count(report['count'], 'question')} of {html.escape(str(report['data']))}; the seed "
        f"of all random choices is {report['seed']}. Two numbers joined by <i>to</i> are a 95 % "
        "confidence interval (bootstrap; images are resampled, not questions). If all values are "
        "equal, or come from one image, an interval has no width, which does not mean certainty. A "
        "point is one percentage point. Regions are the objects that the detector has found in an "
        "image. The page <i>Studies of a model</i> of the documentation defines all numbers.</p>",
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
        "<h2>Accuracy by question type</h2><p>Share of correct answers, 0 to 100 %; high is good. "
        "If a question accepts several answers, each counts with its score. The types are the "
        "<code>question_type</code> of the data.</p>"
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
            *(
                cell
                for score in ("pairwise_accuracy", "accuracy", "auroc")
                for cell in (f"{scores[score]:.1%}", _span(*found["intervals"][name][score]))
            ),
        )
        for name, scores in found["scores"].items()
    ]
    head = ["phenomenon", "pairs"]
    for title in ("pairwise accuracy", "accuracy", "AUROC"):
        head += [title, "interval"]
    return (
        "<h2>Captions against foils: what it can tell apart</h2>"
        "<p>A foil is a caption with one error; the phenomenon is its kind. The match is the "
        "model's probability that a text describes the image. All scores are from 0 to 100 %, high "
        "is good, and chance is 50 %. <b>Pairwise accuracy</b>: share of pairs whose caption has a "
        "higher match than the foil. <b>Accuracy</b>: share of texts judged correctly, which are "
        "captions with a match above 50 % and foils with one below. <b>AUROC</b>: probability that "
        "a random caption has a higher match than a random foil. These are scores of VALSE "
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
        "<p>Each question is answered again after one change. <b>Accuracy</b>: share of the new "
        "answers that are correct for the original question and image, 0 to 100 %. <b>Same "
        "answer</b>: share of questions whose answer stays as it was, 0 to 100 %. After an "
        "exchange, or with zero features, both are low if the model uses what was exchanged; at "
        "100 % same answers it ignores it. With noise, high is good. Image and question bias as "
        "measured by V\u00e4th et al. 2021.</p>"
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
        f"<p><b>T-SHAP</b> is <b>{share['mean']:.1%}</b> ({_span(share['low'], share['high'])}), "
        f"the mean over {count(found['count'], 'question')}. The Shapley value of a word or region "
        "is its mean contribution to the probability of the given answer, over all sets of the "
        "others; T-SHAP is the sum of the absolute values of the words, divided by that of words "
        "and regions. At 0 %, the answer depends on the image alone, at 100 % on the question "
        "alone; neither is better. With more than ten words and regions, the values are estimated "
        f"from {found['samples']:,} sets, and T-SHAP is comparable only for this number (MM-SHAP, "
        "Parcalabescu and Frank 2023, equations 2 to 4).</p>"
    )


def _trust(report: Mapping[str, Any]) -> str:
    found = report["explanations"]
    if found is None:
        return ""
    removal = ("words removed", "regions removed")
    signs = ("wrong sign, words", "wrong sign, regions")
    return (
        "<h2>Explanations: which to trust</h2>"
        "<p>An explanation gives each word and region a relevance for the model's answer. Four "
        "tests show whether the relevances are faithful, which means that the answer depends on "
        f"what they name. They were run on {count(_most(found), 'question')}. The row "
        "<b>random</b> has random relevances, for comparison.</p>"
        f"<p>{_methods()}</p>"
        "<h3>Probability of the answer after removal</h3>"
        "<p>Differences of probabilities, -1 to 1; high is good. <b>AOPC</b>: how much the "
        "probability of the answer falls if the most relevant 5, 10, 15, 20, 30 ... 100 % of the "
        "words and of the regions are removed, mean over these percentages. <b>Del@15</b>: how "
        "much it falls if 15 % are removed. <b>Ins@15</b>: how much higher it is with the most "
        "relevant 15 % than with no words and regions (Samek et al. 2017, equation 12).</p>"
        + _measures(found, ("AOPC", "Del@15", "Ins@15"))
        + "<h3>Accuracy after removal</h3>"
        "<p>The most relevant 0, 25, 50, 75, 80 ... 100 % of the words, or of the regions, are "
        "removed. The number is the area under the curve of the accuracy over these shares, 0 to "
        "100; low is good, since the accuracy then falls early (Chefer, Gur and Wolf 2021, section "
        "4).</p>" + _measures(found, removal, digits=1) + "<h3>Wrong signs</h3>"
        "<p>A positive relevance says that a word or region supports the answer. Its sign is wrong "
        "if the probability of the answer rises without it; that of a negative relevance, if it "
        "falls. The number is the share of questions, 0 to 100 %, in which the word (or region) "
        "with the largest absolute relevance has the wrong sign; low is good, and random signs "
        "have 50 %. Occlusion has 0 % by definition (Liu et al. 2022, section 3).</p>"
        + _measures(found, signs, percent=True)
        + "<h3>Sanity checks</h3>"
        "<p>An explanation is compared with a second one by the same method: for the model with "
        "random weights in the answer head, for the model with all weights random, or for another "
        "answer, drawn at random. The number is Spearman's rank correlation of both, -1 to 1; near "
        "0 is good. At 1, the explanation does not depend on these weights, or on the answer "
        "(Adebayo et al. 2018; another answer: Sixt et al. 2020).</p>"
        + "".join(_checks(found, side) for side in MODALITIES)
    )


def _checks(found: Mapping[str, Mapping[str, Any]], side: str) -> str:
    """Return the table of the sanity checks of words or regions."""
    return _measures(found, [f"{side}, {check}" for check in CHECKS.values()])


def _methods() -> str:
    """Return what each of the compared methods is, as one sentence each."""
    return " ".join(
        f"<b>{method}</b>: {html.escape(ABOUT[method][1].partition('. ')[0].rstrip('.'))}."
        for method in COMPARED
    )


def _most(found: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the number of explained questions: measures may be undefined for some of them."""
    return int(max(each["count"] for row in found.values() for each in row.values() if each))


def _measures(
    found: Mapping[str, Mapping[str, Any]],
    measures: Sequence[str],
    *,
    digits: int = 2,
    percent: bool = False,
) -> str:
    """Return a table of some measures of those methods that have them."""
    form = ".0%" if percent else f".{digits}f"
    rows = [
        (
            method.replace("_", " "),
            *(
                "not defined"
                if values[name] is None
                else f"{values[name]['mean']:{form}} "
                f"({values[name]['low']:{form}} to {values[name]['high']:{form}})"
                for name in measures
            ),
        )
        for method, values in found.items()
        if set(measures) <= values.keys()
    ]
    return _table(("method", *measures), rows)


def _confidence(report: Mapping[str, Any]) -> str:
    found = report["confidence"]
    risk = f"a risk of at most {found['accepted_risk']:.0%} wrong answers"
    answering = f"No threshold of the confidence has {risk} on the first half."
    wrong = ""
    if found["answered_risk"] is not None:
        wrong = (
            f", and {found['answered_risk']:.1%} ({_span(*found['risk_interval'])}) of their "
            "answers are wrong (risk; low is good)"
        )
    if found["threshold"] is not None:
        answering = (
            f"The lowest threshold of the confidence with {risk} on the first half is "
            f"{found['threshold']:.3f}. On the second half, {found['answered']:.1%} "
            f"({_span(*found['answered_interval'])}) of the questions reach it (coverage; high is "
            f"good){wrong} (Geifman and El-Yaniv 2017)."
        )
    return (
        "<h2>Calibration and risk</h2>"
        "<p>The confidence is the probability of the model's best answer, 0 to 1. A temperature "
        "and a threshold are fitted on the questions about one half of the images; all numbers are "
        f"those of the second half, {count(found['count'], 'question')}. The expected calibration "
        "error is the mean absolute difference between confidence and accuracy, in 15 bins of "
        "confidence weighted by their answers, 0 to 100 points; low is good. It is "
        f"<b>{_points(found['calibration_error'], found['calibration_interval'])}</b>, and "
        f"{_points(found['calibrated_error'], found['calibrated_interval'])} if the logits are "
        f"divided by the temperature {found['temperature']:.2f} (Guo et al. 2017). {answering}</p>"
        f"<figure>{_figure(found)}</figure>"
        '<p class="note">Left: accuracy of the answers in each bin of confidence, the darker the '
        "more answers; on the diagonal, both are equal. Right: share of wrong answers (risk) if "
        "only this share of the questions is answered, the most confident first (coverage); the "
        f"gray line is the accepted risk, {found['accepted_risk']:.0%}.</p>"
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
    right.set(xlabel="coverage", ylabel="risk", xlim=(0, 1))
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


def _points(error: float, interval: tuple[float, float]) -> str:
    return f"{error * 100:.1f} points ({interval[0] * 100:.1f} to {interval[1] * 100:.1f})"


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
