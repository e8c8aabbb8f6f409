"""Says in a few sentences what a study has found."""

from collections.abc import Mapping
from typing import Any

_FEWEST = 10
"""Questions of a type below which its accuracy is not called out."""

_NOTICEABLE = 0.005
"""Difference of AOPC from a random order below which no explanation is called better."""

_DEPENDS = 0.9
"""Rank correlation with a random answer head from which an explanation does not depend on it."""


def summarize(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about a report of `lxmert.study.run.study_model`.

    They say what the model can tell apart, whether it looks at the image, which explanation to
    trust, and where it is unsure.
    """
    return [*_tells_apart(report), *_looks(report), *_trusts(report), *_is_unsure(report)]


def _tells_apart(report: Mapping[str, Any]) -> list[str]:
    accuracy = report["accuracy"]
    text = (
        f"It answers {accuracy['overall']:.1%} ({_span(report['intervals']['overall'])}) of "
        f"{report['count']:,} questions correctly"
    )
    enough = [
        name for name, number in report["counts"].items() if number >= _FEWEST and name != "overall"
    ]
    if len({accuracy[name] for name in enough}) > 1:
        best, worst = max(enough, key=accuracy.__getitem__), min(enough, key=accuracy.__getitem__)
        text += (
            f"; most of the type {best!r} ({accuracy[best]:.1%}), fewest of {worst!r} "
            f"({accuracy[worst]:.1%})"
        )
    return [text + ".", *_foils(report["foils"])]


def _foils(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    pairwise = {name: each["pairwise_accuracy"] for name, each in found["scores"].items()}
    text = (
        "It gives a caption a higher match than the same caption with one error in "
        f"{pairwise['overall']:.1%} ({_span(found['intervals']['overall']['pairwise_accuracy'])}) "
        f"of {found['count']['overall']:,} pairs (chance: 50%)"
    )
    worst = min(pairwise, key=pairwise.__getitem__)
    if worst != "overall":
        text += f"; fewest if the error is of the kind {worst!r} ({pairwise[worst]:.1%})"
    return [f"{text}."]


def _looks(report: Mapping[str, Any]) -> list[str]:
    image = report["robustness"]["image exchanged"]
    question = report["robustness"]["question exchanged"]
    lines = [
        f"With a random other image, {image['same_answer']:.1%} "
        f"({_span((image['same_low'], image['same_high']))}) of its answers stay the same (100%: "
        f"it ignores the image), and its accuracy is {image['accuracy']:.1%}. With a random other "
        f"question, {question['same_answer']:.1%} "
        f"({_span((question['same_low'], question['same_high']))}) stay the same (100%: it ignores "
        "the question)."
    ]
    if report["modality"] is not None:
        share = report["modality"]["text_share"]
        lines.append(
            f"Words make up {share['mean']:.1%} ({_span((share['low'], share['high']))}) of the "
            "contributions of words and regions to its answers (T-SHAP; 0%: it uses the image "
            "alone, 100%: the question alone)."
        )
    return lines


def _trusts(report: Mapping[str, Any]) -> list[str]:
    found = report["explanations"]
    if found is None:
        return []
    lines = []
    aopc = {name: each["AOPC"]["mean"] for name, each in found.items() if each["AOPC"]}
    if aopc:
        best = max(aopc, key=aopc.__getitem__)
        if aopc[best] - aopc["random"] < _NOTICEABLE:
            lines.append(
                "No explanation finds better than a random order what the probability of an answer "
                "depends on (AOPC)."
            )
        else:
            lines.append(
                f"Explanations by {best!r} find best what an answer depends on: its probability "
                f"falls by {aopc[best]:.2f} on average if words and regions are removed in their "
                f"order, and by {aopc['random']:.2f} in a random order (AOPC)."
            )
    deaf = [name for name, each in found.items() if _correlation(each) >= _DEPENDS]
    if deaf:
        lines.append(
            f"Explanations by {', '.join(map(repr, deaf))} hardly depend on what the answer head "
            "has learned: with random weights in it, they stay nearly the same (rank correlation "
            f"of {_DEPENDS} or more)."
        )
    return lines


def _correlation(measures: Mapping[str, Any]) -> float:
    """Return the higher of the correlations of words and regions with a random answer head."""
    names = ("words, random answer head", "regions, random answer head")
    known = [measures[name]["mean"] for name in names if measures.get(name)]
    return max(known, default=0.0)


def _is_unsure(report: Mapping[str, Any]) -> list[str]:
    found = report["confidence"]
    text = (
        "Its confidence differs from its accuracy by "
        f"{found['calibration_error'] * 100:.1f} points on average (calibration error; "
        f"{_span(found['calibration_interval'])})"
    )
    if found["threshold"] is None:
        return [
            f"{text}. Above no threshold of its confidence are at most "
            f"{found['accepted_risk']:.0%} of the answers wrong."
        ]
    return [
        f"{text}. To give at most {found['accepted_risk']:.0%} wrong answers, it should answer "
        f"only if its confidence is at least {found['threshold']:.2f}, as for "
        f"{found['answered']:.1%} of the questions."
    ]


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f}"
