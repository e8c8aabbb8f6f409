"""Ablations: rows of changed recipes, each trained with several seeds, compared in one table.

Every run is an ordinary folder of `lxmert train`, so that the same call goes on wherever an earlier
one was interrupted. Runs that two rows have in common are made once; `ablation_runs` makes them.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lxmert.tasks.inputs import input_files
from lxmert.tasks.registry import TASKS
from lxmert.train.folder import check_folder, finished_metrics
from lxmert.train.settings import Recipe, read_recipe, read_tables
from lxmert.train.tables import from_table, unknown_name


@dataclass(frozen=True)
class Stage:
    """One kind of training, such as pretraining, or answering questions.

    Attributes:
        recipe: path of the recipe that it starts from.
        set: changes of that recipe in all rows, as `--set` takes them.
        metric: the score that is compared, one of the names that the task's evaluation gives;
            empty for a stage that only prepares others.
        paper: published scores that stand beside it: keys of the rows' `paper`.
        is_output: what a following stage starts from: the whole model, or its language side only,
            as a BERT.
    """

    recipe: str
    set: tuple[str, ...] = ()
    metric: str = ""
    paper: tuple[str, ...] = ()
    is_output: Literal["model", "language"] = "model"


@dataclass(frozen=True)
class Row:
    """One arm of the comparison.

    Attributes:
        name: what is different about it.
        start: stages through which the model goes before the compared ones, in their order; empty:
            the compared stages start from random weights.
        set: changes by stage, as `--set` takes them, on top of the stage's own.
        paper: published scores of the same arm, by name of the data set.
        line: in a learning curve, the line that the row belongs to; all rows have one, or none.
        at: in a learning curve, the number of examples, at least 1 and another in each row of a
            line.
    """

    name: str
    start: tuple[str, ...] = ()
    set: dict[str, tuple[str, ...]] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    line: str = ""
    at: int = 0


_OWN_KEYS = {"model.init_from": "start", "seed": "seeds"}
"""Keys of recipes that an ablation sets in every run -> what decides about them."""

_BREAKING = ("Cc", "Zl", "Zp")
"""Unicode categories of what breaks a table."""


@dataclass(frozen=True)
class Ablation:
    """What is compared.

    Attributes:
        title: heading of the report.
        seeds: of the runs of every row.
        stages: by name; those with a metric are compared.
        rows: the arms, in the order of the report.
        set: changes of the recipes of all stages, as `--set` takes them; those of a stage and of a
            row come later and win.

    Raises:
        ValueError: if a row names a stage that is not there or that it does not go through, a
            score that no stage shows, or something twice; if a stage is of no use, two names would
            share a folder, or a `set` changes what the ablation decides; if rows do not form
            learning curves, though one of them is to; or if nothing is compared.
    """

    title: str
    seeds: tuple[int, ...]
    stages: dict[str, Stage]
    rows: tuple[Row, ...]
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds or not self.rows or not self.compared:
            raise ValueError(
                f"there are {len(self.seeds)} seeds, {len(self.rows)} rows and "
                f"{len(self.compared)} stages with a metric: at least one of each is needed"
            )
        _check_distinct("seed", self.seeds)
        for name in (
            self.title,
            *self.stages,
            *(n for row in self.rows for n in (row.name, row.line)),
        ):
            if any(unicodedata.category(character) in _BREAKING for character in name):
                raise ValueError(
                    f"{name!r} has a line break or another control character: remove it"
                )
        _check_folders("row", [row.name for row in self.rows])
        _check_folders("stage", self.stages)
        _check_changes(self.set)
        for row in self.rows:
            with _naming("row", row.name):
                self._check_row(row)
        for name, stage in self.stages.items():
            with _naming("stage", name):
                self._check_stage(name, stage)
        if any(row.line or row.at for row in self.rows):
            self._check_lines()

    def _check_row(self, row: Row) -> None:
        """Refuse what would be left out silently, or trained in the folder of something else."""
        _check_distinct("stage of start", row.start)
        scores = [name for stage in self.compared for name in self.stages[stage].paper]
        for names, known in (((*row.start, *row.set), list(self.stages)), (row.paper, scores)):
            for name in names:
                if name not in known:
                    raise ValueError(unknown_name(name, known))
        for name in row.start:
            if name in self.compared:
                raise ValueError(f"start names {name}, which has a metric: it is compared instead")
        unused = sorted(row.set.keys() - {*row.start, *self.compared})
        if unused:
            raise ValueError(
                f"set changes {unused[0]}, which is not in its start: add it there, or remove set"
            )
        for changes in row.set.values():
            _check_changes(changes)

    def _check_stage(self, name: str, stage: Stage) -> None:
        """Refuse a stage that is of no use, or shows no score beside those of the paper."""
        _check_changes(stage.set)
        if stage.paper and not stage.metric:
            raise ValueError(
                f"paper is {', '.join(stage.paper)}, but it has no metric to stand beside: give it "
                "one, or remove paper"
            )
        if not stage.metric and all(name not in row.start for row in self.rows):
            raise ValueError("no row goes through it: name it in the start of one, or remove it")

    def _check_lines(self) -> None:
        """Refuse rows that have no place in a learning curve."""
        for row in self.rows:
            if not row.line or row.at < 1:
                raise ValueError(
                    f"row {row.name!r} has the line {row.line!r} at {row.at}: in learning curves "
                    "every row needs a line, and at, which is at least 1"
                )
        _check_distinct("line and at", [(row.line, row.at) for row in self.rows])

    @property
    def compared(self) -> list[str]:
        """The stages whose metrics are compared."""
        return [name for name, stage in self.stages.items() if stage.metric]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: where it is kept; its name is that of the stage.
        recipe: path of its recipe.
        overrides: changes of it.
        start: the run that it starts from; None for random weights.
        is_output: as in `Stage`.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    start: "Run | None"
    is_output: str

    @property
    def output(self) -> Path:
        """The folder that others start from."""
        return self.folder / "language-side" if self.is_output == "language" else self.folder

    def read(self) -> Recipe:
        """Read its recipe."""
        return read_recipe(Path(self.recipe), TASKS, overrides=self.overrides)

    def is_done(self) -> bool:
        """Tell whether it is trained and can be started from."""
        return finished_metrics(self.folder) is not None and self.output.is_dir()


Plan = dict[tuple[str, int, str], Run]
"""Row, seed, stage -> the run that gives its score."""


def read_ablation(path: Path) -> Ablation:
    """Read the recipe of an ablation, laid over its `base`, where it names one.

    Raises:
        FileNotFoundError: there is no such file, or no such base.
        ValueError: it is no TOML, it is its own base, or a key or a value is wrong.
    """
    tables = read_tables(path)
    if "task" in tables:
        raise ValueError(f"{path} is a recipe of one run: use lxmert train for it")
    return from_table(Ablation, tables)


def make_plan(ablation: Ablation, output: Path) -> Plan:
    """Say which runs an ablation needs.

    Args:
        ablation: what is compared.
        output: folder of all runs.

    Returns:
        A run for each row, seed and stage, those with what they start from behind that; runs with
        the same recipe and start that hand over the same are one run, kept under the first row that
        needs it.
    """
    if output.is_relative_to(Path.cwd()):  # runs start from the same path, absolute or not
        output = output.relative_to(Path.cwd())
    plan: Plan = {}
    known: dict[tuple[object, ...], Run] = {}
    for seed in ablation.seeds:
        for row in ablation.rows:
            start: Run | None = None
            for name in (*row.start, *ablation.compared):
                run = _make_run(ablation, row, seed, name, start, output)
                key = (run.recipe, run.overrides, run.start, run.is_output)
                plan[row.name, seed, name] = known.setdefault(key, run)
                if name in row.start:
                    start = plan[row.name, seed, name]
    return plan


def check_plan(plan: Plan) -> None:
    """Read every recipe of a plan, so that a mistake shows before hours of training.

    Raises:
        FileNotFoundError: a recipe is not there.
        ValueError: a key or a value of one is wrong, or the folder of a run, be it finished, was
            made by another recipe; the message names the run. Or two rows have the same runs.
    """
    for run in dict.fromkeys(plan.values()):
        try:
            check_folder(run.folder, run.read())
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error
    rows: dict[frozenset[Path], str] = {}
    for name in dict.fromkeys(name for name, _, _ in plan):
        runs = frozenset(run.folder for (row, _, _), run in plan.items() if row == name)
        if runs in rows:
            raise ValueError(
                f"the rows {rows[runs]!r} and {name!r} are the same: let one set something else, "
                "or remove it"
            )
        rows[runs] = name


def check_inputs(plan: Plan) -> None:
    """Look for the files that the runs of a plan need, but for what other runs hand over.

    Raises:
        FileNotFoundError: one is not there; the message names the run and the setting.
    """
    runs = dict.fromkeys(plan.values())
    for run in (run for run in runs if finished_metrics(run.folder) is None):
        output = None if run.start is None else run.start.output
        for key, path in input_files(run.read().settings):
            if path != output and not path.exists():
                raise FileNotFoundError(
                    f"{run.folder}: {key} is {path}, which is not there: make it first, or name "
                    "another one"
                )


Metrics = Mapping[str, Mapping[str, Mapping[int, Mapping[str, float]]]]
"""Row -> compared stage -> seed, of the runs that are finished -> metrics."""


def collect(ablation: Ablation, plan: Plan) -> Metrics:
    """Return the metrics of the finished runs.

    Raises:
        ValueError: if the metric that a stage is compared by is none of them.
    """
    found: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for row in ablation.rows:
        found[row.name] = {stage: {} for stage in ablation.compared}
        for stage in ablation.compared:
            for seed in ablation.seeds:
                metrics = finished_metrics(plan[row.name, seed, stage].folder)
                if metrics is None:
                    continue
                metric = ablation.stages[stage].metric
                if metric not in metrics:
                    known = unknown_name(metric, list(metrics))
                    raise ValueError(f"stages.{stage}.metric: {known}")
                found[row.name][stage][seed] = metrics
    return found


def slug(name: str) -> str:
    """Return a name as a folder may be called."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _make_run(
    ablation: Ablation, row: Row, seed: int, name: str, start: Run | None, output: Path
) -> Run:
    """Put together the recipe of one stage of one row."""
    stage = ablation.stages[name]
    given = f"model.init_from={'' if start is None else start.output}"
    overrides = (*ablation.set, *stage.set, given, f"seed={seed}", *row.set.get(name, ()))
    folder = output / slug(row.name) / f"seed-{seed}" / slug(name)
    return Run(folder, stage.recipe, overrides, start, stage.is_output)


