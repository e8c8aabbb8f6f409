"""Interrupted runs end bit-identical to uninterrupted ones; real processes, killed for real."""

import json
import random
import sys
import time

import numpy as np
import pytest
import torch
from ranks import finish, kill, start_ranks, wait_for
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

LONG = ("optim.steps=600", *OVERRIDES[1:])
"""Long enough to be killed twenty times."""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Let torch load what it loads at the first step, before the processes are forked."""
    train_toy(tmp_path_factory.mktemp("warm"), "optim.steps=4")


def start(folder, *, num_ranks=1, overrides=OVERRIDES):
    """Train the toy in processes of its own."""
    return start_ranks(lambda rank: train_toy(folder, *overrides), num_ranks)


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


def kill_and_go_on(folder, times, num_ranks=1, overrides=OVERRIDES):
    """Train the toy, killed again and again; return the checkpoints at which it went on."""
    seed = random.randrange(2**32)
    print(f"seed of the instants: {seed}")
    instants = random.Random(seed)
    checkpoints = folder / "run" / "checkpoints"
    starts = []
    for _ in range(times):
        starts.append(latest_checkpoint(checkpoints))
        before = set(checkpoints.glob("step-*"))
        processes = start(folder, num_ranks=num_ranks, overrides=overrides)
        # From the next checkpoint on, so that each start gets further than the one before; a
        # checkpoint takes a few milliseconds, so that some are killed within.
        if wait_for(lambda: set(checkpoints.glob("step-*")) - before, processes[0]):  # noqa: B023
            time.sleep(instants.uniform(0, 0.05))
        kill(processes)
    finish(start(folder, num_ranks=num_ranks, overrides=overrides))
    return starts


def test_a_run_killed_at_random_instants_ends_bit_identical(tmp_path):
    finish(start(tmp_path / "whole"))
    assert len(set(kill_and_go_on(tmp_path / "killed", 5))) > 2
    assert_identical(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_run_killed_at_twenty_random_instants_ends_bit_identical(tmp_path, num_ranks):
    finish(start(tmp_path / "whole", num_ranks=num_ranks, overrides=LONG))
    starts = kill_and_go_on(tmp_path / "killed", 20, num_ranks, overrides=LONG)
    assert len(set(starts)) > 9
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_two_processes_killed_within_an_epoch_end_bit_identical(tmp_path):
    finish(start(tmp_path / "whole", num_ranks=2))
    ranks = start(tmp_path / "killed", num_ranks=2)
    # Step 56 is in the middle of an epoch: 448 draws of 23 examples.
    assert wait_for((tmp_path / "killed/run/checkpoints/step-56").exists, ranks[0])
    kill(ranks)
    assert not (tmp_path / "killed" / "run" / "finished.json").exists()
    finish(start(tmp_path / "killed", num_ranks=2))
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_going_on_with_another_number_of_processes_is_reported(tmp_path, caplog):
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
