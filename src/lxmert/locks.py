"""Folder locks that are released when their process exits; without effect on Windows."""

import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path


class FolderLock:
    """A lock held from its creation until it is closed or deleted, or its process exits.

    Attributes:
        close: releases the lock; a second call has no effect.
    """

    def __init__(self, folder: Path, *, file: str | None = None, wait: bool = False) -> None:
        """Acquire the lock.

        Args:
            folder: existing folder to lock.
            file: name of a file in the folder to lock instead, created if necessary; on a shared
                disk this also locks out other machines. Absent: no file is left behind.
            wait: whether to wait until the lock is free.

        Raises:
            ValueError: if the folder is locked and `wait` is False.
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


def _release_inherited() -> None:
    """Close inherited locks in a forked process, which may outlive its parent by seconds."""
    for lock in list(_held):
        lock.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_release_inherited)
