"""The report of an ablation: one table as Markdown and JSON, and plots with error bars."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxmert.explain.plots import new_figure, save_plot
from lxmert.tasks.blind import GUESSES
from lxmert.tasks.metrics import OVERALL
from lxmert.whole_files import write_whole
from lxmert.workflows.ablation import Ablation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""Row -> compared stage -> metrics, one entry for each seed that is finished."""

_OURS, _PAPERS, _SOFT = "#3a6ec8", "#8a5a00", "#596069"
_PANEL_COLUMNS = 4


def write_report(ablation: Ablation, metrics: Metrics, output: Path) -> None:
    """Write `report.md` and `report.json`, as far as the runs have come."""
    output.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "name": row.name,
            "line": row.line,
            "at": row.at,
            "paper": row.paper,
            "metrics": metrics[row.name],
        }
        for row in ablation.rows
    ]
    content = {"title": ablation.title, "seeds": ablation.seeds, "rows": rows}
    write_whole(output / "report.json", json.dumps(content, indent=1) + "\n")
    write_whole(output / "report.md", as_markdown(ablation, metrics))


def as_markdown(ablation: Ablation, metrics: Metrics) -> str:
    """Return the tables: the compared scores, and each stage's other scores for learning curves."""
    lines = [
        f"# {ablation.title}",
        "",
        f"Mean and standard deviation over the seeds {', '.join(map(str, ablation.seeds))}, in "
        "percent. A number in brackets says how many of them are finished, where some are missing.",
        "",
    ]
    beside = _paper_columns(ablation)
    if beside:
        lines += ["Scores of the paper are on its own data: compare the order of rows only.", ""]
    titles = [_title(ablation, name) for name in ablation.compared]
    header = ["row", *titles, *(f"paper: {name}" for name in beside)]
    lines += [_table_row(header), _table_row(["---"] * len(header))]
    for row in ablation.rows:
        cells = [
            _cell([m[ablation.stages[stage].metric] for m in metrics[row.name][stage]], ablation)
            for stage in ablation.compared
        ]
        papers = [f"{row.paper[name]:.1f}" if name in row.paper else "" for name in beside]
        lines.append(_table_row([row.name, *cells, *papers]))
    guesses = {name: _guess(metrics, name) for name in ablation.compared}
    told = [f"{name} {100 * guess:.1f}" for name, guess in guesses.items() if guess is not None]
    if told:
        lines += ["", f"Guesses without a look at the pictures get: {', '.join(told)}."]
    if any(row.line for row in ablation.rows):
        for stage in ablation.compared:
            lines += ["", f"## {stage}, score by score", "", *_all_scores(ablation, metrics, stage)]
    return "\n".join(lines) + "\n"


