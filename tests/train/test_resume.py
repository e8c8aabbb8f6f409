"""Interrupted runs end bit-identical to uninterrupted ones; real processes, killed for real."""

import json
import logging
import random
import shutil
import sys
import time

import numpy as np
import pytest
import torch
from ranks import NEEDS_FSDP, finish, kill, start_ranks, wait_for
from safetensors.torch import load_file
from toy import ToyNetwork, toy_recipe, toy_task, train_toy

from lxmert.files import sha256
from lxmert.train.loop import train
from lxmert.train.state import (
    choose_checkpoint,
    latest_checkpoint,
    random_state,
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


@pytest.mark.long
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


@pytest.mark.long
def test_two_processes_killed_within_an_epoch_end_bit_identical(tmp_path):
    overrides = ("optim.steps=80", *OVERRIDES[1:])
    finish(start(tmp_path / "whole", num_ranks=2, overrides=overrides))
    ranks = start(tmp_path / "killed", num_ranks=2, overrides=overrides)
    # Step 56 is in the middle of an epoch: 448 draws of 23 examples.
    assert wait_for((tmp_path / "killed/run/checkpoints/step-56").exists, ranks[0])
    kill(ranks)
    assert not (tmp_path / "killed" / "run" / "finished.json").exists()
    finish(start(tmp_path / "killed", num_ranks=2, overrides=overrides))
    assert_identical(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.long
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("seed=3", id="whole"),
        pytest.param("data.mix=[3.0, 1.0]", id="mixed", marks=pytest.mark.slow),
        pytest.param("loop.parallel=fsdp", id="sharded", marks=(pytest.mark.slow, NEEDS_FSDP)),
    ],
)
def test_a_run_resumes_on_four_two_and_one_processes_with_the_same_examples(tmp_path, setting):
    """In float64: another order of sums stays below the tolerance, another example does not."""
    overrides = ("optim.steps=90", "model.double=true", "loop.evaluate_every=7", setting)
    finish(start(tmp_path / "whole", overrides=overrides))
    for num_ranks, step in ((4, 12), (2, 48)):
        ranks = start(tmp_path / "moved", num_ranks=num_ranks, overrides=overrides)
        checkpoint = tmp_path / f"moved/run/checkpoints/step-{step}"
        assert wait_for(checkpoint.exists, ranks[0])
        kill(ranks)
        assert not (tmp_path / "moved/run/finished.json").exists()
    finish(start(tmp_path / "moved", overrides=overrides))
    for name in ("model.safetensors", "best/model.safetensors"):
        whole, moved = (load_file(tmp_path / run / "run" / name) for run in ("whole", "moved"))
        for key in set(whole) - {"calls"}:
            torch.testing.assert_close(moved[key], whole[key], rtol=1e-9, atol=1e-12)
    whole, moved = log(tmp_path / "whole"), log(tmp_path / "moved")
    assert [line["step"] for line in moved] == [line["step"] for line in whole]
    for one, other in zip(moved, whole, strict=True):
        assert one.get("losses", {}) == pytest.approx(other.get("losses", {}), rel=1e-6)


def test_going_on_with_another_number_of_processes_is_reported(tmp_path, caplog):
    overrides = ("optim.steps=9", "loop.checkpoint_every=4", "data.failing=-8")
    train_toy(tmp_path, *overrides)
    (tmp_path / "run" / "finished.json").unlink()
    state = tmp_path / "run" / "checkpoints" / "step-9" / "random.pt"
    states = torch.load(state, weights_only=True)
    torch.save(states * 2, state)
    manifest = state.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    content["files"]["random.pt"] = {"bytes": state.stat().st_size, "sha256": sha256(state)}
    manifest.write_text(json.dumps(content))
    train_toy(tmp_path, *overrides)
    assert "was started with 2 processes and resumes with 1" in caplog.text


def flip(path):
    """Turn one bit over in the middle of a file, whose size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fill(path):
    """Replace a file by others bytes of the same number."""
    path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256) + b"." * (
        path.stat().st_size % 256))  # fmt: skip


def edit_manifest(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


DAMAGE = {
    "weights, one bit": lambda last: flip(last / "model.safetensors"),
    "weights, other bytes": lambda last: fill(last / "model.safetensors"),
    "optimizer, one bit": lambda last: flip(last / "optimizer.pt"),
    "optimizer, other bytes": lambda last: fill(last / "optimizer.pt"),
    "optimizer, short": lambda last: (last / "optimizer.pt").write_bytes(b"short"),
    "random states, one bit": lambda last: flip(last / "random.pt"),
    "progress, other bytes": lambda last: fill(last / "progress.pt"),
    "scaler, missing": lambda last: (last / "scaler.pt").unlink(),
    "manifest, a list": lambda last: (last / "manifest.json").write_text("[1]"),
    "manifest, empty": lambda last: (last / "manifest.json").write_text(""),
    "manifest, no JSON": lambda last: (last / "manifest.json").write_bytes(b"\xff{"),
    "manifest, deep": lambda last: (last / "manifest.json").write_text("[" * 100_000),
    "manifest, no files": lambda last: edit_manifest(
        last / "manifest.json", lambda content: content.pop("files")
    ),
    "manifest, files a list": lambda last: edit_manifest(
        last / "manifest.json", lambda content: content.update(files=list(content["files"]))
    ),
    "manifest, sizes only": lambda last: edit_manifest(
        last / "manifest.json",
        lambda content: content.update(
            files={name: file["bytes"] for name, file in content["files"].items()}
        ),
    ),
}

SHORT = ("optim.steps=12", "model.dropout=0.25")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A run that is finished, with checkpoints after steps 8 and 12."""
    folder = tmp_path_factory.mktemp("whole")
    train_toy(folder, *SHORT)
    return folder


