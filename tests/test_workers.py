"""The processes of a pool end with the one that began them, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OWNER = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from lxmert.workers import end_with_parent

def initialize():
    end_with_parent()
    print(os.getpid(), flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context, initializer=initialize) as pool:
        for _ in range(4):
            pool.submit(time.sleep, 60)
"""


def is_alive(process: int) -> bool:
    """Tell whether a process runs or sleeps; one that ended but was not asked for is dead."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_whose_owner_was_killed_leaves_no_process(method: str, tmp_path: Path) -> None:
    """They went on training beside those of the next attempt, in the same folders."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    command = [sys.executable, script, method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        processes = [int(owner.stdout.readline()) for _ in range(2)]
        assert [is_alive(process) for process in processes] == [True, True]
        os.kill(owner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, processes))
