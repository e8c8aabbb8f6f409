"""The numbers of a run as TensorBoard reads them, where TensorBoard is installed."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)


class Scalars:
    """Writes into a folder for TensorBoard; without TensorBoard it says so once and does nothing.

    Training gives `loss`, each objective's loss under its name, `lr`, `gradient_norm` and
    `examples_per_second`; an evaluation each metric under `validation/` and its name.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        """Open the folder.

        Args:
            folder: for the files.
            step: steps done; what an interrupted run wrote after them is passed over.
        """
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _logger.info("for curves in TensorBoard as well: pip install 'lxmert[tensorboard]'")
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def training(self, record: Mapping[str, Any]) -> None:
        """Write a line of the log about training."""
        names = ("loss", "lr", "gradient_norm", "examples_per_second")
        values = {name: record[name] for name in names if name in record}
        self._write(record["step"], values | record["losses"])

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """Write a line of the log about an evaluation."""
        metrics = {f"validation/{name}": value for name, value in record["metrics"].items()}
        self._write(record["step"], metrics)

    def close(self) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            with self._surviving():
                self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            with self._surviving():
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Give up these files rather than the run; a full disk shows at the next checkpoint."""
        try:
            yield
        except OSError as problem:
            self._writer = None
            _logger.warning("no more is written for TensorBoard: %s", problem)
