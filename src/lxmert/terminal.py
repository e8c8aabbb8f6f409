"""Terminal output of the command line: tables, progress, warnings."""

import logging
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

    from lxmert.explain.answered import AnsweredQuestion
    from lxmert.explain.explanation import Explanation
    from lxmert.explain.patterns import PatternScore


_logger = logging.getLogger(__name__)

_LOGGED_EVERY = 30.0
"""Seconds between two lines of progress where no bar can be drawn, as in a log file."""

_HIDDEN = {"Cc", "Cs"}
"""Unicode categories of control characters and surrogates."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_SHOWN, _CASES = 10, 3
"""Maximum number of rows to list, such as failures, and of cases of a finding."""


def open_console(*, stderr: bool = False, **options: Any) -> "Console":
    """Return a console that replaces control characters in texts from files and users.

    It is interactive, so that progress is shown, only if its stream is a terminal: Jupyter asks for
    colors in every output, and would keep each state of a bar as a line.
    """
    from rich.console import Console, RenderHook

    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty():
        options.setdefault("force_interactive", False)
    console = Console(stderr=stderr, **options)

    class Printable(RenderHook):
        def process_renderables(self, renderables: Any) -> Any:
            return [_PrintableText(renderable) for renderable in renderables]

    console.push_render_hook(Printable())
    return console


class _PrintableText:
    """A renderable without control characters in its texts; rich's own styles are kept."""

    def __init__(self, renderable: "RenderableType") -> None:
        self.renderable = renderable

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment

        for segment in console.render(self.renderable, options):
            if segment.control:
                yield segment
            else:
                text = escape_controls(segment.text, encoding=console.encoding)
                yield Segment(text, segment.style)


def escape_controls(text: str, *, encoding: str = "utf-8") -> str:
    """Replace control characters and unencodable characters; line breaks and tabs are kept.

    Bars become `#` if the encoding has no block character.
    """
    shown = "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in _HIDDEN else _REPLACEMENT
        for sign in text
    )
    try:
        shown.encode(encoding)
    except UnicodeEncodeError:
        shown = shown.replace("█", "#").replace("±", "+-").replace("↓", "v").replace("↑", "^")
        return shown.encode(encoding, "replace").decode(encoding)
    return shown


def make_table(*titles: str, **options: Any) -> "Table":
    """Return an empty table without lines.

    Args:
        titles: of the columns; `>` before a title aligns the column to the right.
        **options: further arguments of rich's `Table`.
    """
    from rich.table import Table

    table = Table(**{"box": None, "pad_edge": False, **options})
    for title in titles:
        justify: Any = "right" if title.startswith(">") else "left"
        table.add_column(title.removeprefix(">"), justify=justify, header_style="dim")
    return table


def say(text: str, *, error: bool = False) -> None:
    """Print plain text without control characters, on stderr if `error`."""
    stream = sys.stderr if error else sys.stdout
    print(escape_controls(text, encoding=stream.encoding or "utf-8"), file=stream)


_CHATTY = (
    "fontTools",
    "httpx",
    "httpx2",  # of newer clients of the hub
    "huggingface_hub",
    "matplotlib",
    "onnx_ir",
    "onnxscript",
    "torch.distributed",
    "transformers",
)


def quiet_libraries() -> None:
    """Silence the log messages of other libraries, below errors."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line on stderr."""
    from rich.markup import escape

    open_console(stderr=True, highlight=False).print(
        f"[bold yellow]Warning:[/] {escape(str(message))}", soft_wrap=True
    )


@contextmanager
def show_stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar per stage, one after the other, or log lines now and then."""
    with ExitStack() as bars:
        shown: dict[str, Callable[[int, int | None], None]] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                bars.close()
                shown.clear()
                shown[stage] = bars.enter_context(show_progress(stage))
            shown[stage](done, total or None)  # 0 means unknown
            if done == total:
                bars.close()
                shown.clear()

        yield advance


@contextmanager
def show_progress(unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar with the remaining time, or log a line now and then."""
    with show_steps(unit) as (advance,):
        yield advance


@contextmanager
def show_steps(*units: str) -> Iterator[list[Callable[[int, int | None], None]]]:
    """Show a progress bar for each step of a job, or log lines now and then."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    console = open_console(stderr=True)
    if not console.is_interactive:
        yield [_log_progress(unit) for unit in units]
        return
    with progress.Progress(*columns, console=console) as bar:

        def add(unit: str) -> Callable[[int, int | None], None]:
            row = bar.add_task(unit, total=None)
            return lambda done, total: bar.update(row, completed=done, total=total)

        yield [add(unit) for unit in units]


def _log_progress(unit: str) -> Callable[[int, int | None], None]:
    """Return a function that logs the progress of a step, at most every `_LOGGED_EVERY` seconds.

    The remaining time is that at the mean speed since its first call: what is done by then comes
    from an interrupted run.
    """
    started: tuple[float, int] | None = None
    logged = time.monotonic()

    def advance(done: int, total: int | None) -> None:
        nonlocal started, logged
        now = time.monotonic()
        started = started or (now, done)
        if now - logged < _LOGGED_EVERY:
            return
        logged = now
        line = f"{unit}: {done:,}" if total is None else f"{unit}: {done:,} of {total:,}"
        start, before = started
        if total is not None and done > before:
            left = (now - start) / (done - before) * (total - done)
            line += f"  {timedelta(seconds=round(left))} left"
        _logger.info(line)

    return advance


@contextmanager
def show_downloads() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show a progress bar per file with size, speed and remaining time, on a terminal only."""
    from rich import progress

    console = open_console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_interactive) as bar:

        def start(name: str) -> Callable[[int, int], None]:
            row = bar.add_task(name, total=None)
            return lambda done, total: bar.update(row, completed=done, total=total)

        yield start


