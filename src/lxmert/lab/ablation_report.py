"""The report of an ablation: one table as Markdown and JSON, and plots with error bars.

Shares are shown in percent: scores between 0 and 1 in all runs. Others, such as numbers of
images, are shown as they are.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxmert.explain.plots import new_figure, save_plot
from lxmert.files import write_text
from lxmert.lab.ablation import Ablation, Metrics, Run
from lxmert.tasks.baselines import BASELINES
from lxmert.tasks.metrics import OVERALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JSON_NAME, MARKDOWN_NAME = "report.json", "report.md"

_OURS, _PAPERS, _SOFT = "#3a6ec8", "#8a5a00", "#596069"
_PANEL_COLUMNS = 4

_DISTANCES = ("feat_error", "feat_chance")
"""Scores of our tasks that are no shares even where they lie between 0 and 1."""


def write_report(
    ablation: Ablation, metrics: Metrics, output: Path, *, failed: Mapping[Run, str]
) -> None:
    """Write `report.md` and `report.json`, as far as the runs have come.

    The second has `title`, `seeds`, `failed` (run -> reason), `compared` (stage -> metric) and
    `rows`, each with `name`, `line`, `at`, `paper`, `metrics` (stage -> seed -> every score, not in
    percent) and `scores`: stage -> `mean`, sample standard `deviation` (null for a single run) and
    number of `runs`.

    Args:
        ablation: what is compared.
        metrics: of the finished runs.
        output: folder to write into.
        failed: why a run came to nothing.
    """
    output.mkdir(parents=True, exist_ok=True)
    stages = {name: ablation.stages[name].metric for name in ablation.compared}
    rows = [
        {
            "name": row.name,
            "line": row.line,
            "at": row.at,
            "paper": row.paper,
            "scores": {
                stage: _summary(metrics, row.name, stage, metric)
                for stage, metric in stages.items()
            },
            "metrics": metrics[row.name],
        }
        for row in ablation.rows
    ]
    reasons = {str(run.folder): reason for run, reason in failed.items()}
    content = {
        "title": ablation.title,
        "seeds": ablation.seeds,
        "compared": stages,
        "rows": rows,
        "failed": reasons,
    }
    write_text(output / JSON_NAME, json.dumps(content, indent=1) + "\n")
    write_text(output / MARKDOWN_NAME, as_markdown(ablation, metrics, failed=failed))


def check_report(ablation: Ablation, output: Path) -> None:
    """Refuse a folder with a report that is not about the same comparison.

    Raises:
        ValueError: it would be overwritten.
    """
    if not any((output / name).exists() for name in (JSON_NAME, MARKDOWN_NAME)):
        return
    try:
        title = json.loads((output / JSON_NAME).read_text(encoding="utf-8"))["title"]
    except (OSError, ValueError, TypeError, LookupError):
        title = None
    if title != ablation.title:
        raise ValueError(
            f"{output} has a report that is not about {ablation.title!r} and would be overwritten: "
            f"name another folder, or remove {MARKDOWN_NAME} and {JSON_NAME}"
        )


def as_markdown(ablation: Ablation, metrics: Metrics, *, failed: Mapping[Run, str]) -> str:
    """Return the tables: the compared scores, and each stage's other scores for learning curves."""
    lines = [
        f"# {ablation.title}",
        "",
        _report_seeds(ablation.seeds),
        *_report_other_units(ablation, metrics),
        "",
    ]
    if _paper_columns(ablation):
        lines += ["Scores of the paper are on its custom data: compare the order of rows only.", ""]
    lines += [*_compared_scores(ablation, metrics), *_report_baselines(ablation, metrics)]
    if any(row.line for row in ablation.rows):
        for stage in ablation.compared:
            lines += ["", f"## {stage}, score by score", "", *_all_scores(ablation, metrics, stage)]
    if failed:
        lines += ["", "## Runs that failed", ""]
        lines += [f"- `{run.folder}`: {reason}" for run, reason in failed.items()]
    return "\n".join(lines) + "\n"


