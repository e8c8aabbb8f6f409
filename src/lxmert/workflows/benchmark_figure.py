"""The figure of `lxmert benchmark`: times, memory and size of each variant as bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lxmert.explain.plots import new_figure, save_plot
from lxmert.workflows.benchmarking import BenchmarkReport, BenchmarkRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "torch": "#5b6573",
    "transformers": "#a9b1bc",
    "onnxruntime": "#2166ac",
    "openvino": "#1b7837",
}


def draw_benchmark(report: BenchmarkReport, path: Path) -> None:
    """Draw a panel of bars for each measurement, one bar for each variant.

    Args:
        report: what `benchmark` returned.
        path: figure to write; its suffix sets the format.
    """
    rows = report["rows"]
    panels: dict[str, list[float | None]] = {
        "from pixels (ms)": [row["pixels_ms"] for row in rows],
        **{f"{name} (ms)": [row["ms"][name] for row in rows] for name in rows[0]["ms"]},
        "peak memory (MB)": [row["memory_mb"] for row in rows],
        "on disk (MB)": [row["disk_mb"] for row in rows],
    }
    figure = new_figure(2.1 * len(panels) + 1.6, 1.1 + 0.36 * len(rows))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, title, values, rows)
    axes[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    save_plot(figure, path)


def _label(row: BenchmarkRow) -> str:
    """Return the name of a variant, with its accuracy if it was measured."""
    name = f"{row['runtime']} {row['precision']}"
    return name if row["accuracy"] is None else f"{name}: {row['accuracy']:.1%} right"


def _draw_panel(
    axis: "Axes", title: str, values: Sequence[float | None], rows: Sequence[BenchmarkRow]
) -> None:
    """Draw one bar with its number for each variant that was measured."""
    largest = max(value for value in values if value is not None)
    for place, (value, row) in enumerate(zip(values, rows, strict=True)):
        shown = "none" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
        axis.barh(place, value or 0, height=0.66, color=_COLORS[row["runtime"]])
        axis.text((value or 0) + 0.03 * largest, place, shown, va="center", fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.set_xlim(0, 1.3 * largest)
    axis.tick_params(labelsize=8, length=0)
    axis.set_xticks([])
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
