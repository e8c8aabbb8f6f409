"""Where the numbers of a run go: `log.jsonl`, TensorBoard, and a bar on a terminal or the log."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lxmert.files import parse_json, to_json, write_text
from lxmert.train.scalars import Scalars

_logger = logging.getLogger(__name__)


class Report:
    """Writes for one process of a run; the others write nothing.

    A line of `log.jsonl` about training holds `step`, `epoch`, `lr`, `loss`, `losses`,
    `gradient_norm`, `examples_per_second`, `seconds_left`; one about an evaluation `step`,
    `metrics`, `best`.
    """

    def __init__(self, path: Path, *, total_steps: int, active: bool) -> None:
        """Open nothing yet.

        Args:
            path: the JSON lines.
            total_steps: steps of the run.
            active: whether this process is the one that reports.
        """
        self.path = path
        self.total_steps = total_steps
        self.active = active
        self._step = 0
        self._scalars: Scalars | None = None
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if active and console.is_terminal:
            self._bar = Progress(
                MofNCompleteColumn(),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=console,
                refresh_per_second=2,
            )
            self._bar_task = self._bar.add_task("", total=total_steps)

    def __enter__(self) -> Self:
        if self.active:
            self._scalars = Scalars(self.path.parent / "tensorboard", step=self._step)
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._scalars is not None:
            self._scalars.close()

    def rewind(self, step: int) -> None:
        """Begin after a step; drop what an interrupted run wrote after its last checkpoint."""
        self._step = step
        if not self.active or not self.path.exists():
            return
        # The interruption may have cut the last line short, before its line break.
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        records = [_read(line) for line in lines]
        damaged = [number for number, record in enumerate(records, start=1) if record is None]
        if damaged:
            _logger.warning(
                "%s: %d damaged lines are left out, the first is line %d",
                self.path,
                len(damaged),
                damaged[0],
            )
        stay = [
            line + "\n"
            for line, record in zip(lines, records, strict=True)
            if record is not None and self._stays(record, step)
        ]
        write_text(self.path, "".join(stay))

    def lines(self) -> list[dict[str, object]]:
        """Return the lines of the log."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [parse_json(line, str(self.path)) for line in lines]

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps done."""
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=step)

    def training(self, record: Mapping[str, object]) -> None:
        """Report the losses of the steps since the last such line."""
        losses, left = record["losses"], record["seconds_left"]
        assert isinstance(losses, dict)
        assert isinstance(left, float)
        terms = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        text = f"loss {record['loss']:.4f}  {terms}  {record['examples_per_second']:.1f} examples/s"
        if self._bar is not None:
            self._bar.update(self._bar_task, description=text)
        else:
            text += f"  {timedelta(seconds=round(left))} left"
        if self._scalars is not None:
            self._scalars.training(record)
        self._write(record, text, show=self._bar is None)

    def evaluation(self, record: Mapping[str, object]) -> None:
        """Report the metrics of the validation split."""
        metrics = record["metrics"]
        assert isinstance(metrics, dict)
        terms = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if self._scalars is not None:
            self._scalars.evaluation(record)
        self._write(record, f"evaluation  {terms}{'  (best so far)' if record['best'] else ''}")

    def _stays(self, record: Mapping[str, Any], step: int) -> bool:
        """Return whether a line is older than a checkpoint; the last evaluation comes after it."""
        repeated = "metrics" in record and record["step"] == self.total_steps
        return bool(record["step"] <= step and not repeated)

    def _write(self, record: Mapping[str, object], text: str, *, show: bool = True) -> None:
        """Append a line to the log; show it, unless the bar does."""
        if not self.active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")
        if not show:
            return
        line = f"step {record['step']}/{self.total_steps}  {text}"
        if self._bar is None:
            _logger.info(line)
        else:
            self._bar.console.print(line, highlight=False, markup=False)


def _read(line: str) -> dict[str, Any] | None:
    """Return a line of the log; None for what `Report` did not write."""
    try:
        record = parse_json(line, "log")
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    values = record.get("losses", record.get("metrics"))
    numbers = isinstance(values, dict) and all(
        isinstance(value, int | float) for value in values.values()
    )
    return record if numbers else None
