"""Ctrl-C and SIGTERM during training: the run stops after a step that is saved."""

import os
import signal
import threading
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_NOTICE = b"\nlxmert: stopping once this step is saved; Ctrl-C again stops at once\n"


class StopRequest:
    """Whether somebody asked this process to stop, while the block lasts.

    A second Ctrl-C raises `KeyboardInterrupt` wherever the process is. Signals that were ignored
    before stay ignored, and outside of the main thread all of them keep their effect.

    Attributes:
        asked: whether a signal came.
    """

    def __init__(self, *, notice: bool) -> None:
        """Catch nothing yet.

        Args:
            notice: whether to answer the first signal with a line on the standard error.
        """
        self.asked = False
        self._notice = notice
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN and before is not None:
                    self._before[number] = before
                    signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        if self._notice and not self.asked:
            # Not the log: the signal may have come while a line was being written to it.
            os.write(2, _NOTICE)
        self.asked = True


def leave_group(worker: int) -> None:  # noqa: ARG001
    """Put a worker of the loader into a process group of its own.

    A terminal and torchrun signal the whole group of the process that trains, which could not
    finish its last step without its workers; it still ends them itself.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
