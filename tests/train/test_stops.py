"""What stops a run: a full disk, a file that vanishes, another run. Its checkpoints stay."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from ranks import end, finish, start_ranks
from safetensors.torch import load_file
from torch.utils.data import get_worker_info
from toy import TASKS, ToyTask, toy_recipe, toy_task, train_toy

from lxmert.cli.main import main
from lxmert.train.loop import train
from lxmert.train.state import latest_checkpoint

OVERRIDES = ("loop.checkpoint_every=4", "loop.evaluate_every=", "loop.log_every=2")


LIMITED = """
import resource, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from toy import train_toy

sys.modules["torch.utils.tensorboard"] = None  # its thread would be the first to fail
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    train_toy(Path(sys.argv[2]), *sys.argv[4:])
except OSError as problem:
    print(problem)
"""
"""Trains in a process whose files cannot grow beyond a size, as on a disk that is full."""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_full_disk_keeps_the_last_checkpoint_and_the_same_command_resumes(programs, tmp_path):
    train_toy(tmp_path / "whole", *OVERRIDES)
    # As if the run had been interrupted after step 16, and the disk were full by now.
    shutil.copytree(tmp_path / "whole", tmp_path / "full")
    run, good = tmp_path / "full" / "run", tmp_path / "full/run/checkpoints/step-16"
    shutil.rmtree(run / "checkpoints" / "step-20")
    for name in ("finished.json", "model.safetensors", "curve.png"):
        (run / name).unlink()
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    limit = max(map(len, before.values())) - 9
    # Not a fork: that hangs in OpenMP where this process has already computed with threads.
    given = Path(__file__).parent, tmp_path / "full", str(limit), *OVERRIDES
    command = [programs / "python", "-c", LIMITED, *given]
    message = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "step-20 cannot be written, is the disk full?" in message
    assert f"the last good checkpoint is {good}: fix the cause, and rerun" in message
    assert "step 20 had losses value " in message
    assert ", parity " in message
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before
    assert list((run / "checkpoints").iterdir()) == [good]
    train_toy(tmp_path / "full", *OVERRIDES)
    ours, theirs = (load_file(tmp_path / n / "run/model.safetensors") for n in ("full", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Vanishing(ToyTask):
    """A file that an example is read from is gone."""

    gone = 7

    def example(self, index, epoch):
        if index == self.gone:
            raise FileNotFoundError(f"no image {index}.png: was it moved?")
        return super().example(index, epoch)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_stops_the_run_with_its_name_and_every_loss(tmp_path, workers):
    recipe = toy_recipe(
        tmp_path, "loop.checkpoint_every=1", "loop.log_every=1", f"loop.workers={workers}"
    )
    task = Vanishing(recipe.settings, seed=recipe.seed)
    with pytest.raises(OSError, match="no image 7") as stopped:
        train(recipe, task, tmp_path / "run", cpu=True)
    message = str(stopped.value)
    # Number 7 is drawn in the third step.
    assert message.startswith("stopped after step 2 of 20: ")
    assert "no image 7.png: was it moved?; step 2 had losses value " in message
    assert ", parity " in message
    assert "Traceback" not in message
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").name == "step-2"
    assert json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])["step"] == 2
    assert train(recipe, toy_task(recipe), tmp_path / "run", cpu=True)
    assert TASKS["toy"] is ToyTask


class Slow(ToyTask):
    """A second process trains in the same folder while this one writes a checkpoint."""

    folder = None
    messages = ()

    def evaluate(self, *, device, limit=None):
        part = self.folder / "run" / "checkpoints" / "step-9.part"
        part.mkdir()
        with pytest.raises(ValueError, match="run is being written by another process") as refused:
            train_toy(self.folder)
        assert part.is_dir(), "of the run that was there first"
        part.rmdir()
        self.messages = (*self.messages, str(refused.value))
        return super().evaluate(device=device, limit=limit)


def test_two_runs_in_one_folder_are_rejected_and_the_first_continues(tmp_path):
    """The second one removed the checkpoint that the first was writing, and both wrote the log."""
    train_toy(tmp_path / "whole")
    recipe = toy_recipe(tmp_path / "ours")
    task = Slow(recipe.settings, seed=recipe.seed)
    task.folder = tmp_path / "ours"
    train(recipe, task, tmp_path / "ours" / "run", cpu=True)
    assert len(task.messages) == 4
    ours, theirs = (load_file(tmp_path / n / "run/model.safetensors") for n in ("ours", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert train_toy(tmp_path / "ours"), "it is finished, and nobody holds the folder any more"


@pytest.fixture(autouse=True)
def heard():
    """Hear Ctrl-C even where the tests run in the background of a script, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(ToyTask):
    """Signals come while the gradients of a step are computed."""

    at = 6
    signals = (signal.SIGINT,)
    steps = 0

    def losses(self, model, batch):
        self.steps += model.training
        if self.steps == self.at and model.training:
            for number in self.signals:
                os.kill(os.getpid(), number)
        return super().losses(model, batch)


def interrupted(folder, *overrides, at=6, signals=(signal.SIGINT,)):
    """Train the toy, interrupted in a step; return what the interruption says."""
    recipe = toy_recipe(folder, *overrides)
    task = Interrupted(recipe.settings, seed=recipe.seed)
    task.at, task.signals = at, signals
    handlers = [signal.getsignal(number) for number in signals]
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(recipe, task, folder / "run", cpu=True)
    assert [signal.getsignal(number) for number in signals] == handlers
    return str(stopped.value)