def show_explanation(explanation: "AnsweredQuestion", seconds: float, figure: Path | None) -> None:
    """Print answers and regions as two tables."""
    from rich.text import Text

    from lxmert.explain.text import percent, signed_percent

    console = open_console(highlight=False)
    best = explanation.answers[0].answer
    question = (explanation.question, "bold")
    console.print(Text.assemble("\n", question, "  ", (best, "bold green"), "\n"))
    answers = make_table("answer", ">probability", "")
    for answer in explanation.answers:
        answers.add_row(Text(answer.answer), percent(answer.score), "█" * round(30 * answer.score))
    console.print(answers)
    if explanation.same_without_image and explanation.without_image is not None:
        score = percent(explanation.without_image.score)
        if explanation.did_not_look:
            shown = f"[yellow]did not look: the answer is the same without the image ({score})[/]"
        else:
            shown = f"[dim]with all regions removed, the answer would be the same ({score})[/]"
        console.print(shown)
    regions = make_table("region", ">confidence", "relevance")
    for index in _most_relevant(explanation.relevance):
        score, relevance = explanation.regions.object_scores[index], explanation.relevance[index]
        shown = f"{signed_percent(relevance)} {'█' * round(30 * max(0.0, relevance))}"
        regions.add_row(Text(explanation.labels[index]), percent(float(score)), shown)
    console.print()
    console.print(regions)
    if (hidden := len(explanation.labels) - _SHOWN) > 0:
        console.print(f"[dim]and {hidden} regions with less relevance; --json lists all[/]")
    console.print(f"\n[dim]answered in {seconds:.2f} s[/]")
    if figure is not None:
        console.print(Text(f"image with the regions: {figure}", style="dim"))


def _most_relevant(relevance: Sequence[float]) -> list[int]:
    """Return the regions to list, in the order of their relevance, which may be negative."""
    strongest = sorted(range(len(relevance)), key=lambda i: -abs(relevance[i]))[:_SHOWN]
    return sorted(strongest, key=lambda i: -relevance[i])


def show_reasons(explanation: "Explanation") -> None:
    """Print the most relevant region and word for each answer, by the first method."""
    from rich.text import Text

    from lxmert.explain.text import percent

    console = open_console(highlight=False)
    best = explanation.answers[0].answer
    console.print(
        Text.assemble("\n", (explanation.question, "bold"), "  ", (best, "bold green"), "\n")
    )
    method = next(iter(explanation.by_method))
    table = make_table("answer", "probability", "most relevant region", "most relevant word")
    for answer, region, word in explanation.reasons()[:_SHOWN]:
        named = (Text(region or "none"), Text(word or "none"))
        table.add_row(Text(answer.answer), percent(answer.score), *named)
    console.print(table)
    if len(explanation.answers) > _SHOWN:
        console.print(f"and {len(explanation.answers) - _SHOWN} more answers")
    console.print(f"\n[dim]by {method.replace('_', ' ')}[/]")


