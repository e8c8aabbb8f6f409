"""Locks that keep other processes from writing into a folder, and end with the one that holds them.

On Windows, which has no such locks, they keep nobody away.
"""

import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path


class FolderLock:
    """Held from when it is made until it is closed or forgotten, or its process is gone.

    Attributes:
        close: releases it; a second call does nothing.
    """

    def __init__(self, folder: Path, *, file: str | None = None, wait: bool = False) -> None:
        """Take the lock.

        Args:
            folder: must be there.
            file: name of a file in it that is locked in its stead, and made if there is none: on
                a shared disk that keeps other machines away too. Absent: nothing is left behind.
            wait: whether to wait for whoever has it.

        Raises:
            ValueError: if the folder is locked already, unless that is waited for.
        """
        self.close: Callable[[], object] = lambda: None
        if sys.platform == "win32":
            return
        import fcntl

        target, flags = (
            (folder, os.O_RDONLY) if file is None else (folder / file, os.O_RDWR | os.O_CREAT)
        )
        descriptor = os.open(target, flags, 0o666)
        self.close = weakref.finalize(self, os.close, descriptor)
        _held.add(self)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            self.close()
            raise ValueError(
                f"{folder} is being written by another process: wait for it, or name another folder"
            ) from error


_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _let_go() -> None:
    """Close the locks of the parent process: a forked one may outlive it by seconds."""
    for lock in list(_held):
        lock.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)