MORE_SIGNALS = (
    (1, (signal.SIGTERM,)), (1, (2, 15, 15)), (6, (signal.SIGINT,)), (20, (signal.SIGTERM,)),
    (20, (2, 15, 15)),
)  # fmt: skip

RARE = ("loop.checkpoint_every=100", "model.dropout=0.25")


def assert_same_end(ours, theirs):
    one, other = (load_file(folder / "run" / "model.safetensors") for folder in (ours, theirs))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.long
@pytest.mark.parametrize(
    ("at", "signals"),
    [
        (1, (signal.SIGINT,)),
        (6, (signal.SIGTERM,)),
        (6, (2, 15, 15)),
        (20, (signal.SIGINT,)),
        *(pytest.param(at, signals, marks=pytest.mark.slow) for at, signals in MORE_SIGNALS),
    ],
)
def test_an_interrupted_run_saves_the_step_and_resumes_there(tmp_path, at, signals, capfd):
    """Ctrl-C before the first checkpoint lost everything; the message said that it went on."""
    train_toy(tmp_path / "whole", *RARE)
    message = interrupted(tmp_path / "cut", *RARE, at=at, signals=signals)
    assert message == (
        f"stopped after step {at} of 20, which is saved: the same command resumes there"
    )
    assert latest_checkpoint(tmp_path / "cut/run/checkpoints").name == f"step-{at}"
    assert capfd.readouterr().err.count("stopping once this step is saved") == 1
    assert train_toy(tmp_path / "cut", *RARE) == train_toy(tmp_path / "whole", *RARE)
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize(
    ("every", "saved"),
    [
        (100, "after step 5 of 20; nothing is saved: the same command starts from the first step"),
        (4, "after step 5 of 20, the last saved step is 4: the same command resumes there"),
    ],
)
def test_a_second_interruption_stops_at_once(tmp_path, every, saved):
    """What was lost was not said."""
    overrides = (f"loop.checkpoint_every={every}",)
    message = interrupted(tmp_path, *overrides, signals=(signal.SIGINT, signal.SIGINT))
    assert message == f"stopped {saved}"


def test_an_ignored_signal_stays_ignored(tmp_path):
    """Ctrl-C must not stop a run that a script started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        recipe = toy_recipe(tmp_path)
        assert train(recipe, Interrupted(recipe.settings, seed=3), tmp_path / "run", cpu=True)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_trains_without_signals(tmp_path):
    """Python sets handlers in the main thread only: ValueError."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train_toy, tmp_path).result()


class Noisy(ToyTask):
    """Ctrl-C goes to all processes of a terminal, and torchrun passes on what it gets."""

    number = signal.SIGINT
    group = None

    def example(self, index, epoch):
        if index == 7 and epoch == 0 and get_worker_info() is not None:
            os.killpg(self.group, self.number)
        return super().example(index, epoch)


def train_noisily(folder, number):
    os.setsid()
    recipe = toy_recipe(folder, *RARE, "loop.workers=1")
    task = Noisy(recipe.settings, seed=recipe.seed)
    task.number, task.group = number, os.getpgrp()
    try:
        train(recipe, task, folder / "run", cpu=True)
    except KeyboardInterrupt as stopped:
        sys.exit(130 if "is saved: the same command resumes" in str(stopped) else 1)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_of_a_group_leave_the_workers_of_the_loader_to_the_run(tmp_path, number):
    """They died of them, and with them the step that was to be saved."""
    assert end(start_ranks(lambda rank: train_noisily(tmp_path, number), 1)) == [130]
    assert train_toy(tmp_path, *RARE, "loop.workers=1")


def interrupt_rank(folder, rank, signaled):
    try:
        if rank != signaled:
            train_toy(folder, *RARE)
        else:
            interrupted(folder, *RARE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(130 if rank == signaled else 1)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("signaled", [0, 1])
def test_all_processes_stop_after_the_same_step(tmp_path, signaled):
    """One of two that stops alone leaves the other waiting for hours."""
    finish(start_ranks(lambda rank: train_toy(tmp_path / "whole", *RARE), 2))
    ranks = start_ranks(lambda rank: interrupt_rank(tmp_path / "cut", rank, signaled), 2)
    assert end(ranks) == [130, 130]
    assert latest_checkpoint(tmp_path / "cut/run/checkpoints").name == "step-7"
    finish(start_ranks(lambda rank: train_toy(tmp_path / "cut", *RARE), 2))
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


def test_the_command_says_where_it_stopped(tmp_path, monkeypatch, capsys):
    """It said the same of every command, whatever was lost."""

    def stop(*args, **options):
        raise KeyboardInterrupt("stopped after step 6 of 20, which is saved")

    monkeypatch.setattr("lxmert.workflows.training.train_recipe", stop)
    monkeypatch.setattr("lxmert.workflows.training.read_with_options", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["lxmert", "train", "custom", "-o", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "lxmert: stopped after step 6 of 20, which is saved\n"


def test_scores_that_are_no_numbers_stop_the_run(tmp_path):
    """NaN went into log.jsonl and finished.json, which then were no JSON."""
    recipe = toy_recipe(tmp_path)
    task = toy_task(recipe)
    task.evaluate = lambda **_: {"score": 1.0, "draw": math.nan}
    with pytest.raises(
        FloatingPointError, match="after step 6 draw of the validation split is nan"
    ):
        train(recipe, task, tmp_path / "run", cpu=True)
