"""Sweeps: variants of recipes, each trained with several seeds by `lxmert train`.

Every run is an ordinary run folder, so the same call resumes an interrupted sweep. Runs that two
rows share are trained once. `sweep_report` makes the table and the figure.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from lxmert.model.bert import save_language_side
from lxmert.records import Items, Number, Record
from lxmert.tasks.inputs import input_files
from lxmert.tasks.registry import RECIPES
from lxmert.train.folder import check_folder, finished_metrics
from lxmert.train.recipes import BUNDLED, Recipe, read_recipe, read_tables

RESERVED = {"model.init_from": "init_from", "seed": "seeds"}
"""Recipe keys that the sweep sets itself -> the sweep's own key for them."""

_POLL_SECONDS = 0.2


class SweepStage(Record):
    """One kind of training, such as pretraining or answering.

    Attributes:
        recipe: path or name of its recipe.
        set: changes of that recipe in all rows, in the format of `--set`.
        metric: the compared score, named as in the task's evaluation; empty for a stage that only
            initializes others.
        output: what later stages are initialized from: the model, or its language encoder (as a
            BERT).
    """

    recipe: str
    set: Items[str] = ()
    metric: str = ""
    output: Literal["model", "language"] = "model"


class SweepRow(Record):
    """One arm of the comparison.

    Attributes:
        name: what differs.
        init_from: stages trained before the compared ones, in order; empty: the compared stages
            start from random weights.
        set: changes by stage, applied after the stage's own.
        paper: published scores of the same arm, by column name.
        line: in a learning curve, the line of this row.
        at: in a learning curve, its number of examples.
    """

    name: str
    init_from: Items[str] = ()
    set: dict[str, Items[str]] = Field(default_factory=dict)
    paper: dict[str, Number] = Field(default_factory=dict)
    line: str = ""
    at: int = 0


class Sweep(Record):
    """What is compared.

    Attributes:
        title: heading of the report.
        seeds: seeds of every row.
        stages: by name; those with a metric are compared.
        rows: the arms, in report order.
        set: changes of the recipes of all stages; overridden by those of a stage and of a row.
    """

    title: str
    seeds: Items[int]
    stages: dict[str, SweepStage]
    rows: Items[SweepRow]
    set: Items[str] = ()

    @property
    def compared(self) -> list[str]:
        """The stages whose metrics are compared."""
        return [name for name, stage in self.stages.items() if stage.metric]

    def problems(self) -> Iterator[str]:
        """Yield settings that are ignored, useless, or share a run folder."""
        if not (self.seeds and self.rows and self.compared):
            yield "a sweep needs at least one seed, one row and one stage with a metric"
        if not all(name.isprintable() for name in (self.title, *(r.name for r in self.rows))):
            yield "title and row names must be printable text in one line"
        for what, names in (("rows", [r.name for r in self.rows]), ("stages", [*self.stages])):
            folders = [slug(name) for name in names]
            if "" in folders or len(set(folders)) < len(folders):
                yield f"{what} need distinct names with a letter or digit, got {', '.join(names)}"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds must be distinct, got {self.seeds}"
        initial = {name for row in self.rows for name in row.init_from}
        for name in (s for s in self.stages if s not in initial and s not in self.compared):
            yield f"stage {name!r} has no metric and no row is initialized from it"
        changes = [*self.set, *(c for stage in self.stages.values() for c in stage.set)]
        for row in self.rows:
            reached = {*row.init_from, *self.compared}
            for name in {*row.init_from, *row.set} - self.stages.keys():
                yield f"row {row.name!r} names the unknown stage {name!r}"
            for name in (row.set.keys() - reached) & self.stages.keys():
                yield f"row {row.name!r} sets {name!r}, which is not in its init_from"
            changes += [change for each in row.set.values() for change in each]
        for key in (change.partition("=")[0].strip() for change in changes):
            if key in RESERVED:
                yield f"set changes {key}: use {RESERVED[key]} instead"
        for change in (change for change in changes if "=" not in change):
            yield f"set has {change!r}, expected KEY=VALUE"


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: run folder; its name is that of the stage.
        recipe: path or name of its recipe.
        overrides: changes of the recipe.
        parent: the run that it is initialized from; None for random weights.
        output_kind: as `SweepStage.output`.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    parent: "Run | None"
    output_kind: str

    @property
    def output(self) -> Path:
        """The folder that other runs are initialized from."""
        return self.folder / "language-side" if self.output_kind == "language" else self.folder

    def read(self) -> Recipe:
        """Read its recipe."""
        return read_recipe(Path(self.recipe), RECIPES, overrides=self.overrides)

    def is_finished(self) -> bool:
        """Whether it is trained and others can be initialized from it."""
        return finished_metrics(self.folder) is not None and self.output.is_dir()


Plan = dict[tuple[str, int, str], Run]
"""Row, seed, stage -> the run with its score."""


