"""The log of a run: `log.jsonl`, TensorBoard, and a progress bar on a terminal or log messages."""

import logging
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lxmert.files import parse_json, to_json, write_text
from lxmert.names import count

_logger = logging.getLogger(__name__)

_SCALARS = ("loss", "lr", "gradient_norm", "examples_per_second")


class RunLog:
    """Writes the logs in one process of a run; the others write nothing.

    A training line of `log.jsonl` has `step`, `epoch`, `lr`, `loss`, `losses`, `gradient_norm`,
    `examples_per_second`, `seconds_left`; an evaluation line has `step`, `metrics`, `best`.
    TensorBoard shows `loss`, each objective's loss under its name, `lr`, `gradient_norm` and
    `examples_per_second`; and each metric of an evaluation as `validation/NAME`.
    """

    def __init__(self, path: Path, *, total_steps: int, active: bool) -> None:
        """Set up the bar; nothing is opened yet.

        Args:
            path: the JSON lines.
            total_steps: steps of the run.
            active: whether this process writes the logs.
        """
        self.path = path
        self.total_steps = total_steps
        self.active = active
        self._step = 0
        self._tensorboard: Any = None
        # Jupyter asks for colors in every output, but only a terminal can redraw a bar.
        console = Console(stderr=True, force_interactive=None if sys.stderr.isatty() else False)
        self._bar: Progress | None = None
        if active and console.is_interactive:
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
            self._tensorboard = _open_tensorboard(self.path.parent / "tensorboard", self._step)
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        try:
            if self._tensorboard is not None:
                self._tensorboard.close()
        except OSError as problem:
            self._close_tensorboard(problem)

    def shorten(self, total_steps: int) -> None:
        """Note that the learning rate begins to fall and the run ends earlier than planned."""
        self.total_steps = total_steps
        if self._bar is not None:
            self._bar.update(self._bar_task, total=total_steps)
        if self.active:
            _logger.info(
                "the learning rate now falls to 0, until step %d",
                total_steps,
            )

    def rewind(self, step: int) -> None:
        """Continue after a step; drop the lines that an interrupted run wrote after it."""
        self._step = step
        if not self.active or not self.path.exists():
            return
        # An interruption may have cut the last line before its line break.
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        records = [_read(line) for line in lines]
        damaged = [number for number, record in enumerate(records, start=1) if record is None]
        if damaged:
            lost = count(len(damaged), "damaged line")
            _logger.warning("%s: removed %s, first line %d", self.path, lost, damaged[0])
        kept = [to_json(record) + "\n" for record in records if record and self._kept(record, step)]
        write_text(self.path, "".join(kept))

    def lines(self) -> list[dict[str, object]]:
        """Return the lines of the log."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [parse_json(line, str(self.path)) for line in lines]

    def advance(self, step: int) -> None:
        """Set the bar to `step` completed steps."""
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=step)

    def training(self, record: Mapping[str, Any]) -> None:
        """Log the losses since the last training line."""
        losses = record["losses"]
        text = (
            f"loss {record['loss']:.4f}  {_terms(losses)}  "
            f"{record['examples_per_second']:.1f} examples/s"
        )
        if self._bar is not None:
            self._bar.update(self._bar_task, description=text)
        else:
            text += f"  {timedelta(seconds=round(record['seconds_left']))} left"
        scalars = {name: record[name] for name in _SCALARS if name in record}
        self._write(record, scalars | losses, text, show=self._bar is None)

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """Log the metrics of the validation split."""
        metrics = record["metrics"]
        scalars = {f"validation/{name}": value for name, value in metrics.items()}
        best = "  (best so far)" if record["best"] else ""
        self._write(record, scalars, f"evaluation  {_terms(metrics)}{best}")

    def _kept(self, record: Mapping[str, Any], step: int) -> bool:
        """Return whether a line belongs to the steps done; the last evaluation is repeated."""
        repeated = "metrics" in record and record["step"] == self.total_steps
        return bool(record["step"] <= step and not repeated)

    def _write(
        self,
        record: Mapping[str, Any],
        scalars: Mapping[str, float],
        text: str,
        *,
        show: bool = True,
    ) -> None:
        """Append a line to the log, write its scalars, and show its text above the bar."""
        if not self.active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")
        try:
            for name, value in scalars.items() if self._tensorboard is not None else ():
                self._tensorboard.add_scalar(name, value, record["step"])
        except OSError as problem:
            self._close_tensorboard(problem)
        if not show:
            return
        line = f"step {record['step']}/{self.total_steps}  {text}"
        if self._bar is None:
            _logger.info(line)
        else:
            self._bar.console.print(line, highlight=False, markup=False)

    def _close_tensorboard(self, problem: OSError) -> None:
        """Stop writing these files and keep training; a full disk stops the next checkpoint."""
        self._tensorboard = None
        _logger.warning("TensorBoard files are no longer written: %s", problem)


def _open_tensorboard(folder: Path, step: int) -> Any:
    """Return a writer that hides what was written after a step; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _logger.info("for curves in TensorBoard: pip install 'lxmert[tensorboard]'")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _terms(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())


def _read(line: str) -> dict[str, Any] | None:
    """Return a line of the log; None for a line that `RunLog` did not write."""
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
