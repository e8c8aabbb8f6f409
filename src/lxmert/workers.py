"""Processes that work for this one, and end when it does."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as the one that began it is gone, even if that was killed.

    It is the `initializer` of a pool. Without it, the processes of a pool whose owner was killed
    finish what they do, beside those of the next attempt, and then wait forever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not begun by another one"

    def watch() -> None:
        parent.join()
        os._exit(1)  # not sys.exit, which would end this thread only

    threading.Thread(target=watch, daemon=True).start()