def draw_report(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw dots with error bars beside the paper's, or learning curves where rows form lines.

    Args:
        ablation: what is compared.
        metrics: of the runs; rows without any finished run stay empty.
        path: image to write; its ending decides the format.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    if any(row.line for row in ablation.rows):
        _draw_all_curves(ablation, metrics, path)
    else:
        _draw_all_dots(ablation, metrics, path)


def _summary(metrics: Metrics, row: str, stage: str, name: str) -> dict[str, float | None] | None:
    """Return a row's score as the runs tell it; None before the first run."""
    values = [m[name] for m in metrics[row][stage].values()]
    if not values:
        return None
    mean, spread = summarize(values)
    return {
        "mean": mean,
        "deviation": spread if len(values) > 1 else None,
        "runs": len(values),
    }


def summarize(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation; 0 for a single value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _report_seeds(seeds: Sequence[int]) -> str:
    """Say what the numbers of the tables are."""
    if len(seeds) == 1:
        return f"Scores with the seed {seeds[0]}, in percent."
    return (
        f"Mean and sample standard deviation over the seeds {', '.join(map(str, seeds))}, in "
        "percent. A number in brackets says how many of them are finished, where some are missing."
    )


def _found(metrics: Metrics, stage: str, name: str) -> list[float]:
    """Return a score of all finished runs of a stage."""
    return [m[name] for row in metrics.values() for m in row[stage].values() if name in m]


def _is_share(metrics: Metrics, stage: str, name: str) -> bool:
    """Tell whether a score is a share, which is shown in percent."""
    return name not in _DISTANCES and all(0 <= value <= 1 for value in _found(metrics, stage, name))


def _form(metrics: Metrics, stage: str, name: str) -> str:
    """Return how a score is written."""
    if _is_share(metrics, stage, name):
        return ".1f"
    is_count = all(float(value).is_integer() for value in _found(metrics, stage, name))
    return ",.0f" if is_count else ".4g"


def _values(metrics: Metrics, row: str, stage: str, name: str) -> list[float]:
    """Return a score of the finished runs of a row, as it is shown."""
    unit = 100 if _is_share(metrics, stage, name) else 1
    return [unit * m[name] for m in metrics[row][stage].values() if name in m]


def _report_other_units(ablation: Ablation, metrics: Metrics) -> list[str]:
    """Name the scores in the tables that are not in percent."""
    curves = any(row.line for row in ablation.rows)
    shown = [
        (stage, name)
        for stage in ablation.compared
        for name in _score_names(ablation, metrics, stage)
        if curves or name == ablation.stages[stage].metric
    ]
    others = [name for stage, name in shown if not _is_share(metrics, stage, name)]
    reported = f"As they are, not in percent: {', '.join(dict.fromkeys(others))}."
    return ["", reported] if others else []


def _compared_scores(ablation: Ablation, metrics: Metrics) -> list[str]:
    """Return the table of the compared scores beside the paper's."""
    beside = _paper_columns(ablation)
    titles = [_title(ablation, name) for name in ablation.compared]
    header = ["row", *titles, *(f"paper: {name}" for name in beside)]
    lines = [_table_row(header), _table_row(["---"] * len(header))]
    for row in ablation.rows:
        cells = [
            _cell(ablation, metrics, row.name, stage, ablation.stages[stage].metric)
            for stage in ablation.compared
        ]
        papers = [f"{row.paper[name]:.1f}" if name in row.paper else "" for name in beside]
        lines.append(_table_row([row.name, *cells, *papers]))
    return lines


def _report_baselines(ablation: Ablation, metrics: Metrics) -> list[str]:
    """Say what guesses without images get, and which rows get no more.

    It is a range where runs learn from other examples; rows are compared with its upper end.
    """
    reported, no_better = [], []
    for stage in ablation.compared:
        scores_by_baseline = _baselines(metrics, stage)
        if not scores_by_baseline:
            continue
        ends = dict.fromkeys(
            f"{end:.1f}" for end in (min(scores_by_baseline), max(scores_by_baseline))
        )
        reported.append(f"{stage} {' to '.join(ends)}")
        for row in ablation.rows:
            values = _values(metrics, row.name, stage, ablation.stages[stage].metric)
            if values and statistics.mean(values) <= max(scores_by_baseline):
                no_better.append(f"{row.name} ({stage})")
    if not reported:
        return []
    text = f"Guesses without a look at the images get: {', '.join(reported)}."
    if no_better:
        text += f" No more than that is reached by: {'; '.join(no_better)}."
    return ["", text]


def _table_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _cell(ablation: Ablation, metrics: Metrics, row: str, stage: str, name: str) -> str:
    """Write a score with its spread."""
    values = _values(metrics, row, stage, name)
    if not values:
        return ""
    form = _form(metrics, stage, name)
    mean, spread = summarize(values)
    shown = f"{mean:{form}} ± {spread:{form}}" if len(values) > 1 else f"{mean:{form}}"
    missing = len(values) < len(ablation.seeds)
    return shown + (f" ({len(values)})" if missing else "")


def _score_names(ablation: Ablation, metrics: Metrics, stage: str) -> list[str]:
    """Return the names of a stage's scores, the compared one first."""
    first = ablation.stages[stage].metric
    runs = (m for row in ablation.rows for m in metrics[row.name][stage].values())
    return list(dict.fromkeys([first, *(name for m in runs for name in m)]))


def _all_scores(ablation: Ablation, metrics: Metrics, stage: str) -> list[str]:
    """Return a table with a column for every score of a stage."""
    names = _score_names(ablation, metrics, stage)
    lines = [_table_row(["row", *names]), _table_row(["---"] * (len(names) + 1))]
    for row in ablation.rows:
        cells = [_cell(ablation, metrics, row.name, stage, name) for name in names]
        lines.append(_table_row([row.name, *cells]))
    return lines


def _draw_all_dots(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw the columns of the table side by side, ours before the paper's."""
    columns = len(ablation.compared) + len(_paper_columns(ablation))
    figure = new_figure(2.0 + 2.2 * columns, 1.2 + 0.36 * len(ablation.rows))
    figure.set_layout_engine("constrained")
    panels = iter(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    for name in ablation.compared:
        metric, axis = ablation.stages[name].metric, next(panels)
        scores = [_values(metrics, row.name, name, metric) for row in ablation.rows]
        axis.set_title(_title(ablation, name), fontsize=9, color=_OURS)
        form = _form(metrics, name, metric)
        _draw_dots(axis, scores, form=form, color=_OURS, marker="o")
        scores_by_baseline = _baselines(metrics, name)
        for predict in set(scores_by_baseline):
            axis.axvline(predict, color=_SOFT, linewidth=1, linestyle=":")
        if _is_share(metrics, name, metric):
            axis.set_xlabel(
                "% (dotted: question-only baseline)" if scores_by_baseline else "%", fontsize=8
            )
    for data_set in _paper_columns(ablation):
        axis = next(panels)
        theirs = [[row.paper[data_set]] if data_set in row.paper else [] for row in ablation.rows]
        axis.set_title(f"paper: {data_set}", fontsize=9, color=_PAPERS)
        axis.set_facecolor("#faf6ee")
        axis.set_xlabel("%", fontsize=8)
        _draw_dots(axis, theirs, form=".1f", color=_PAPERS, marker="D")
    first = figure.axes[0]
    first.set_yticks(range(len(ablation.rows)), [row.name for row in ablation.rows])
    first.set_ylim(len(ablation.rows) - 0.4, -0.6)
    save_plot(figure, path)


def _draw_dots(
    axis: "Axes", values: Sequence[Sequence[float]], *, form: str, color: str, marker: str
) -> None:
    """Draw one column of the table from the top down, each score with its number."""
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.margins(x=0.25)  # room for the numbers
    for place, seeds in enumerate(values):
        if seeds:
            mean, spread = summarize(seeds)
            error = spread if len(seeds) > 1 else None
            axis.errorbar(mean, place, xerr=error, color=color, marker=marker, ms=5, capsize=2)
            axis.text(
                mean,
                place - 0.18,
                f"{mean:{form}}",
                ha="center",
                fontsize=7,
                color=color,
                zorder=9,
                bbox={"facecolor": axis.get_facecolor(), "linewidth": 0, "pad": 0.4},
            )


def _paper_columns(ablation: Ablation) -> list[str]:
    """Return the names of the published scores that stand beside ours."""
    return [name for stage in ablation.compared for name in ablation.stages[stage].paper]


def _title(ablation: Ablation, stage: str) -> str:
    """Name a score of ours so that nobody takes it for one of the paper's."""
    return f"here: {stage} ({ablation.stages[stage].metric})"


def _baselines(metrics: Metrics, stage: str) -> list[float]:
    """Return what the best guess without images gets in percent, of each row that tells it."""
    scores_by_baseline = []
    for row in metrics.values():
        runs = [m for m in row[stage].values() if "majority" in m]
        if runs:
            best = [max(m[name] for name in BASELINES if name in m) for m in runs]
            scores_by_baseline.append(100 * statistics.mean(best))
    return scores_by_baseline


def _draw_all_curves(ablation: Ablation, metrics: Metrics, path: Path) -> None:
    """Draw a panel for every score of the compared stages."""
    panels = [
        (stage, name)
        for stage in ablation.compared
        for name in _score_names(ablation, metrics, stage)
        if name not in BASELINES
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
            values = _values(metrics, row.name, stage, score)
            if row.line == line and values:
                points.append((row.at, *summarize(values)))
        if points:
            at, means, spreads = zip(*sorted(points), strict=True)
            axis.errorbar(at, means, yerr=spreads, marker="o", markersize=3, capsize=2, label=line)
    axis.set_xscale("log")
    numbers = sorted({row.at for row in ablation.rows if row.line})
    axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axis.minorticks_off()
    unit = " (%)" if _is_share(metrics, stage, score) else ""
    axis.set_title(f"{stage}: {score}{unit}", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if unit:
        axis.set_ylim(0, 100)
    if score in (OVERALL, ablation.stages[stage].metric):
        axis.set_xlabel("examples", fontsize=8)
        axis.legend(fontsize=7)
