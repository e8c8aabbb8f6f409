"""Locks keep others out of a folder, and never outlive the process that holds them."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from lxmert.locks import FolderLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("file", [None, ".lock"])
def test_a_folder_is_kept_until_the_lock_is_closed_or_forgotten(
    tmp_path: Path, file: str | None
) -> None:
    lock = FolderLock(tmp_path, file=file)
    with pytest.raises(ValueError, match=f"{tmp_path} is being written by another process: wait"):
        FolderLock(tmp_path, file=file)
    lock.close()
    lock.close()
    again = FolderLock(tmp_path, file=file)
    del again
    FolderLock(tmp_path, file=file).close()
    assert [path.name for path in tmp_path.iterdir()] == ([file] if file else [])


def test_a_lock_that_is_waited_for_comes_when_it_is_free(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, file="lock")
    reported: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wait() -> None:
        begun.set()
        with closing(FolderLock(tmp_path, file="lock", wait=True)):
            reported.put("second")

    begun = threading.Event()
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    begun.wait()
    waiting.join(0.1)
    reported.put("first")
    first.close()
    assert [reported.get(timeout=60) for _ in range(2)] == ["first", "second"]


def hold(folder: Path, reported: "multiprocessing.connection.Connection") -> None:
    """Take the lock, fork a process that lives on, and wait to be killed."""
    lock = FolderLock(folder)
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    reported.send(child.pid)
    child.join()
    lock.close()


def test_a_killed_process_holds_nothing_though_what_it_forked_lives_on(tmp_path: Path) -> None:
    """Workers that read examples outlive a killed run by seconds, and kept its folder locked."""
    ours, theirs = FORK.Pipe()
    owner = FORK.Process(target=hold, args=(tmp_path, theirs))
    owner.start()
    forked = ours.recv()
    try:
        with pytest.raises(ValueError, match="being written by another process"):
            FolderLock(tmp_path)
        owner.kill()
        owner.join()
        os.kill(forked, 0)  # it is still there
        FolderLock(tmp_path).close()
    finally:
        os.kill(forked, signal.SIGKILL)