def show_left_out(findings: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what is wrong with some questions, how many and the first case of each kind."""
    from rich.text import Text

    from lxmert.explain.text import printable

    console = open_console(highlight=False, soft_wrap=True)
    for text, found in findings.items():
        console.print(Text(printable(f"{text}: {found['count']} (first: {found['first'][0]})")))


def show_heads(
    shares: Mapping[str, "PatternScore"], findings: Mapping[str, Mapping[str, Any]]
) -> None:
    """Print for each pattern the head that follows it most, beside one that reads all alike.

    And below, what is wrong with questions that were left out.
    """
    from rich.text import Text

    from lxmert.explain.patterns import PATTERNS

    table = make_table("what is read", ">layer", ">head", ">share", ">all alike")
    for name, share in shares.items():
        layer, head = divmod(int(share.mean.argmax()), share.mean.shape[1])
        best = f"{share.mean[layer, head]:.0%}"
        row = (str(layer + 1), str(head + 1), best, f"{share.mean_even:.0%}")
        table.add_row(Text(PATTERNS[name].title), *row)
    open_console(highlight=False).print(table)
    show_left_out(findings)


def show_matches(ranked: Sequence[tuple[str, float]], seconds: float) -> None:
    """Print captions with the probabilities that they match, in the given order."""
    from rich.text import Text

    table = make_table("caption", ">matches", "")
    for caption, score in ranked:
        table.add_row(Text(caption), f"{score:.1%}", "█" * round(30 * score))
    console = open_console()
    console.print()
    console.print(table)
    console.print(f"\n[dim]matched in {seconds:.2f} s[/]")


def show_report(kind: str, facts: Mapping[str, object], parameters: Mapping[str, int]) -> None:
    """Print type and facts of a file or folder, and its parameters by group."""
    from rich.text import Text

    console = open_console(highlight=False)
    console.print(Text(f"\n{kind}\n", style="bold"), soft_wrap=True)
    table = make_table(show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, fact in facts.items():
        table.add_row(Text(name), Text(_shorten(fact)))
    console.print(table)
    if not parameters:
        return
    groups = make_table("layers", ">parameters")
    for name, count in parameters.items():
        groups.add_row(Text(name), f"{count:,}")
    groups.add_row(Text("in all", style="bold"), Text(f"{sum(parameters.values()):,}", "bold"))
    console.print()
    console.print(groups)


def show_findings(summary: Sequence[str], findings: Sequence[Mapping[str, Any]]) -> None:
    """Print summary and findings of a dataset check, as `Report` returns them."""
    from rich.markup import escape

    colors = {"stop": "bold red", "warn": "bold yellow", "note": "dim"}
    console = open_console(highlight=False, soft_wrap=True)  # a broken path cannot be copied
    for finding in findings:
        color = colors[finding["severity"]]
        console.print(f"[{color}]{finding['severity']}[/] {escape(finding['text'])}")
        for case in finding["cases"][:_CASES]:
            place = f"{case['file']}:{case['line']}" if case["line"] else case["file"]
            console.print(f"     {escape(f'{place}: ' if place else '')}{escape(case['detail'])}")
    console.print(escape("\n".join(summary)))


def show_made(made: Mapping[str, Any]) -> None:
    """Print the files of a dataset, its counts next to the published ones, and what was skipped."""
    from rich.markup import escape
    from rich.text import Text

    files = make_table("file", ">sentences", ">images")
    for name, file in made["files"].items():
        files.add_row(Text(name), f"{file['sentences']:,}", f"{file['images']:,}")
    checks = make_table(">found", ">published", "", "of")
    for check in made["checks"]:
        verdict = Text("as published", "green") if check["agrees"] else Text("differs", "yellow")
        what = f"{check['what']} ({check['source']})"
        checks.add_row(f"{check['found']:,}", f"{check['published']:,}", verdict, Text(what))
    console = open_console(highlight=False, soft_wrap=True)
    console.print(Text(str(made["folder"]), style="bold"))
    console.print(files)
    if made["checks"]:
        console.print()
        console.print(checks)
    for note in made["notes"]:
        console.print(f"note: {escape(note)}")
    for reason, found in made["left_out"].items():
        cases = ", ".join(found["first"][:3])
        count = f"{found['count']:,}"
        console.print(f"[bold yellow]{count}[/] {escape(f'{reason} (first: {cases})')}")


def show_published(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print published weights as a table, from the results of `lxmert.weights.describe`."""
    from rich.text import Text

    console = open_console(highlight=False)
    table = make_table("name", ">size", "fetched", "what it is")
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.0f} MB" if row["bytes"] else "unknown"
        table.add_row(row["name"], size, "yes" if row["folder"] else "no", Text(row["title"]))
    console.print(table)
    console.print("\nlxmert weights show NAME: files, addresses, scores, license")


def show_failures(reasons: Sequence[str], title: str) -> None:
    """Print a title and the first ten reasons on stderr."""
    from rich.markup import escape

    console = open_console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold yellow]{escape(title)}:[/]")
    for reason in reasons[:_SHOWN]:
        console.print(f"  {escape(reason)}")
    if len(reasons) > _SHOWN:
        console.print(f"  and {len(reasons) - _SHOWN} more")


def show_verdict(report: Mapping[str, Any]) -> None:
    """Print the checked facts, the agreement with published features, and all problems."""
    from rich.markup import escape

    show_report(f"{report['path']}: {report['kind']}", report["facts"], {})
    console = open_console(highlight=False, soft_wrap=True)
    if "photos" in report:
        _show_agreement([*report["photos"], report["mean"], report["expected"]])
    for problem in report["problems"]:
        console.print(f"[bold red]wrong:[/] {escape(problem)}")
    if not report["problems"]:
        console.print("\n[bold green]nothing is wrong[/]")


def _show_agreement(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a row per image, the mean and the expected values."""
    from rich.text import Text

    first, *others = (name.replace("_", " ") for name in rows[0])
    table = make_table(first, *(f">{name}" for name in others))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        cells = ("" if value is None else value for value in row.values())
        table.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else cell) for cell in cells))
    console = open_console(highlight=False)
    console.print()
    console.print(table)


def _shorten(fact: object) -> str:
    """Format a fact; a long list by its length and first entries."""
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list):
        shown = ", ".join(repr(entry) if entry == "" else str(entry) for entry in fact[:8])
        return f"{len(fact):,}: {shown}{', ...' if len(fact) > 8 else ''}"
    if isinstance(fact, float) and abs(fact) < 10_000:
        return f"{fact:.4g}"
    return f"{fact:,}" if isinstance(fact, int) else str(fact)