def _check_distinct(what: str, names: Iterable[object]) -> None:
    """Refuse a name that is given twice."""
    seen: set[object] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two times the same {what}, {name!r}: each must be another one")
        seen.add(name)


@contextmanager
def _naming(what: str, name: str) -> Iterator[None]:
    """Say of which row or stage a complaint is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what} {name!r}: {error}") from error


def _check_folders(what: str, names: Iterable[str]) -> None:
    """Refuse names of which no folder can be called, or the same one."""
    known: dict[str, str] = {}
    for name in names:
        folder = slug(name)
        if not folder:
            raise ValueError(f"the {what} {name!r} needs a letter a-z or a digit in its name")
        if folder in known:
            raise ValueError(
                f"the {what}s {known[folder]!r} and {name!r} would share the folder {folder}: give "
                "one of them another name"
            )
        known[folder] = name


def _check_changes(changes: Iterable[str]) -> None:
    """Refuse changes that would not hold, or undo what all rows have in common."""
    for change in changes:
        key, equals, _ = change.partition("=")
        key = key.strip()
        if not equals:
            raise ValueError(f"set has {change!r}; expected KEY=VALUE, such as optim.lr=5e-5")
        if key in _OWN_KEYS:
            raise ValueError(f"set changes {key}, which is not for set: use {_OWN_KEYS[key]}")
