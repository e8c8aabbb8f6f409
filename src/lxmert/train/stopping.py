"""Ctrl-C and SIGTERM during training: the run saves the current step and stops."""

import os
import signal
import threading
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_NOTICE = b"\nlxmert: stopping once this step is saved; Ctrl-C again stops at once\n"


class StopRequest:
    """Context manager that catches requests to stop this process.

    A second Ctrl-C raises `KeyboardInterrupt` immediately. Signals that were ignored before stay
    ignored; outside the main thread the handlers do not change.

    Attributes:
        asked: whether a signal arrived.
    """

    def __init__(self, *, notice: bool) -> None:
        """Set up the request; signals are caught inside the block.

        Args:
            notice: whether to confirm the first signal with a line on the standard error.
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
            # Not logging, which the signal may have interrupted.
            os.write(2, _NOTICE)
        self.asked = True


def leave_group(worker: int) -> None:  # noqa: ARG001
    """Put a data-loading worker into its own process group.

    A terminal and torchrun send signals to all processes of the training group. Training needs its
    workers to finish the last step, and then ends them itself.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
