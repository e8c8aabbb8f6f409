"""What stops a run: a full disk, a file that vanishes, another run. Its checkpoints stay."""

import json
import multiprocessing
import resource
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from toy import TASKS, ToyTask, toy_recipe, toy_task, train_toy

from lxmert.train.loop import train
from lxmert.train.state import latest_checkpoint

OVERRIDES = ("loop.checkpoint_every=4", "loop.evaluate_every=", "loop.log_every=2")


def limited(folder, limit, queue):
    """Train in a process whose files cannot grow beyond a size, as on a disk that is full."""
    sys.modules["torch.utils.tensorboard"] = None  # its thread would be the first to fail
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        train_toy(folder, *OVERRIDES)
    except OSError as problem:
        queue.put(str(problem))
    else:
        queue.put("")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_full_disk_keeps_the_last_checkpoint_and_the_same_command_goes_on(tmp_path):
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
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=limited, args=(tmp_path / "full", limit, queue))
    process.start()
    message = queue.get(timeout=120)
    process.join()
    assert "step-20 cannot be written, is the disk full?" in message
    assert f"the last good checkpoint is {good}: fix it, and give the same" in message
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
    """A second process is told to train in the same folder while this one writes a checkpoint."""

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


def test_two_runs_in_one_folder_are_refused_and_the_first_goes_on(tmp_path):
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