def read_sweep(path: Path) -> Sweep:
    """Read a sweep: a file, or a bundled sweep by name, such as `ablations`.

    Raises:
        FileNotFoundError: if the file or its base does not exist.
        ValueError: naming the file and every wrong key or value.
    """
    named = BUNDLED / "lab" / f"{path}.toml"
    path = named if not path.is_file() and named.is_file() else path
    tables = read_tables(path)
    if "task" in tables:
        raise ValueError(f"{path} is a training recipe: use lxmert train for it")
    try:
        return Sweep.from_dict(tables)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_plan(sweep: Sweep, output: Path) -> Plan:
    """Return the runs of a sweep; runs with the same recipe and parent are one run."""
    if output.is_relative_to(Path.cwd()):  # absolute and relative paths give the same runs
        output = output.relative_to(Path.cwd())
    plan: Plan = {}
    known: dict[tuple[object, ...], Run] = {}
    for seed in sweep.seeds:
        for row in sweep.rows:
            parent: Run | None = None
            for name in (*row.init_from, *sweep.compared):
                stage = sweep.stages[name]
                source = f"model.init_from={'' if parent is None else parent.output}"
                changes = (*sweep.set, *stage.set, source, f"seed={seed}", *row.set.get(name, ()))
                folder = output / slug(row.name) / f"seed-{seed}" / slug(name)
                run = Run(folder, stage.recipe, changes, parent, stage.output)
                run = known.setdefault((run.recipe, changes, parent, stage.output), run)
                plan[row.name, seed, name] = run
                parent = run if name in row.init_from else parent
    return plan


def check_plan(plan: Plan) -> None:
    """Read every recipe, so that mistakes are reported before training starts.

    Raises:
        FileNotFoundError: if a recipe does not exist.
        ValueError: if a recipe is wrong, a run folder belongs to another recipe, or two rows have
            the same runs.
    """
    rows: dict[frozenset[Path], str] = {}
    for name in dict.fromkeys(row for row, _, _ in plan):
        runs = frozenset(run.folder for (row, _, _), run in plan.items() if row == name)
        if runs in rows:
            raise ValueError(f"rows {rows[runs]!r} and {name!r} are the same: remove one")
        rows[runs] = name
    for run in dict.fromkeys(plan.values()):
        try:
            check_folder(run.folder, run.read())
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error


def check_inputs(plan: Plan) -> None:
    """Check the input files of unfinished runs, except those that other runs write.

    Raises:
        FileNotFoundError: naming run, setting and file.
    """
    runs = dict.fromkeys(plan.values())
    for run in (run for run in runs if finished_metrics(run.folder) is None):
        made = None if run.parent is None else run.parent.output
        for key, path in input_files(run.read().settings):
            if path != made and not path.exists():
                raise FileNotFoundError(f"{run.folder}: {key} is {path}, which does not exist")


def run_plan(plan: Plan, *, jobs: int, changed: Callable[[str], None]) -> dict[Run, str]:
    """Train all unfinished runs, `jobs` at a time, with one core each.

    Args:
        plan: the runs.
        jobs: number of concurrent processes.
        changed: called with a status line whenever a run starts or ends.

    Returns:
        Failed runs with the last line of their logs, and the runs that depend on them.
    """
    waiting = [run for run in dict.fromkeys(plan.values()) if not run.is_finished()]
    running: dict[Run, subprocess.Popen[bytes]] = {}
    failed: dict[Run, str] = {}
    total, shown = len(waiting), ""
    try:
        while waiting or running:
            for run in [run for run in waiting if run.parent in failed]:
                failed[run] = f"it depends on {run.parent.folder}"  # type: ignore[union-attr]
                waiting.remove(run)
            ready = [run for run in waiting if run.parent is None or run.parent.is_finished()]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running[run] = _start(run)
            ended = {run: code for run, p in running.items() if (code := p.poll()) is not None}
            for run, code in ended.items():
                del running[run]
                if problem := _finish(run, code):
                    failed[run] = problem
            names = " and ".join("/".join(run.folder.parts[-3:]) for run in running)
            done = total - len(waiting) - len(running) - len(failed)
            counts = (
                f"{done} of {total} runs finished, {len(failed)} failed, {len(waiting)} waiting"
            )
            if (status := f"{counts}, running: {names}" if names else counts) != shown:
                changed(shown := status)
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            with suppress(OSError):
                process.wait()
    return failed


def slug(name: str) -> str:
    """Convert a name to a folder name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _log_path(run: Run) -> Path:
    return run.folder.with_name(f"{run.folder.name}.log")


def _start(run: Run) -> "subprocess.Popen[bytes]":
    """Start `lxmert train` on one core, with its output in a log beside the run folder."""
    log = _log_path(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    changes = [argument for change in run.overrides for argument in ("--set", change)]
    command = [sys.executable, "-m", "lxmert", "train", run.recipe, "-o", str(run.folder), *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def _finish(run: Run, code: int) -> str:
    """Write what other runs need; return the reason of a failure, or an empty text."""
    if code == 0 and run.output_kind == "language":
        save_language_side(run.folder, run.output)
    if code == 0 and run.is_finished():
        return ""
    lines = _log_path(run).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no output'}"
