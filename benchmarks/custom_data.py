"""Training on custom data: the loop compared with the bare step, the input pipeline, memory.

Run it as `python benchmarks/custom_data.py`; it prints JSON. It generates sets of 1,000 and of
100,000 images with four questions each and trains on them like `lxmert train custom`. Memory is
private to the process: mapped pages are shared and reclaimable. The loop and the bare step
(forward, backward, clipping, optimizer) are timed in turns on the same batches; the fastest turn of
each step counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from corpus import Memory, private_megabytes
from PIL import Image
from torch import nn

from lxmert.devices import computes_bf16
from lxmert.tasks.custom_data import CustomDataSettings, CustomDataTask
from lxmert.tasks.task import Batch
from lxmert.train.loop import train
from lxmert.train.optim import build_optimizer
from lxmert.train.recipes import Recipe
from lxmert.train.sampling import RankShare, StepBatches
from lxmert.workflows.training import read_with_options, train_recipe

RECIPE = Path(__file__).parent.parent / "src/lxmert/recipes/custom.toml"
SIZES = (1_000, 100_000)
QUESTIONS, SIDE, TURNS, STEPS, WARM, MEMORY_STEPS, BATCHES = 4, 64, 5, 40, 8, 60, 100


def make_set(folder: Path, num_images: int) -> None:
    """Write images of one distinct color each, and questions that images share."""
    (folder / "images").mkdir()
    colors = ("red", "green", "blue")
    with (folder / "train.jsonl").open("w") as train_file, (folder / "valid.jsonl").open("w") as v:
        for number in range(num_images):
            name = f"{number:06d}.png"
            channels = np.array([number >> 16, number >> 8 & 255, number & 255])
            Image.new("RGB", (SIDE, SIDE), tuple(channels.tolist())).save(folder / "images" / name)
            file = v if number % 50 == 0 else train_file
            for question in range(QUESTIONS):
                asked = colors[(number + question) % 3]
                text = f"is there a {asked} shape in this image, or what is it number {question}?"
                answer = "yes" if channels[question % 3] % 2 else asked
                line = {"image": name, "question": text, "answer": answer}
                file.write(json.dumps(line) + "\n")


def recipe_for(folder: Path, *more: str) -> Recipe:
    """Return the bundled recipe for a set, without evaluations during training."""
    files = [f"data.train={folder / 'train.jsonl'}", f"data.valid={folder / 'valid.jsonl'}"]
    fixed = ["loop.evaluate_every=", "loop.evaluate_limit=32", "loop.checkpoint_every=100000"]
    length = ["optim.epochs=", "optim.min_steps="]
    overrides = [*files, f"data.images={folder / 'images'}", *fixed, *length, *more]
    return read_with_options(RECIPE, overrides, {})


def measure_memory(folder: Path) -> dict[str, float]:
    """Train some steps in this process and measure its memory."""
    torch.zeros(1).sum()  # what torch itself takes is in the memory before
    before, memory = private_megabytes(), Memory()
    recipe = recipe_for(folder, f"optim.steps={MEMORY_STEPS}", "optim.warmup_steps=10")
    started = time.perf_counter()
    train_recipe(recipe, folder / "run", cpu=True)
    return {
        "images": len(list((folder / "images").iterdir())),
        "seconds_first": time.perf_counter() - started,
        "private_megabytes_before": before,
        "private_megabytes_after": private_megabytes(),
        "private_megabytes_peak": memory.peak,
        "resident_megabytes_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


class TimedTask(CustomDataTask):
    """Custom-data task that times its steps, from the count of one batch to that of the next.

    Attributes:
        times: wall and processor time at the start of each step, in seconds.
    """

    times: list[tuple[float, float]]

    def counts(self, batch: Batch) -> dict[str, float]:
        """Note the time."""
        self.times.append((time.perf_counter(), time.process_time()))
        return super().counts(batch)


def measure_speed(folder: Path) -> dict[str, object]:
    """Time the input pipeline on one core, and the loop compared with the bare step."""
    recipe = recipe_for(folder, f"optim.steps={STEPS}", "optim.warmup_steps=10")

    def make() -> TimedTask:
        assert isinstance(recipe.settings, CustomDataSettings)
        torch.manual_seed(recipe.seed)
        task = TimedTask.prepare(recipe.settings, seed=recipe.seed, folder=folder / "speed")
        task.times = []
        return task

    task = make()
    pipeline = time_pipeline(task, recipe.optim.batch_size)
    batches = [collate(task, draws) for draws in draw(task, recipe, STEPS)]
    loop, bare = [], []
    for turn in range(TURNS):
        task = make()
        train(recipe, task, folder / f"turn-{turn}", cpu=True)
        loop.append(steps_of(task))
        task = make()
        step_bare(recipe, task, batches)
        bare.append(steps_of(task))
    # The fastest turn of each step: other load on the machine only adds time.
    loop_seconds, bare_seconds = (np.min(turns, axis=0).sum(axis=0) for turns in (loop, bare))
    images = recipe.optim.batch_size * len(loop[0])
    return {
        "batch_pictures": recipe.optim.batch_size,
        "questions_a_picture": QUESTIONS,
        "threads": torch.get_num_threads(),
        **pipeline,
        "loop_pictures_per_second": images / loop_seconds[0],
        "bare_pictures_per_second": images / bare_seconds[0],
        "loop_over_bare_wall": bare_seconds[0] / loop_seconds[0],
        "loop_over_bare_processor": bare_seconds[1] / loop_seconds[1],
    }


def steps_of(task: TimedTask) -> npt.NDArray[np.float64]:
    """Return `[steps, 2]`, wall and processor seconds of each step but the first and the last."""
    return np.diff(np.array(task.times[WARM:], dtype=np.float64), axis=0)


def draw(task: CustomDataTask, recipe: Recipe, steps: int) -> StepBatches:
    """Return the example order of the loop in one process."""
    share = RankShare(len(task), recipe.seed, recipe.optim.batch_size, 1, 0, 1)
    return StepBatches(share, first_step=0, last_step=steps)


def collate(task: CustomDataTask, draws: Sequence[tuple[int, int]]) -> Batch:
    """Prepare a batch."""
    return task.collate([task.example(*one) for one in draws])


def time_pipeline(task: CustomDataTask, batch_size: int) -> dict[str, float]:
    """Prepare batches on one core; examples are images, each with its questions."""
    order = np.random.default_rng(7).permutation(len(task))
    rows = np.resize(order, batch_size * BATCHES).reshape(BATCHES, batch_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(2):  # the first time pages are read from the disk
        seconds, questions = [], 0
        for epoch, batch in enumerate(rows.tolist()):
            started = time.process_time()
            prepared = collate(task, [(index, epoch) for index in batch])
            seconds.append(time.process_time() - started)
            questions += len(prepared["owners"])
    torch.set_num_threads(threads)
    each = float(np.median(seconds))
    return {
        "pipeline_pictures_per_second_a_core": batch_size / each,
        "pipeline_questions_per_second_a_core": questions / BATCHES / each,
    }


def step_bare(recipe: Recipe, task: TimedTask, batches: Sequence[Batch]) -> None:
    """Run the same steps on prepared batches."""
    optimizer = build_optimizer(task.model, recipe.optim)
    parameters = list(task.model.parameters())
    task.model.train()
    for batch in batches:
        counts = task.counts(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
            losses = task.losses(task.model, batch)
        loss = torch.stack(
            [task.loss_weights[name] * losses[name] / counts[name] for name in losses]
        ).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, recipe.optim.clip_norm or 1.0)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Measure each size in a process of its own and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put temporary files")
    parser.add_argument("--measure", choices=("memory", "speed"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measured = {"memory": measure_memory, "speed": measure_speed}[arguments.measure]
        print(json.dumps(measured(arguments.folder)))
        return
    results: dict[str, object] = {"cores": len(os.sched_getaffinity(0))}
    peaks = []
    for num_images in SIZES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            make_set(Path(temporary), num_images)
            if num_images == min(SIZES):
                results["speed"] = run_self("speed", temporary)
            taken = run_self("memory", temporary)
            results[f"memory_{num_images}"] = taken
            peaks.append(taken["private_megabytes_peak"])
    results["peak_memory_ratio"] = peaks[1] / peaks[0]
    print(json.dumps(results, indent=1))


def run_self(what: str, folder: str) -> dict[str, float]:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--measure", what, "--folder", folder]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
