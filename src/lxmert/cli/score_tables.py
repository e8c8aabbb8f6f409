"""Tables of scores, printed by the commands that evaluate, score and compare."""

from collections.abc import Mapping
from typing import Any

from lxmert.terminal import open_console, show_warning


def show_scores(report: Mapping[str, Any]) -> None:
    """Print accuracy by question type next to the baselines, from an `AnswerReport`."""
    from rich.table import Table
    from rich.text import Text

    from lxmert.names import count

    titles = {"accuracy": "accuracy", "question_only": "question only", "majority": "majority"}
    shown = {title: report[name] for name, title in titles.items() if report[name]}
    table = Table(box=None, pad_edge=False)
    table.add_column("question type", header_style="dim")
    for title in ("accuracy", "95 % interval", *list(shown)[1:]):
        table.add_column(title, justify="right", header_style="dim")
    for question_type in report["accuracy"]:
        first, *others = (f"{scores[question_type]:.1%}" for scores in shown.values())
        low, high = report["intervals"][question_type]
        table.add_row(Text(question_type), first, f"{low * 100:.1f} to {high * 100:.1f}", *others)
    console = open_console()
    console.print(table)
    console.print(f"scored: {count(report['count'], 'question')}")
    for warning in report["warnings"]:
        show_warning(warning)


def show_comparison(report: Mapping[str, Any]) -> None:
    """Print a `ComparisonReport`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("question type", header_style="dim")
    for title in ("first", "second", "difference", "95 % interval", "p", "questions"):
        table.add_column(title, justify="right", header_style="dim")
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
    console = open_console(highlight=False)
    console.print(table)
    if report["questions_needed"] is not None:
        console.print(
            f"A difference of one point would need about {report['questions_needed']:,} questions "
            "about different images (paired test, 5 % level, 80 % power)."
        )
    for warning in report["warnings"]:
        show_warning(warning)


def show_official_scores(title: str, scores: Mapping[str, object]) -> None:
    """Print official scores as a table, including those by type, steps or length."""
    from rich.table import Table
    from rich.text import Text

    from lxmert.explain.text import printable

    table = Table(box=None, pad_edge=False)
    table.add_column("score", header_style="dim")
    table.add_column("", justify="right")
    for name, value in scores.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        for part, number in parts.items():
            shown = f"{number:.4g}" if isinstance(number, float) else "not computed"
            table.add_row(Text(printable(f"{name}: {part}") if part != "" else name), shown)
    console = open_console(highlight=False)
    console.print(Text(title))
    console.print(table)


def show_matching(report: Mapping[str, Any]) -> None:
    """Print a `FoilReport`, `GroupReport` or `ConsensusReport`.

    The interval is that of the first score, or for groups and consensus of the last.
    """
    from rich.table import Table
    from rich.text import Text

    names = list(report["scores"]["overall"])
    of_interval = names[-1] if {"group", "consensus_1"} & set(names) else names[0]
    table = Table(box=None, pad_edge=False)
    table.add_column("", header_style="dim")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", header_style="dim")
        if name == of_interval:
            table.add_column("95 % interval", justify="right", header_style="dim")
    table.add_column("entries", justify="right", header_style="dim")
    for kind, scores in report["scores"].items():
        cells = []
        for name in names:
            cells.append(f"{scores[name] * 100:.1f}")
            if name == of_interval:
                low, high = report["intervals"][kind]
                cells.append(f"{low * 100:.1f} to {high * 100:.1f}")
        table.add_row(Text(kind), *cells, f"{report['count'][kind]:,}")
    open_console(highlight=False).print(table)
    for warning in report["warnings"]:
        show_warning(warning)


def show_probe(report: Mapping[str, Any]) -> None:
    """Print a `ProbeReport`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", header_style="dim")
    for title in ("accuracy", "95 % interval", "control", "selectivity", "95 % interval"):
        table.add_column(title, justify="right", header_style="dim")
    for layer, row in report["layers"].items():
        table.add_row(
            Text(layer),
            f"{row['accuracy']:.1%}",
            f"{row['low'] * 100:.1f} to {row['high'] * 100:.1f}",
            f"{row['control']:.1%}",
            f"{row['selectivity'] * 100:.1f}",
            f"{row['selectivity_low'] * 100:.1f} to {row['selectivity_high'] * 100:.1f}",
        )
    console = open_console(highlight=False)
    console.print(table)
    console.print(
        f"{report['label']}: {report['classes']:,} labels; the most frequent one would reach "
        f"{report['majority']:.1%}. {report['train']:,} training and {report['test']:,} test "
        "examples"
    )
    for warning in report["warnings"]:
        show_warning(warning)
