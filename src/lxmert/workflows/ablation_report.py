"""The report of an ablation: one table as Markdown and JSON, and plots with error bars."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxmert.explain.plots import new_figure, save_plot
from lxmert.tasks.metrics import OVERALL
from lxmert.whole_files import write_whole
from lxmert.workflows.ablation import Ablation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""Row -> compared stage -> metrics, one entry for each seed that is finished."""

_OURS, _PAPERS = "#3a6ec8", "#a9b4c4"
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
        f"Mean and standard deviation over {len(ablation.seeds)} seeds "
        f"({', '.join(map(str, ablation.seeds))}), in percent. A number in brackets says how many "
        "seeds are finished, where some are missing. Scores of the paper are on its own data.",
        "",
    ]
    beside = [name for stage in ablation.compared for name in ablation.stages[stage].paper]
    titles = [*(f"{name}: {ablation.stages[name].metric}" for name in ablation.compared)]
    header = ["row", *titles, *(f"paper: {name}" for name in beside)]
    lines += [_table_row(header), _table_row(["---"] * len(header))]
    for row in ablation.rows:
        cells = [
            _cell([m[ablation.stages[stage].metric] for m in metrics[row.name][stage]], ablation)
            for stage in ablation.compared
        ]
        papers = [f"{row.paper[name]:.1f}" if name in row.paper else "" for name in beside]
        lines.append(_table_row([row.name, *cells, *papers]))
    if any(row.line for row in ablation.rows):
        for stage in ablation.compared:
            lines += ["", f"## {stage}, score by score", "", *_all_scores(ablation, metrics, stage)]
    return "\n".join(lines) + "\n"


def draw_report(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw bars with error bars beside the paper's, or learning curves where rows form lines.

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
        _draw_all_bars(ablation, metrics, path)


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
    return f"{mean:.1f} ± {spread:.1f}" + (f" ({len(values)})" if missing else "")


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


def _draw_all_bars(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw the columns of the table side by side, each of the paper's behind ours."""
    columns: list[tuple[str, str, list[list[float]]]] = []
    for name in ablation.compared:
        stage = ablation.stages[name]
        ours = [[m[stage.metric] for m in metrics[row.name][name]] for row in ablation.rows]
        columns.append((f"{name}: {stage.metric}", _OURS, ours))
        for data_set in stage.paper:
            theirs = [
                [row.paper[data_set] / 100] if data_set in row.paper else []
                for row in ablation.rows
            ]
            columns.append((f"{data_set} (paper)", _PAPERS, theirs))
    figure = new_figure(2.0 + 2.2 * len(columns), 1.2 + 0.36 * len(ablation.rows))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axis, (title, color, values) in zip(axes, columns, strict=True):
        axis.set_title(title, fontsize=9)
        _draw_bars(axis, values, color)
    axes[0].set_yticks(range(len(ablation.rows)), [row.name for row in ablation.rows])
    axes[0].set_ylim(len(ablation.rows) - 0.4, -0.6)
    save_plot(figure, path)


def _draw_bars(axis: "Axes", values: Sequence[Sequence[float]], color: str) -> None:
    """Draw one column of the table as bars from the top down."""
    shown = [(place, *summarize(seeds)) for place, seeds in enumerate(values) if seeds]
    axis.tick_params(labelsize=8)
    axis.set_xlabel("%", fontsize=8)
    if shown:
        places, means, spreads = zip(*shown, strict=True)
        errors = spreads if any(spreads) else None
        axis.barh(places, means, xerr=errors, color=color, capsize=2)
        # Differences of a few points decide; the axis says where it begins.
        axis.set_xlim(left=max(0, min(means) - 15))
    axis.grid(axis="x", alpha=0.3)


def _draw_all_curves(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw a panel for every score of the compared stages."""
    panels = [
        (stage, name)
        for stage in ablation.compared
        for name in _score_names(ablation, metrics, stage)
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
    axis.set_title(f"{stage}: {score}", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if score in (OVERALL, ablation.stages[stage].metric):
        axis.set_xlabel("examples", fontsize=8)
        axis.set_ylabel("%", fontsize=8)
        axis.legend(fontsize=7)
