"""Prints the results of `lxmert explain-eval`."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from lxmert.names import count
from lxmert.terminal import make_table, open_console, show_left_out


def show_faithfulness(report: Mapping[str, Any]) -> None:
    """Print the results of `explain-eval` by method, as the protocol requires."""
    console = open_console(highlight=False)
    if report["protocol"] == "chefer":
        _show_areas(report)
    else:
        _show_measures(report)
    if report["left_out"]:
        console.print(f"left out: {count(report['left_out'], 'question')} without an answer")
    show_left_out(report["findings"])
    if report["unknown"] and report["protocol"] == "chefer":
        reported = "without an answer that the model can give"
        console.print(f"counted as wrong: {count(report['unknown'], 'question')} {reported}")


def show_modalities(report: Mapping[str, Any]) -> None:
    """Print the share of the words by group, from a report of `measure_modalities`."""
    console = open_console(highlight=False)
    kind = "text" if report["match"] else "question type"
    table = make_table(kind, ">words", ">95% interval", ">regions", ">count")
    for name, found in report["text_share"].items():
        if found is None:
            table.add_row(Text(name), "none", "", "none", "0")
            continue
        low, high = found["low"] * 100, found["high"] * 100
        shares = (f"{found['mean']:.1%}", f"{low:.1f} to {high:.1f}", f"{1 - found['mean']:.1%}")
        table.add_row(Text(name), *shares, f"{found['count']:,}")
    console.print(table)
    console.print(
        "\n[dim]share of words and of regions in the absolute Shapley values of "
        f"{'a match' if report['match'] else 'the best answer'} (T-SHAP and V-SHAP); near 0 or "
        "100% one modality decides alone[/]"
    )
    if report["left_out"]:
        console.print(f"left out: {count(report['left_out'], 'question')} without an answer")
    show_left_out(report["findings"])


def _show_areas(report: Mapping[str, Any]) -> None:
    """Print pointing accuracy and areas under the deletion curves (mean and spread) by method."""
    console = open_console(highlight=False)
    seeds = len(report["seeds"])
    reported = (
        f"{count(report['questions'], 'question')}, {report['accuracy']:.1%} answered correctly"
    )
    console.print(f"{reported}; areas 0 to 100, mean of {count(seeds, 'random order')}\n")
    panels = [(side, way) for side in ("words", "regions") for way in ("positive", "negative")]
    wishes = {"positive": "↓", "negative": "↑"}
    titles = (f">{side}\n{way} {wishes[way]}" for side, way in panels)
    table = make_table("method", ">points\nat it", *titles)
    table.columns[0].no_wrap = True
    for name, found in report["methods"].items():
        pointing = "" if found["pointing"] is None else f"{found['pointing']:.1%}"
        areas = [found[side][way]["areas"] for side, way in panels]
        cells = [f"{sum(a) / seeds:.1f} ± {(max(a) - min(a)) / 2:.1f}" for a in areas]
        table.add_row(Text(name), pointing, *cells)
    console.print(table)
    console.print(
        "\n[dim]positive: the most relevant are removed first, low is good\n"
        "negative: the least relevant are removed first, high is good[/]"
    )
    if not report["pointed"]:
        console.print("no pointing game: no question has 'boxes' of what it asks about")
    elif report["pointed"] < report["questions"]:
        console.print(f"pointing game on {count(report['pointed'], 'question')} with boxes")


_MEANINGS = {
    "aopc": (
        "AOPC: mean drop of the confidence without the top 5, 10, 15, 20, 30 ... 100% of words "
        "and regions; Del@15: that drop at 15%; Ins@15: gain over an empty input with only the "
        "top 15%; high is good"
    ),
    "sign": (
        "share of questions whose top score has the wrong sign: without that word or region, the "
        "probability of the answer changes the other way; low is good"
    ),
    "sanity": (
        "rank correlation with the explanation of a copy of the model that has random weights from "
        "the answer head down to the named layer, with that of another answer, and with that of "
        "the model of --against; near 0 is good"
    ),
}


def _show_measures(report: Mapping[str, Any]) -> None:
    """Print means with intervals by method; of the sanity checks the rank correlations."""
    console = open_console(highlight=False)
    console.print(f"{count(report['questions'], 'question')}; means and 95% intervals\n")
    sanity = report["protocol"] == "sanity"
    for title in ("words", "regions") if sanity else ("",):
        ending = f": {title}, Spearman"
        chosen = [name for name in report["measures"] if not sanity or name.endswith(ending)]
        numbers = (f">{name.removesuffix(ending)}" for name in chosen)
        table = make_table("\n".join(("method", title)).strip(), *numbers)
        table.columns[0].no_wrap = True
        for method, found in report["methods"].items():
            cells = [_interval(found[name], short=sanity) for name in chosen]
            table.add_row(Text(method), *cells)
        console.print(table)
        console.print()
    console.print(f"[dim]{_MEANINGS[report['protocol']]}[/]")


def _interval(found: Mapping[str, float] | None, *, short: bool) -> str:
    """Format a mean, and its interval unless there is no space for it."""
    if found is None:
        return "none"
    mean = f"{found['mean']:.2f}"
    return mean if short else f"{mean} ({found['low']:.2f} to {found['high']:.2f})"
