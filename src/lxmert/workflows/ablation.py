"""Ablations: rows of changed recipes, each trained with several seeds, compared in one table.

Every run is an ordinary folder of `lxmert train`, so that the same call goes on wherever an earlier
one was interrupted. Runs that two rows have in common are made once.
"""

import logging
import multiprocessing
import re
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from lxmert.model.bert import save_language_side
from lxmert.tasks.registry import TASKS
from lxmert.train.folder import finished_metrics
from lxmert.train.settings import Recipe, read_recipe
from lxmert.train.tables import from_table, unknown_name
from lxmert.workflows.training import train_recipe

_LANGUAGE_SIDE = "language-side"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One kind of training, such as pretraining, or answering questions.

    Attributes:
        recipe: path of the recipe that it starts from.
        set: changes of that recipe in all rows, as `--set` takes them.
        metric: the score that is compared, one of the names that the task's evaluation gives;
            empty for a stage that only prepares others.
        paper: published scores that stand beside it: keys of the rows' `paper`.
        hands_over: what a following stage starts from: the whole model, or its language side only,
            as a BERT.
    """

    recipe: str
    set: tuple[str, ...] = ()
    metric: str = ""
    paper: tuple[str, ...] = ()
    hands_over: Literal["model", "language"] = "model"


@dataclass(frozen=True)
class Row:
    """One arm of the comparison.

    Attributes:
        name: what is different about it.
        start: stages through which the model goes before the compared ones, in their order; empty:
            the compared stages start from random weights.
        set: changes by stage, as `--set` takes them, on top of the stage's own.
        paper: published scores of the same arm, by name of the data set.
        line: in a learning curve, the line that the row belongs to.
        at: in a learning curve, the number of examples.
    """

    name: str
    start: tuple[str, ...] = ()
    set: dict[str, tuple[str, ...]] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    line: str = ""
    at: int = 0


@dataclass(frozen=True)
class Ablation:
    """What is compared.

    Attributes:
        title: heading of the report.
        seeds: of the runs of every row.
        stages: by name; those with a metric are compared.
        rows: the arms, in the order of the report.

    Raises:
        ValueError: if a row names a stage that is not there, or nothing is compared.
    """

    title: str
    seeds: tuple[int, ...]
    stages: dict[str, Stage]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.seeds or not self.rows or not self.compared:
            raise ValueError(
                f"there are {len(self.seeds)} seeds, {len(self.rows)} rows and "
                f"{len(self.compared)} stages with a metric: at least one of each is needed"
            )
        for row in self.rows:
            for name in (*row.start, *row.set):
                if name not in self.stages:
                    raise ValueError(f"row {row.name!r}: {unknown_name(name, list(self.stages))}")
        names = [slug(row.name) for row in self.rows]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two rows are called {min(twice)!r}: give each its own name")

    @property
    def compared(self) -> list[str]:
        """The stages whose metrics are compared."""
        return [name for name, stage in self.stages.items() if stage.metric]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: where it is kept.
        recipe: path of its recipe.
        overrides: changes of it.
        start: folder that it starts from; None for random weights.
        hands_over: as in `Stage`.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    start: Path | None
    hands_over: str


Plan = dict[tuple[str, int, str], Run]
"""Row, seed, stage -> the run that gives its score."""


def read_ablation(path: Path) -> Ablation:
    """Read the recipe of an ablation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or a key or a value is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; expected the recipe of an ablation in TOML")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise ValueError(f"{path} is no TOML ({problem}): correct that line") from problem
    return from_table(Ablation, table)


def make_plan(ablation: Ablation, output: Path) -> Plan:
    """Say which runs an ablation needs.

    Args:
        ablation: what is compared.
        output: folder of all runs.

    Returns:
        A run for each row, seed and stage, those with what they start from behind that; runs with
        the same recipe and start are one run, kept under the first row that needs it.
    """
    plan: Plan = {}
    known: dict[tuple[object, ...], Run] = {}
    for seed in ablation.seeds:
        for row in ablation.rows:
            start: Run | None = None
            for name in (*row.start, *ablation.compared):
                run = _make_run(ablation, row, seed, name, start, output)
                key = (run.recipe, run.overrides, run.start)
                plan[row.name, seed, name] = known.setdefault(key, run)
                if name in row.start:
                    start = plan[row.name, seed, name]
    return plan


def check_plan(plan: Plan) -> None:
    """Read every recipe of a plan, so that a mistake shows before hours of training.

    Raises:
        FileNotFoundError: a recipe is not there.
        ValueError: a key or a value of one is wrong; the message names the run.
    """
    for run in plan.values():
        try:
            _read(run)
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error


def run_plan(plan: Plan, *, jobs: int, finished: Callable[[int, int], None]) -> None:
    """Make all runs that are not finished.

    Args:
        plan: the runs.
        jobs: number of runs at the same time, each in a process of its own.
        finished: called with the numbers of runs done and in all.

    Raises:
        ValueError: if a recipe does not fit its data, or a folder holds another run.
    """
    runs = list(dict.fromkeys(plan.values()))
    done: set[Path] = set()
    if jobs == 1:
        for number, run in enumerate(runs, start=1):
            _train(run)
            finished(number, len(runs))
        return
    # Processes are spawned, as forked ones would share the threads of torch.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        while len(done) < len(runs):
            left = [run for run in runs if run.folder not in done]
            ready = [run for run in left if run.start is None or _owner(run.start) in done]
            futures = {pool.submit(_train_beside_others, run): run for run in ready}
            for future in as_completed(futures):
                future.result()
                done.add(futures[future].folder)
                finished(len(done), len(runs))


def collect(ablation: Ablation, plan: Plan) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the metrics of the finished runs: row -> compared stage -> one entry a seed."""
    return {
        row.name: {
            stage: [
                metrics
                for seed in ablation.seeds
                if (metrics := finished_metrics(plan[row.name, seed, stage].folder)) is not None
            ]
            for stage in ablation.compared
        }
        for row in ablation.rows
    }


def slug(name: str) -> str:
    """Return a name as a folder may be called."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _make_run(
    ablation: Ablation, row: Row, seed: int, name: str, start: Run | None, output: Path
) -> Run:
    """Put together the recipe of one stage of one row."""
    stage = ablation.stages[name]
    source = None if start is None else _handed_over(start)
    given = f"model.start={'' if source is None else source}"
    overrides = (*stage.set, given, f"seed={seed}", *row.set.get(name, ()))
    folder = output / slug(row.name) / f"seed-{seed}" / slug(name)
    return Run(folder, stage.recipe, overrides, source, stage.hands_over)


def _handed_over(run: Run) -> Path:
    return run.folder / _LANGUAGE_SIDE if run.hands_over == "language" else run.folder


def _owner(start: Path) -> Path:
    """Return the run that something was handed over from."""
    return start.parent if start.name == _LANGUAGE_SIDE else start


def _read(run: Run) -> Recipe:
    return read_recipe(Path(run.recipe), TASKS, overrides=run.overrides)


def _train_beside_others(run: Run) -> None:
    """Train one run on one core; what it would show on the screen goes to a file beside it."""
    torch.set_num_threads(1)
    log = run.folder.with_name(f"{run.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as lines, redirect_stderr(lines):
        _train(run)


def _train(run: Run) -> None:
    """Train one run to its end, or leave a finished one alone."""
    if finished_metrics(run.folder) is None:
        _logger.info("%s", run.folder)
        train_recipe(_read(run), run.folder)
    if run.hands_over == "language" and not _handed_over(run).is_dir():
        save_language_side(run.folder, _handed_over(run))
