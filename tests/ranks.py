"""Processes of a run, forked from the test: starting one takes milliseconds instead of seconds."""

import faulthandler
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

NEEDS_FSDP = pytest.mark.skipif(
    not hasattr(FSDPModule, "set_reduce_scatter_unused_params"), reason="needs PyTorch 2.13"
)

_MOST_SECONDS = 120


def start_ranks(work: Callable[[int], None], num_ranks: int) -> list[BaseProcess]:
    """Call `work(rank)` in processes of their own, which find each other as under torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def begin(rank: int) -> None:
        faulthandler.dump_traceback_later(_MOST_SECONDS - 5)  # it says where it hangs
        torch.set_num_threads(1)
        if num_ranks > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks),
                "LOCAL_WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }  # fmt: skip
        work(rank)

    fork = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        fork.Process(target=begin, args=(rank,)) for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    return processes


def end(processes: list[BaseProcess]) -> list[int | None]:
    """Wait for processes; return their exit codes, None for one that hung and was killed."""
    for process in processes:
        process.join(_MOST_SECONDS)
    codes = [process.exitcode for process in processes]
    kill(processes)
    return codes


def finish(processes: list[BaseProcess]) -> None:
    """Wait for processes that must succeed."""
    assert end(processes) == [0] * len(processes)


def kill(processes: list[BaseProcess]) -> None:
    """Kill processes as `kill -9` does."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def wait_for(condition: Callable[[], object], process: BaseProcess) -> bool:
    """Wait until a condition holds; return whether it did while the process was alive."""
    deadline = time.monotonic() + 60
    while process.is_alive():
        assert time.monotonic() < deadline
        if condition():
            return True
        time.sleep(0.001)
    return False
