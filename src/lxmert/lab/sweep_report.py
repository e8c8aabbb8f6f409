"""The report of a sweep: one Markdown table and one figure with error bars."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxmert.explain.plots import new_figure, save_plot
from lxmert.files import write_text
from lxmert.lab.sweep import Plan, Run, Sweep
from lxmert.names import unknown_name
from lxmert.tasks.baselines import BASELINES
from lxmert.train.folder import finished_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT_NAME = "report.md"

_COLOR = "#3a6ec8"

Scores = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""Row -> compared stage -> metrics of its finished runs, in seed order."""


def collect(sweep: Sweep, plan: Plan) -> Scores:
    """Return the metrics of the finished runs.

    Raises:
        ValueError: if a task does not report the metric of its stage.
    """
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in sweep.rows:
        for stage in sweep.compared:
            runs = [finished_metrics(plan[row.name, seed, stage].folder) for seed in sweep.seeds]
            metrics = [run for run in runs if run is not None]
            for each in metrics:
                if sweep.stages[stage].metric not in each:
                    known = unknown_name(sweep.stages[stage].metric, list(each))
                    raise ValueError(f"stages.{stage}.metric: {known}")
            found.setdefault(row.name, {})[stage] = metrics
    return found


def check_report(sweep: Sweep, output: Path) -> None:
    """Raise `ValueError` if the report of another sweep would be overwritten."""
    path = output / REPORT_NAME
    if path.exists() and not path.read_text(encoding="utf-8").startswith(f"# {sweep.title}\n"):
        raise ValueError(
            f"{path} is not the report of {sweep.title!r} and would be overwritten: name another "
            "folder, or remove it"
        )


def write_report(sweep: Sweep, scores: Scores, output: Path, failed: Mapping[Run, str]) -> str:
    """Write `report.md` and return its text."""
    output.mkdir(parents=True, exist_ok=True)
    text = as_markdown(sweep, scores, failed)
    write_text(output / REPORT_NAME, text)
    return text


def as_markdown(sweep: Sweep, scores: Scores, failed: Mapping[Run, str]) -> str:
    """Return the table: mean ± sample standard deviation in percent, with published scores."""
    papers = list(dict.fromkeys(name for row in sweep.rows for name in row.paper))
    titles = [f"{name} ({sweep.stages[name].metric})" for name in sweep.compared]
    header = ["row", *titles, *(f"paper: {name}" for name in papers)]
    lines = [f"# {sweep.title}", ""]
    seeds = ", ".join(map(str, sweep.seeds))
    lines += [f"Mean ± sample standard deviation over the seeds {seeds}; shares in percent."]
    lines += ["Parentheses: number of finished runs, if some are missing.", ""]
    lines += [_table_row(header), _table_row(["---"] * len(header))]
    for row in sweep.rows:
        found = [_values(sweep, scores, row.name, stage) for stage in sweep.compared]
        cells = [_cell(values, len(sweep.seeds)) for values in found]
        published = [f"{row.paper[name]:.1f}" if name in row.paper else "" for name in papers]
        lines.append(_table_row([row.name, *cells, *published]))
    for stage in sweep.compared:
        baseline = _baseline(scores, stage)
        if baseline is not None:
            by_row = {row.name: _values(sweep, scores, row.name, stage) for row in sweep.rows}
            below = [n for n, v in by_row.items() if v and statistics.mean(v) <= baseline]
            lines += ["", f"{stage}: the best baseline without images reaches {baseline:.1f}; not "]
            lines[-1] += f"above it: {'; '.join(below) or 'no row'}."
    if failed:
        lines += ["", "## Failed runs", ""]
        lines += [f"- `{run.folder}`: {reason}" for run, reason in failed.items()]
    return "\n".join(lines) + "\n"


def draw_report(sweep: Sweep, scores: Scores, path: Path) -> None:
    """Draw the compared scores: one panel per stage, as dots, or as learning curves with `line`.

    Args:
        sweep: what is compared.
        scores: of the finished runs.
        path: figure to write; its suffix sets the format.
    """
    curves = any(row.line for row in sweep.rows)
    height = 3.4 if curves else 1.2 + 0.36 * len(sweep.rows)
    figure = new_figure((4.2 if curves else 2.2) * len(sweep.compared) + 2.0, height)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(sweep.compared), squeeze=False, sharey=not curves)[0]
    for axis, stage in zip(axes, sweep.compared, strict=True):
        (_draw_curves if curves else _draw_dots)(axis, sweep, scores, stage)
        axis.set_title(f"{stage} ({sweep.stages[stage].metric})", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    save_plot(figure, path)


def _draw_dots(axis: "Axes", sweep: Sweep, scores: Scores, stage: str) -> None:
    """Draw a dot with error bar and number for each row, from the top down."""
    for place, row in enumerate(sweep.rows):
        values = _values(sweep, scores, row.name, stage)
        if values:
            mean, spread = _summarize(values)
            axis.errorbar(mean, place, xerr=spread, color=_COLOR, marker="o", ms=5, capsize=2)
            axis.text(mean, place - 0.18, f"{mean:.1f}", ha="center", fontsize=7, color=_COLOR)
    baseline = _baseline(scores, stage)
    if baseline is not None:
        axis.axvline(baseline, color="#596069", linewidth=1, linestyle=":")
    axis.set_xlabel("%" if baseline is None else "% (dotted: best baseline without images)")
    axis.margins(x=0.25)
    axis.set_yticks(range(len(sweep.rows)), [row.name for row in sweep.rows])
    axis.set_ylim(len(sweep.rows) - 0.4, -0.6)


def _draw_curves(axis: "Axes", sweep: Sweep, scores: Scores, stage: str) -> None:
    """Draw the score against the number of examples, one curve for each `line`."""
    for line in dict.fromkeys(row.line for row in sweep.rows):
        rows = sorted((row for row in sweep.rows if row.line == line), key=lambda row: row.at)
        found = [(row.at, _values(sweep, scores, row.name, stage)) for row in rows]
        points = [(at, *_summarize(values)) for at, values in found if values]
        if points:
            at, means, spreads = zip(*points, strict=True)
            axis.errorbar(at, means, yerr=spreads, marker="o", markersize=3, capsize=2, label=line)
    axis.set_xscale("log")
    numbers = sorted({row.at for row in sweep.rows})
    axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axis.minorticks_off()
    axis.set(xlabel="examples", ylabel="%", ylim=(0, 100))
    axis.legend(fontsize=8)


def _values(sweep: Sweep, scores: Scores, row: str, stage: str) -> list[float]:
    """Return the compared score of each finished run; fractions in percent, others unchanged."""
    name = sweep.stages[stage].metric
    runs = [metrics[name] for by_stage in scores.values() for metrics in by_stage[stage]]
    unit = 100 if all(0 <= value <= 1 for value in runs) else 1
    return [unit * metrics[name] for metrics in scores[row][stage]]


def _baseline(scores: Scores, stage: str) -> float | None:
    """Return the best baseline without images in percent; None if no run reports one."""
    runs = [metrics for row in scores.values() for metrics in row[stage]]
    found = [metrics[name] for metrics in runs for name in BASELINES if name in metrics]
    return 100 * max(found) if found else None


def _summarize(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation; 0 for a single value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _cell(values: Sequence[float], expected: int) -> str:
    if not values:
        return ""
    mean, spread = _summarize(values)
    text = f"{mean:.1f} ± {spread:.1f}" if len(values) > 1 else f"{mean:.1f}"
    return text if len(values) == expected else f"{text} ({len(values)})"


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
