"""Worker processes that exit with their parent."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Exit when the parent process dies, even if it was killed.

    Used as the `initializer` of a pool. Otherwise the workers of a killed process finish their
    job, in parallel with those of the next attempt, and then wait forever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process has no parent"

    def watch() -> None:
        parent.join()
        os._exit(1)  # sys.exit would end this thread only

    threading.Thread(target=watch, daemon=True).start()
