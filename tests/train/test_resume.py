"""Interrupted runs end bit-identical to uninterrupted ones; real processes, killed for real.

The processes are forked from the test, which has torch in memory already: starting one takes
milliseconds instead of seconds.
"""

import json
import multiprocessing
import os
import random
import socket
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import train_toy

from lxmert.train.state import (
    latest_checkpoint,
    random_state,
    remove_incomplete,
    restore_random_state,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")

OVERRIDES = ("optim.steps=150", "model.dropout=0.25", "loop.evaluate_every=7", "loop.log_every=6")
"""No interval divides another, so that a checkpoint falls between two lines of the log."""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Let torch load what it loads at the first step, before the processes are forked."""
    train_toy(tmp_path_factory.mktemp("warm"), "optim.steps=4")


def start(folder, *, rank=0, num_ranks=1, port=0, overrides=OVERRIDES):
    """Train the toy in a process of its own."""

    def work():
        torch.set_num_threads(1)
        if num_ranks > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks),
                "LOCAL_WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }  # fmt: skip
        train_toy(folder, *overrides)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def start_ranks(folder, num_ranks):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(folder, rank=rank, num_ranks=num_ranks, port=port) for rank in range(num_ranks)]


def finish(processes):
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def kill(processes):
    for process in processes:
        process.kill()
        process.join()


def assert_identical(folder, expected):
    for name in ("model.safetensors", "best/model.safetensors"):
        ours, theirs = load_file(folder / "run" / name), load_file(expected / "run" / name)
        assert set(ours) == set(theirs)
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key
    assert log(folder) == log(expected)
    finished = [(path / "run" / "finished.json").read_text() for path in (folder, expected)]
    assert finished[0] == finished[1]


def log(folder):
    """Return the lines of the log without what the clock says."""
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("examples_per_second", None)
        line.pop("seconds_left", None)
    return lines


def wait_for(condition, process):
    """Wait until a condition holds; return whether it did while the process was alive."""
    deadline = time.monotonic() + 60
    while process.is_alive():
        assert time.monotonic() < deadline
        if condition():
            return True
        time.sleep(0.001)
    return False


def test_a_run_killed_at_random_instants_ends_bit_identical(tmp_path):
    finish([start(tmp_path / "whole")])
    seed = random.randrange(2**32)
    print(f"seed of the instants: {seed}")
    instants = random.Random(seed)
    checkpoints = tmp_path / "killed" / "run" / "checkpoints"
    starts = []
    for _ in range(5):
        starts.append(latest_checkpoint(checkpoints))
        before = set(checkpoints.glob("step-*"))
        process = start(tmp_path / "killed")
        # From the next checkpoint on, so that each start gets further than the one before.
        if wait_for(lambda: set(checkpoints.glob("step-*")) - before, process):  # noqa: B023
            time.sleep(instants.uniform(0, 0.05))
        kill([process])
    finish([start(tmp_path / "killed")])
    assert len(set(starts)) > 2
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_two_processes_killed_within_an_epoch_end_bit_identical(tmp_path):
    finish(start_ranks(tmp_path / "whole", 2))
    ranks = start_ranks(tmp_path / "killed", 2)
    # Step 56 is in the middle of an epoch: 448 draws of 23 examples.
    assert wait_for((tmp_path / "killed/run/checkpoints/step-56").exists, ranks[0])
    kill(ranks)
    assert not (tmp_path / "killed" / "run" / "finished.json").exists()
    finish(start_ranks(tmp_path / "killed", 2))
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_going_on_with_another_number_of_processes_is_told(tmp_path, caplog):
    overrides = ("optim.steps=9", "loop.checkpoint_every=4", "data.failing=-8")
    train_toy(tmp_path, *overrides)
    (tmp_path / "run" / "finished.json").unlink()
    state = tmp_path / "run" / "checkpoints" / "step-9" / "random.pt"
    states = torch.load(state, weights_only=True)
    torch.save(states * 2, state)
    manifest = state.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    content["files"]["random.pt"] = state.stat().st_size
    manifest.write_text(json.dumps(content))
    train_toy(tmp_path, *overrides)
    assert "was started with 2 processes and goes on with 1" in caplog.text


@pytest.mark.parametrize("damage", ["no manifest", "short file", "temporary name"])
def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path, damage):
    overrides = ("optim.steps=12", "model.dropout=0.25")
    train_toy(tmp_path / "whole", *overrides)
    train_toy(tmp_path / "cut", *overrides)
    (tmp_path / "cut" / "run" / "finished.json").unlink()
    checkpoints = tmp_path / "cut" / "run" / "checkpoints"
    last = checkpoints / "step-12"
    if damage == "no manifest":
        (last / "manifest.json").unlink()
    elif damage == "short file":
        (last / "optimizer.pt").write_bytes(b"short")
    else:
        last.rename(checkpoints / "step-12.part")
    assert latest_checkpoint(checkpoints).name == "step-8"
    assert len(remove_incomplete(checkpoints)) == 1
    assert [path.name for path in checkpoints.iterdir()] == ["step-8"]
    train_toy(tmp_path / "cut", *overrides)
    assert_identical(tmp_path / "cut", tmp_path / "whole")


def test_the_last_two_checkpoints_stay_in_the_order_of_their_steps(tmp_path):
    train_toy(tmp_path, "optim.steps=11", "loop.checkpoint_every=1")
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"step-10", "step-11"}


def test_random_states_are_restored_for_every_library():

    def draw():
        numpy = np.random.random()  # noqa: NPY002
        return random.random(), random.gauss(0, 1), numpy, float(torch.rand(()))

    random.gauss(0, 1)  # leaves one cached draw behind
    state = random_state()
    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first