@pytest.fixture
def unfinished(tmp_path, short_run):
    """A copy of it that must resume."""
    shutil.copytree(short_run, tmp_path / "copy")
    (tmp_path / "copy" / "run" / "finished.json").unlink()
    return tmp_path / "copy"


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_not_resumed_from(unfinished, short_run, damage, caplog):
    """A checkpoint of the right size with other bytes was: accuracy 0.893 became 0.026, exit 0."""
    caplog.set_level(logging.INFO)
    last = unfinished / "run" / "checkpoints" / "step-12"
    DAMAGE[damage](last)
    train_toy(unfinished, *SHORT)
    assert_identical(unfinished, short_run)
    assert "step-12 is damaged and removed: " in caplog.text
    assert damage.split(",")[0].split()[0][:4] in caplog.text.replace("model", "weights")
    assert f"resumed after step 8, from {last.with_name('step-8')}" in caplog.text


def test_if_all_checkpoints_are_damaged_every_reason_is_given(unfinished):
    """A manifest that was a list ended the command with a traceback."""
    checkpoints = unfinished / "run" / "checkpoints"
    flip(checkpoints / "step-12" / "optimizer.pt")
    (checkpoints / "step-8" / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match=r"step-12: .* optimizer.pt differs; step-8: .*object"):
        train_toy(unfinished, *SHORT)
    assert {path.name for path in checkpoints.iterdir()} == {"step-8", "step-12"}


@pytest.mark.parametrize("left", ["no manifest", "temporary name"])
def test_a_half_written_checkpoint_is_ignored_and_removed(unfinished, short_run, left):
    checkpoints = unfinished / "run" / "checkpoints"
    last = checkpoints / "step-12"
    if left == "no manifest":
        (last / "manifest.json").unlink()
    else:
        last.rename(checkpoints / "step-12.part")
    assert latest_checkpoint(checkpoints).name == "step-8"
    assert choose_checkpoint(checkpoints).name == "step-8"
    assert [path.name for path in checkpoints.iterdir()] == ["step-8"]
    train_toy(unfinished, *SHORT)
    assert_identical(unfinished, short_run)


def test_a_copy_beside_the_checkpoints_is_left_alone(unfinished, short_run):
    """The name step-8-copy was taken for a number: ValueError of int()."""
    checkpoints = unfinished / "run" / "checkpoints"
    shutil.copytree(checkpoints / "step-8", checkpoints / "step-8-copy")
    train_toy(unfinished, *SHORT)
    assert_identical(unfinished, short_run)
    assert (checkpoints / "step-8-copy" / "manifest.json").exists()


def test_a_checkpoint_of_another_model_is_named(unfinished):
    """Data that had changed under the same recipe ended in torch's list of shapes."""
    recipe = toy_recipe(unfinished, *SHORT)
    task = toy_task(recipe)
    task.model = ToyNetwork(recipe.settings.model.replace(hidden_size=9))
    with pytest.raises(ValueError, match=r"step-12 has another model than this recipe"):
        train(recipe, task, unfinished / "run", cpu=True)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"metrics": []}', '{"metrics": {"score": "good"}}', "null", "[" * 10**5],
)
def test_a_damaged_end_of_a_run_is_one_sentence(unfinished, content):
    """An empty finished.json ended the command with a traceback."""
    finished = unfinished / "run" / "finished.json"
    finished.write_text(content)
    with pytest.raises(ValueError, match=r"finished.json .*: delete it, and rerun the command"):
        train_toy(unfinished, *SHORT)


@pytest.mark.parametrize("content", [b"task = ", b"\xff\xfe", b"x = " + b"[" * 10**5])
def test_a_damaged_recipe_of_a_run_is_one_sentence(unfinished, content):
    """Half a recipe.toml ended the command with a traceback, or with no word of the file."""
    (unfinished / "run" / "recipe.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"run/recipe.toml is not"):
        train_toy(unfinished, *SHORT)


def test_checkpoints_without_the_recipe_are_not_resumed_from(unfinished):
    """Those of any recipe were."""
    (unfinished / "run" / "recipe.toml").unlink()
    with pytest.raises(ValueError, match=r"has checkpoints but no recipe.toml"):
        train_toy(unfinished, *SHORT)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"loss": 1}', '{"step": "1", "losses": {}}', '{"step": 1}',
             '{"step": 1, "losses": {"value": "low"}}', "\udcff"],
)  # fmt: skip
def test_damaged_lines_of_the_log_are_counted_and_left_out(unfinished, short_run, line, caplog):
    """One of them ended the command with a traceback, before its first step or after its last."""
    path = unfinished / "run" / "log.jsonl"
    lines = path.read_text().splitlines()
    text = "\n".join([lines[0], line, *lines[1:], line]) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    train_toy(unfinished, *SHORT)
    assert "log.jsonl: removed 2 damaged lines, first line 2" in caplog.text
    assert log(unfinished) == log(short_run)


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
