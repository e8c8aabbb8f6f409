"""Chooses how to begin with custom data by short trials, and trains within a time budget.

`plan.json` in the folder of the run records every decision as soon as it is made, so that a resumed
run makes the same ones. The trials themselves are ordinary runs in `trials/`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]

from lxmert.files import read_json_object, write_json
from lxmert.hub import DRAWINGS, find_model
from lxmert.locks import FolderLock
from lxmert.tasks.custom_data import CustomDataSettings, CustomDataTask
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.registry import RECIPES
from lxmert.tasks.task import Task
from lxmert.train.folder import CHECKPOINTS, FREE_KEYS
from lxmert.train.loop import train
from lxmert.train.recipes import Recipe, flatten, make_recipe, override, recipe_table
from lxmert.train.state import saved_seconds
from lxmert.workflows.backbones import save_backbone, suits_backbone

PLAN = "plan.json"
TRIALS = "trials"
CONTINUED = "-continued"
"""Ending of the name of a trial that continues another one."""

BACKBONE = "backbone"

_TRIAL_SHARE = 0.08
"""Share of the budget of one trial."""

_LONGEST_TRIAL = 60.0
"""Seconds of a trial at most; 40 s were enough to choose in the five worlds of docs/worlds.md."""

_NOT_TRAINED = ("scenes", "backbone")
"""Trials whose region extractor is not trained; the regions of all their images come first."""

_TRIAL_IMAGES = 500
"""Training images of such a trial."""

_LEAST_TRIAL = 8.0
"""Fewest seconds of a trial that tells anything."""

_TRAINED_RATE = 0.4
"""Learning rate of trained weights, as a share of that of random weights.

With the rate of random weights, 900 steps of questions about the nearest and the farthest of six
objects (Sort-of-CLEVR) reached 74% of held-out questions from drawings; with this one, 90%.
"""

_HEAD_START = {"random": 0.05, "scenes": 0.1}
"""Accuracy by which a trial has to lead the others.

`random`: after a minute, it and `drawings` may be equal by chance, as on images of 81 kinds of
emoji (34.0 and 33.9%); at the end of the budget of 8 min, they had 34 and 65%. `scenes` learns
faster only because it does not train its extractor: on textures it led by 7 points after 40 s, and
was at its limit of 83% after 5 min, when drawings had 96%.
"""

_STEP_QUESTIONS = 96
"""Questions of a step, about.

