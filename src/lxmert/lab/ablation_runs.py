"""The runs of an ablation, side by side: each begins when what it starts from is finished."""

import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import mean

import torch

from lxmert.lab.ablation import Plan, Run
from lxmert.model.bert import save_language_side
from lxmert.train.folder import finished_metrics
from lxmert.workers import end_with_parent
from lxmert.workflows.training import train_recipe


@dataclass
class Standing:
    """How far the runs of a plan are.

    Attributes:
        left: runs that were not begun, in their order.
        running: when each run that is being made began, in seconds of `time.monotonic`.
        done: runs that are finished.
        failed: why a run, or what it starts from, came to nothing.
        seconds: how long finished runs took, by the name of their stage.
    """

    left: list[Run]
    running: dict[Run, float] = field(default_factory=dict)
    done: list[Run] = field(default_factory=list)
    failed: dict[Run, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def next_run(self) -> Run | None:
        """Return the first run that may begin; None while all wait for others."""
        ready = (run for run in self.left if run.start is None or run.start in self.done)
        return next(ready, None)

    def begin(self, run: Run) -> None:
        """Note that a run begins."""
        self.left.remove(run)
        self.running[run] = time.monotonic()

    def end(self, run: Run, problem: str) -> None:
        """Note that a run ended; where there is a problem, what starts from it is given up too."""
        seconds = time.monotonic() - self.running.pop(run)
        if not problem:
            self.done.append(run)
            self.seconds.setdefault(run.folder.name, []).append(seconds)
            return
        self.failed[run] = problem
        for other in list(self.left):  # a run stands behind the one that it starts from
            if other.start in self.failed:
                self.left.remove(other)
                self.failed[other] = f"it starts from {other.start.folder}, which failed"

    def reported(self) -> str:
        """Say it in a line, with the time that is left as far as the finished runs tell."""
        total = len(self.left) + len(self.running) + len(self.done) + len(self.failed)
        parts = [f"{len(self.done)} of {total} runs done"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        parts.append(f"{len(self.left)} to come")
        if self.running:
            names = ("/".join(run.folder.parts[-3:]) for run in self.running)
            parts.append(f"running: {' and '.join(names)}")
        if self.running and self.seconds:
            parts.append(f"about {timedelta(seconds=round(self._seconds_left()))} left")
        return ", ".join(parts)

    def _seconds_left(self) -> float:
        """Guess the time left: a run takes as long as others of its stage, or as all of them."""
        everything = mean(value for values in self.seconds.values() for value in values)

        def length(run: Run) -> float:
            return mean(self.seconds.get(run.folder.name, [everything]))

        now = time.monotonic()
        begun = (max(0.0, length(run) - now + since) for run, since in self.running.items())
        return (sum(begun) + sum(map(length, self.left))) / len(self.running)


def run_plan(plan: Plan, *, jobs: int, changed: Callable[[Standing], None]) -> dict[Run, str]:
    """Make all runs that are not finished; one that fails does not keep the others from it.

    Args:
        plan: the runs.
        jobs: number of runs at the same time, each in a process of its own, on one core.
        changed: called whenever runs have begun or ended.

    Returns:
        The runs that failed, each with the reason.

    Raises:
        ChildProcessError: the process of a run was killed.
    """
    runs = list(dict.fromkeys(plan.values()))
    standing = Standing(left=[run for run in runs if not run.is_done()])
    standing.done = [run for run in runs if run not in standing.left]
    # Processes are spawned, as forked ones would share the threads of torch.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent) as pool:
        try:
            _follow(standing, pool, jobs, changed)
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # else the pool waits for runs whose end nobody waits for
            raise
    return standing.failed


def _follow(
    standing: Standing, pool: ProcessPoolExecutor, jobs: int, changed: Callable[[Standing], None]
) -> None:
    """Begin and end runs until none is left."""
    futures: dict[Future[str], Run] = {}
    while True:
        while len(futures) < jobs and (run := standing.next_run()) is not None:
            standing.begin(run)
            futures[pool.submit(_train_apart, run)] = run
        changed(standing)
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            standing.end(futures[future], _problem_of(future))
            del futures[future]


def _problem_of(future: "Future[str]") -> str:
    """Return what stopped a run; empty if it is finished."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "the process of a run was killed, perhaps as memory ran out: give the same command "
            "again, with fewer --jobs"
        ) from error


def _train_apart(run: Run) -> str:
    """Train one run on one core, and say what stopped it; what it shows goes to a file beside it.

    Returns:
        The reason as one line; empty if the run is finished.
    """
    torch.set_num_threads(1)
    log = run.folder.with_name(f"{run.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as lines:
        os.dup2(
            lines.fileno(), 2
        )  # of this process; libraries keep the stream that they began with
        logging.basicConfig(format="%(message)s", force=True)
        logging.getLogger("lxmert").setLevel(logging.INFO)
        try:
            _train(run)
        except Exception as problem:  # whatever it is, it is this run's alone
            traceback.print_exc()
            return f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    return ""


def _train(run: Run) -> None:
    """Train one run to its end, and hand over of it what others start from."""
    if finished_metrics(run.folder) is None:
        train_recipe(run.read(), run.folder)
    if run.is_output == "language":
        save_language_side(run.folder, run.output)