def draw_report(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw dots with error bars beside the paper's, or learning curves where rows form lines.

    Args:
        ablation: what is compared.
        metrics: of the runs; rows without any finished run stay empty.
        path: picture to write; its ending decides the format.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    if any(row.line for row in ablation.rows):
        _draw_all_curves(ablation, metrics, path)
    else:
        _draw_all_dots(ablation, metrics, path)


def summarize(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation in percent; 0 for a single value."""
    percent = [100 * value for value in values]
    return statistics.mean(percent), statistics.stdev(percent) if len(percent) > 1 else 0.0


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: Sequence[float], ablation: Ablation) -> str:
    """Write a score with its spread."""
    if not values:
        return ""
    mean, spread = summarize(values)
    missing = len(values) < len(ablation.seeds)
    shown = f"{mean:.1f} ± {spread:.1f}" if len(values) > 1 else f"{mean:.1f}"
    return shown + (f" ({len(values)})" if missing else "")


def _score_names(ablation: Ablation, metrics: Metrics, stage: str) -> list[str]:
    """Return the names of a stage's scores, the compared one first."""
    first = ablation.stages[stage].metric
    found = {name: None for row in ablation.rows for m in metrics[row.name][stage] for name in m}
    return [first, *(name for name in found if name != first)]


def _all_scores(ablation: Ablation, metrics: Metrics, stage: str) -> list[str]:
    """Return a table with a column for every score of a stage."""
    names = _score_names(ablation, metrics, stage)
    lines = [_table_row(["row", *names]), _table_row(["---"] * (len(names) + 1))]
    for row in ablation.rows:
        runs = metrics[row.name][stage]
        cells = [_cell([m[name] for m in runs if name in m], ablation) for name in names]
        lines.append(_table_row([row.name, *cells]))
    return lines


def _draw_all_dots(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw the columns of the table side by side, ours before the paper's."""
    columns = len(ablation.compared) + len(_paper_columns(ablation))
    figure = new_figure(2.0 + 2.2 * columns, 1.2 + 0.36 * len(ablation.rows))
    figure.set_layout_engine("constrained")
    panels = iter(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    for name in ablation.compared:
        stage, axis = ablation.stages[name], next(panels)
        scores = [[m[stage.metric] for m in metrics[row.name][name]] for row in ablation.rows]
        axis.set_title(_title(ablation, name), fontsize=9, color=_OURS)
        _draw_dots(axis, scores, color=_OURS, marker="o")
        guess = _guess(metrics, name)
        if guess is not None:
            axis.axvline(100 * guess, color=_SOFT, linewidth=1, linestyle=":")
            axis.set_xlabel("% (dotted: blind guess)", fontsize=8)
    for data_set in _paper_columns(ablation):
        axis = next(panels)
        theirs = [
            [row.paper[data_set] / 100] if data_set in row.paper else [] for row in ablation.rows
        ]
        axis.set_title(f"paper: {data_set}", fontsize=9, color=_PAPERS)
        axis.set_facecolor("#faf6ee")
        _draw_dots(axis, theirs, color=_PAPERS, marker="D")
    first = figure.axes[0]
    first.set_yticks(range(len(ablation.rows)), [row.name for row in ablation.rows])
    first.set_ylim(len(ablation.rows) - 0.4, -0.6)
    save_plot(figure, path)


def _draw_dots(axis: "Axes", values: Sequence[Sequence[float]], *, color: str, marker: str) -> None:
    """Draw one column of the table from the top down, each score with its number."""
    axis.tick_params(labelsize=8)
    axis.set_xlabel("%", fontsize=8)
    axis.grid(alpha=0.3)
    axis.margins(x=0.25)  # room for the numbers
    for place, seeds in enumerate(values):
        if seeds:
            mean, spread = summarize(seeds)
            error = spread if len(seeds) > 1 else None
            axis.errorbar(mean, place, xerr=error, color=color, marker=marker, ms=5, capsize=2)
            axis.text(mean, place - 0.16, f"{mean:.1f}", ha="center", fontsize=7, color=color)


def _paper_columns(ablation: Ablation) -> list[str]:
    """Return the names of the published scores that stand beside ours."""
    return [name for stage in ablation.compared for name in ablation.stages[stage].paper]


def _title(ablation: Ablation, stage: str) -> str:
    """Name a score of ours so that nobody takes it for one of the paper's."""
    return f"here: {stage} ({ablation.stages[stage].metric})"


def _guess(metrics: Metrics, stage: str) -> float | None:
    """Return what the best guess without pictures gets; None where no run tells it yet."""
    runs = [m for row in metrics.values() for m in row[stage]]
    guesses = [max(m[name] for name in GUESSES if name in m) for m in runs if "majority" in m]
    return statistics.mean(guesses) if guesses else None


def _draw_all_curves(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw a panel for every score of the compared stages."""
    panels = [
        (stage, name)
        for stage in ablation.compared
        for name in _score_names(ablation, metrics, stage)
        if name not in GUESSES
    ]
    columns = min(len(panels), _PANEL_COLUMNS)
    lines = -(-len(panels) // columns)
    figure = new_figure(3.0 * columns, 2.6 * lines)
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis, (stage, score) in zip(axes, panels, strict=False):
        _draw_curves(axis, ablation, metrics, stage, score)
    for axis in axes[len(panels) :]:
        axis.remove()
    save_plot(figure, path)


def _draw_curves(
    axis: "Axes", ablation: Ablation, metrics: Metrics, stage: str, score: str
) -> None:
    """Draw one score against the number of examples, a line for each kind of row."""
    for line in dict.fromkeys(row.line for row in ablation.rows):
        points = []
        for row in ablation.rows:
            values = [m[score] for m in metrics[row.name][stage] if score in m]
            if row.line == line and values:
                points.append((row.at, *summarize(values)))
        if points:
            at, means, spreads = zip(*sorted(points), strict=True)
            axis.errorbar(at, means, yerr=spreads, marker="o", markersize=3, capsize=2, label=line)
    axis.set_xscale("log")
    numbers = sorted({row.at for row in ablation.rows if row.line})
    axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axis.minorticks_off()
    axis.set_title(f"{stage}: {score}", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if score in (OVERALL, ablation.stages[stage].metric):
        axis.set_xlabel("examples", fontsize=8)
        axis.set_ylabel("%", fontsize=8)
        axis.legend(fontsize=7)