With 192, and so half as many steps, drawn faces and playing cards reached 55.0 and 43.6% in 8 min
on a slow processor, instead of 59.6 and 46.8%.
"""

_FEWEST_EXAMPLES, _MOST_IMAGES = 12, 64

RECIPE_BATCH = 16
"""`optim.batch_size` of the recipe `custom`, in place of which a number is chosen."""

_logger = logging.getLogger(__name__)

MakeTask = Callable[[Recipe], Task]
"""Prepares the data of a recipe, and builds its task."""


def train_in_budget(
    recipe: Recipe,
    output: Path,
    check: Callable[[], None],
    make_task: MakeTask,
    accelerator: Accelerator,
    *,
    cpu: bool,
) -> dict[str, float]:
    """Try the ways to begin, continue with the best one, and stop when the time is over.

    Args:
        recipe: for custom data, with `data.budget`.
        output: folder of the run.
        check: checks the data, before any trial; raises `ValueError` for data that no trial could
            use.
        make_task: prepares the data of a recipe, and builds its task.
        accelerator: the processes of the run.
        cpu: whether to leave GPUs alone.

    Returns:
        The final metrics, as `train` returns them.

    Raises:
        ValueError: if the budget is too small, the schedule of the learning rate knows no time, the
            data cannot be used, no trial succeeded, or the folder has another run.
    """
    assert isinstance(recipe.settings, CustomDataSettings)
    data = recipe.settings.data
    budget = _seconds(str(data.budget))
    if recipe.optim.schedule != "plateau":
        raise ValueError(
            f"optim.schedule is {recipe.optim.schedule}, which takes all steps whatever "
            f"data.budget ({data.budget}): use plateau, or train without --set data.budget="
        )
    processes = accelerator.num_processes
    plan = _Plan(recipe, output, accelerator)
    (trials,) = broadcast_object_list([_trials(recipe, output)])
    share = min(budget * _TRIAL_SHARE, _LONGEST_TRIAL)
    if len(trials) > 1 and share < _LEAST_TRIAL:
        least = _LEAST_TRIAL / _TRIAL_SHARE
        raise ValueError(
            f"data.budget is {data.budget}, too short for one trial: give at least "
            f"{least:.0f}s, or set data.start to one of {', '.join(trials)}"
        )
    check()
    if "backbone" in trials and "backbone" not in plan.trials:
        with accelerator.main_process_first():
            error = save_backbone(output / BACKBONE)
        if error and len(trials) == 1:
            raise ValueError(error)
        if error:
            _logger.warning("trial backbone failed: %s", error)
            plan.record("backbone", {"error": error})

    def run_trial(name: str, folder: str, seconds: float, *changes: str) -> None:
        if folder not in plan.trials:
            short = [*changes, f"loop.seconds={seconds}", "loop.evaluate_every="]
            if name in _NOT_TRAINED:
                limit = data.limit_images or _TRIAL_IMAGES
                short.append(f"data.limit_images={min(limit, _TRIAL_IMAGES)}")
            changed = _changed(recipe, [*trials[name], *short])
            plan.count_earlier(output / TRIALS / folder)
            done = _try(folder, changed, output, make_task, cpu=cpu, processes=processes)
            plan.record(folder, done)

    if len(trials) > 1:
        for name in trials:
            run_trial(name, name, share)
        finalists = plan.finalists(list(trials))
        seconds = plan.seconds("continued", budget, 1 / 3) if finalists else 0.0
        for name in finalists:
            initial = f"model.init_from={output / TRIALS / name}"
            run_trial(name, name + CONTINUED, seconds, initial)
    chosen = plan.choose(list(trials), budget)
    changes = [*trials[chosen], f"loop.seconds={plan.values['seconds']}"]
    if len(trials) > 1:
        changes.append(f"model.init_from={output / TRIALS / plan.last_trial(chosen)}")
    final = _changed(recipe, changes)
    task = make_task(final)
    return train(_with_batch(final, task, processes), task, output, cpu=cpu)


@contextmanager
def hold_trials(output: Path) -> Iterator[None]:
    """Lock the folder of the trials of a run, which two processes would mix up.

    Raises:
        ValueError: if another process has it.
    """
    folder = output / TRIALS
    folder.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(folder)):
        try:
            yield
        finally:
            with suppress(OSError):  # of a folder with trials
                folder.rmdir()


def finished_plan(recipe: Recipe, output: Path) -> bool:
    """Return whether a folder has the plan of this recipe; raise `ValueError` for another one."""
    path = output / PLAN
    if not path.is_file():
        return False
    old, new = flatten(read_json_object(path)["recipe"]), flatten(recipe_table(recipe))
    for key in {**old, **new}:
        if key not in FREE_KEYS and old.get(key) != new.get(key):
            raise ValueError(
                f"{key} is {new.get(key)}; the run in {output} was started with {old.get(key)}: "
                f"choose another folder with -o, or set {key} back"
            )
    return True


class _Plan:
    """The decisions of a run, which are written as soon as they are made."""

    def __init__(self, recipe: Recipe, output: Path, accelerator: Accelerator) -> None:
        self.path, self.is_main = output / PLAN, bool(accelerator.is_main_process)
        table = recipe_table(recipe)
        values: dict[str, Any] = {"recipe": table, "trials": {}, "spent": 0.0}
        if self.is_main and finished_plan(recipe, output):
            values = read_json_object(self.path)
        (self.values,) = broadcast_object_list([values])
        self._since = time.perf_counter()

    @property
    def trials(self) -> Mapping[str, Mapping[str, Any]]:
        """Result of each trial by name."""
        trials: dict[str, dict[str, Any]] = self.values["trials"]
        return trials

    def count_earlier(self, trial: Path) -> None:
        """Count the time of a trial before an interruption, up to its last checkpoint."""
        self.values["spent"] += saved_seconds(trial / CHECKPOINTS)

    def record(self, name: str, result: Mapping[str, Any]) -> None:
        """Add the result of a trial and the time that it took."""
        (result,) = broadcast_object_list([result])
        self.values["trials"][name] = result
        self._write()

    def finalists(self, names: list[str]) -> list[str]:
        """Return the two ways to begin whose trials are continued, if the first ones may mislead.

        They may where regions that are not trained lead by more than their head start: on images of
        handwritten digits they led by 14 points after 47 s and were at their limit of 66% after
        8 min, when drawings had 81%; in the world `skewed` they led by as much, and stayed ahead.
        """
        fair = self._fair_scores(names)
        leader = max(fair, key=fair.__getitem__, default=None)
        rivals = [name for name in fair if name not in _NOT_TRAINED]
        if leader not in _NOT_TRAINED or not rivals:
            return []
        return [max(rivals, key=fair.__getitem__), leader]

    def last_trial(self, name: str) -> str:
        """Return the folder of the last successful trial of a way to begin."""
        continued = name + CONTINUED
        return continued if "accuracy" in self.trials.get(continued, {}) else name

    def _fair_scores(self, names: list[str]) -> dict[str, float]:
        """Return the accuracy of each successful first trial, less its head start."""
        return {
            name: self.trials[name]["accuracy"] - _HEAD_START.get(name, 0.0)
            for name in names
            if "accuracy" in self.trials.get(name, {})
        }

    def seconds(self, key: str, budget: float, share: float) -> float:
        """Return a share of the seconds that were left of the budget when this was first asked."""
        if key not in self.values:
            left = max(budget - self.values["spent"], budget * _TRIAL_SHARE)
            (self.values[key],) = broadcast_object_list([round(share * left, 1)])
            self._write()
        return float(self.values[key])

    def choose(self, names: list[str], budget: float) -> str:
        """Choose by the accuracy on validation questions of the continued trials, if there are any.

        Otherwise, by that of the first trials, less their head start. The first among equals is
        chosen.

        Raises:
            ValueError: if all trials failed.
        """
        if "chosen" not in self.values:
            scores = self._fair_scores(names)
            continued = {
                name: self.trials[trial]["accuracy"]
                for name in names
                if (trial := self.last_trial(name)) != name
            }
            if len(names) > 1 and not scores:
                first = self.trials[names[0]]["error"]
                self.values["trials"] = {}  # so that the same command tries again
                self._write()
                raise ValueError(f"all trials failed; the first: {first}")
            left = self.seconds("seconds", budget, 1)
            best = continued or scores
            self.values["chosen"] = max(best, key=best.__getitem__) if best else names[0]
            self._write()
            if len(names) > 1:
                _logger.info("chosen: %s; %.0f s are left", self.values["chosen"], left)
        return str(self.values["chosen"])

    def _write(self) -> None:
        self.values["spent"] += time.perf_counter() - self._since
        self._since = time.perf_counter()
        if self.is_main:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.values, indent=1)


def _try(
    name: str, recipe: Recipe, output: Path, make_task: MakeTask, *, cpu: bool, processes: int
) -> dict[str, Any]:
    """Run one trial; return its accuracy on validation questions, or why it failed."""
    began = time.perf_counter()
    try:
        task = make_task(recipe)
        final = _with_batch(recipe, task, processes)
        metrics = train(final, task, output / TRIALS / name, cpu=cpu)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as problem:  # memory of a GPU
        _logger.warning("trial %s failed: %s", name, problem)
        return {"error": str(problem)}
    accuracy = metrics.get(OVERALL, metrics.get("accuracy", 0.0))
    seconds = time.perf_counter() - began
    _logger.info("trial %s: %.1f%% of validation questions, %.0f s", name, 100 * accuracy, seconds)
    return {"accuracy": accuracy, "seconds": round(seconds, 1)}


def _trials(recipe: Recipe, output: Path) -> dict[str, list[str]]:
    """Return the changes of the recipe by name of the trial.

    A pretrained backbone is tried if it suits the images, or did when the run began.
    """
    settings = recipe.settings
    assert isinstance(settings, CustomDataSettings)
    if settings.data.extractor is not None or settings.model.init_from is not None:
        return {"given": []}
    slower = f"optim.lr={recipe.optim.lr * _TRAINED_RATE:.3g}"
    known = {
        "drawings": [f"model.init_from={DRAWINGS}", slower],
        "random": [],
        "scenes": [f"model.init_from={find_model(None)}", slower],
        "backbone": [f"data.extractor={output / BACKBONE}"],
    }
    start = settings.data.start
    if start != "auto":
        return {start: known[start]}
    begun = (output / PLAN).is_file()
    if not ((output / BACKBONE).is_dir() if begun else suits_backbone(Path(settings.data.images))):
        del known["backbone"]
    return known


def _changed(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Return a recipe with other values and without a budget."""
    table = override(recipe_table(recipe), [*assignments, "data.budget="])
    return make_recipe(table, RECIPES)


def _with_batch(recipe: Recipe, task: Task, processes: int) -> Recipe:
    """Choose the examples of a step, unless the user has: about 96 questions, in equal parts."""
    if recipe.optim.batch_size != RECIPE_BATCH:
        return recipe
    examples = _STEP_QUESTIONS
    if isinstance(task, CustomDataTask):
        wanted = round(_STEP_QUESTIONS * len(task) / len(task.training))
        examples = min(_MOST_IMAGES, max(_FEWEST_EXAMPLES, wanted))
    parts = recipe.loop.micro_batches * processes
    size = max(parts, round(min(examples, len(task)) / parts) * parts)
    return _changed(recipe, [f"optim.batch_size={size}"])


def _seconds(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `30m` or `2h`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"data.budget is {text!r}, expected a duration such as 90s, 30m or 2h")
    return seconds
