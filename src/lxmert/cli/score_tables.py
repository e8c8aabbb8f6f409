"""Tables of scores, printed by the commands that evaluate, score and compare."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lxmert.terminal import make_table, open_console, show_warning

if TYPE_CHECKING:
    from rich.table import Table


def show_scores(report: Mapping[str, Any]) -> None:
    """Print accuracy by question type next to the baselines, from an `AnswerReport`."""
    from rich.text import Text

    from lxmert.names import count

    titles = {"accuracy": "accuracy", "question_only": "question only", "majority": "majority"}
    shown = {title: report[name] for name, title in titles.items() if report[name]}
    numbers = ("accuracy", "95% interval", *list(shown)[1:])
    table = make_table("question type", *(f">{title}" for title in numbers))
    for question_type in report["accuracy"]:
        first, *others = (f"{scores[question_type]:.1%}" for scores in shown.values())
        low, high = report["intervals"][question_type]
        table.add_row(Text(question_type), first, _interval(low, high), *others)
    _print(table, f"scored: {count(report['count'], 'question')}", warnings=report["warnings"])


def show_robustness(report: Mapping[str, Any]) -> None:
    """Print an `AnswersReport`: the answers under each change, and the confidence in them."""
    from rich.text import Text

    from lxmert.names import count

    table = make_table("change", ">accuracy", ">95% interval", ">same answer", ">95% interval")
    for change, row in report["robustness"].items():
        cells = ["", ""]
        if row["accuracy"] is not None:
            cells = [f"{row['accuracy']:.1%}", _interval(row["low"], row["high"])]
        same = f"{row['same_answer']:.1%}", _interval(row["same_low"], row["same_high"])
        table.add_row(Text(change), *cells, *same)
    sure = report["confidence"]
    lines = [
        f"calibration error {sure['calibration_error']:.1%} "
        f"({_interval(*sure['calibration_interval'])}), with temperature "
        f"{sure['temperature']:.2f} {sure['calibrated_error']:.1%} "
        f"({_interval(*sure['calibrated_interval'])})"
    ]
    aim = f"{sure['accepted_risk']:.1%} wrong answers"
    if sure["threshold"] is None:
        lines.append(f"no threshold of confidence leaves {aim} or fewer")
    else:
        wrong = sure["answered_risk"]
        lines.append(
            f"confidence of {sure['threshold']:.2f} or more, chosen for {aim}: "
            f"{sure['answered']:.1%} ({_interval(*sure['answered_interval'])}) answered"
            + (
                ""
                if wrong is None
                else f", {wrong:.1%} ({_interval(*sure['risk_interval'])}) wrong"
            )
        )
    half = "(temperature and threshold from half of the images, the rest from the other half)"
    _print(table, f"scored: {count(report['count'], 'question')}", *lines, half, warnings=())


def show_comparison(report: Mapping[str, Any]) -> None:
    """Print a `ComparisonReport`."""
    from rich.text import Text

    numbers = ("first", "second", "difference", "95% interval", "p", "questions")
    table = make_table("question type", *(f">{title}" for title in numbers))
    for question_type, row in report["rows"].items():
        table.add_row(
            Text(question_type),
            f"{row['first']:.1%}",
            f"{row['second']:.1%}",
            f"{row['difference'] * 100:+.1f}",
            f"{row['low'] * 100:+.1f} to {row['high'] * 100:+.1f}",
            f"{row['p_value']:.3f}" if row["p_value"] >= 0.001 else "< 0.001",
            f"{row['count']:,}",
        )
    needed, lines = report["questions_needed"], []
    if needed is not None:
        lines.append(
            f"A difference of one point would need about {needed:,} questions about different "
            "images (paired test, 5% level, 80% power)."
        )
    _print(table, *lines, warnings=report["warnings"])


def show_official_scores(title: str, scores: Mapping[str, object]) -> None:
    """Print official scores as a table, including those by type, steps or length."""
    from rich.text import Text

    from lxmert.explain.text import printable

    table = make_table("score", ">")
    for name, value in scores.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        for part, number in parts.items():
            shown = f"{number:.4g}" if isinstance(number, float) else "not computed"
            table.add_row(Text(printable(f"{name}: {part}") if part != "" else name), shown)
    console = open_console(highlight=False)
    console.print(Text(title))
    console.print(table)


def show_matching(report: Mapping[str, Any]) -> None:
    """Print a `KindReport`: each score above its 95% interval."""
    from rich.text import Text

    names = list(report["scores"]["overall"])
    titles = (name.replace("_", " ") for name in names)
    table = make_table("", *(f">{title}" for title in titles), ">entries")
    for kind, scores in report["scores"].items():
        limits = report["intervals"][kind]
        cells = (f"{scores[name] * 100:.1f}\n" + _narrow_interval(*limits[name]) for name in names)
        table.add_row(Text(kind), *cells, f"{report['count'][kind]:,}")
    _print(table, "below each score: its 95% interval", warnings=report["warnings"])


def show_probe(report: Mapping[str, Any]) -> None:
    """Print a `ProbeReport`."""
    from rich.text import Text

    numbers = ("accuracy", "95% interval", "control", "selectivity", "95% interval")
    table = make_table("layer", *(f">{title}" for title in numbers))
    for layer, row in report["layers"].items():
        table.add_row(
            Text(layer),
            f"{row['accuracy']:.1%}",
            _interval(row["low"], row["high"]),
            f"{row['control']:.1%}",
            f"{row['selectivity'] * 100:.1f}",
            _interval(row["selectivity_low"], row["selectivity_high"]),
        )
    line = (
        f"{report['label']}: {report['classes']:,} labels; the most frequent one would reach "
        f"{report['majority']:.1%}. {report['train']:,} training and {report['test']:,} test "
        "examples"
    )
    _print(table, line, warnings=report["warnings"])


def _print(table: "Table", *lines: str, warnings: Sequence[str]) -> None:
    """Print a table, lines below it, and warnings on stderr."""
    console = open_console(highlight=False)
    console.print(table)
    for line in lines:
        console.print(line)
    for warning in warnings:
        show_warning(warning)


def _interval(low: float, high: float) -> str:
    return f"{low * 100:.1f} to {high * 100:.1f}"


def _narrow_interval(low: float, high: float) -> str:
    """Return at most nine characters, of which five columns fit into a line of 80."""
    return _interval(low, high).replace("100.0", "100").replace(" to ", "-")
