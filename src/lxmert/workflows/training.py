"""One command from a recipe to a trained model; what custom data lack is made first, once."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from lxmert.data.check import Progress
from lxmert.hub import find_model
from lxmert.records import Record
from lxmert.tasks.answering import AnsweringSettings
from lxmert.tasks.baselines import BASELINES, judge
from lxmert.tasks.custom_data import CustomDataSettings, CustomDataTask
from lxmert.tasks.custom_files import load_report, open_custom_files, read_splits
from lxmert.tasks.custom_start import has_grid
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.registry import RECIPES, build_task
from lxmert.tasks.task import Task
from lxmert.tasks.texts import ModelSettings
from lxmert.train.folder import finished_metrics, hold_folder
from lxmert.train.loop import check_finished, train
from lxmert.train.processes import start_processes
from lxmert.train.recipes import Recipe, read_recipe
from lxmert.weights.table import find_name
from lxmert.workflows.custom_regions import prepare_regions, region_settings
from lxmert.workflows.run_report import REPORT, report_run
from lxmert.workflows.trials import finished_plan, hold_trials, train_in_budget

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def read_with_options(
    path: Path, overrides: Sequence[str], options: Mapping[str, object]
) -> Recipe:
    """Read a recipe, and put options of the command into its table `[data]`.

    Args:
        path: the recipe.
        overrides: as `read_recipe` takes them.
        options: value by name of a setting, such as `limit_images`; None where none is given.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: it is wrong, or its task does not have such a setting.
    """
    recipe = read_recipe(path, RECIPES, overrides=overrides)
    known = recipe.settings.to_dict()["data"]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise ValueError(
                f"--{name.replace('_', '-')} is for custom data, and {path} is a recipe of the "
                f"task {recipe.task}, which has no such setting: leave it out"
            )
    lower = {n: value.lower() if isinstance(value, str) else value for n, value in given.items()}
    # As JSON with its quotation marks: a budget of 30 would be a number, and not named as wrong.
    added = [f"data.{name}={json.dumps(value)}" for name, value in lower.items()]
    return read_recipe(path, RECIPES, overrides=[*overrides, *added]) if added else recipe


def train_recipe(
    recipe: Recipe,
    output: Path,
    *,
    cpu: bool = False,
    progress: Progress = lambda what, done, total: None,  # noqa: ARG005
) -> dict[str, float]:
    """Prepare what a recipe needs, and train; the same call resumes an interrupted run.

    Args:
        recipe: the settings.
        output: folder of the run.
        cpu: whether to leave GPUs alone.
        progress: called while data are prepared.

    Returns:
        The final metrics of the validation split; on ranks other than 0 nothing.

    Raises:
        ValueError: the data or the settings do not fit, or another process works in the folder.
        OSError: a file is missing, or the disk is full.
        FloatingPointError: a loss became NaN or infinite.
    """
    if not isinstance(recipe.settings, CustomDataSettings):
        metrics = check_finished(recipe, output)
        if metrics is not None:
            return metrics
        task = build_task(recipe.task, _with_published(recipe.settings), seed=recipe.seed)
        return train(recipe, task, output, cpu=cpu)
    has_budget = recipe.settings.data.budget is not None
    if has_budget and finished_plan(recipe, output):
        metrics = finished_metrics(output)
    else:
        metrics = check_finished(recipe, output)
    if metrics is not None:
        _report(recipe, output, cpu=cpu, progress=progress)  # unless it was interrupted before
        return metrics
    accelerator = start_processes(recipe.loop.precision, cpu=cpu)
    first = bool(accelerator.is_main_process)

    def in_folder(prepare: Callable[[], T]) -> T:
        lock = closing(hold_folder(output)) if first else nullcontext()
        with accelerator.main_process_first(), lock:
            return prepare()

    def make_task(changed: Recipe) -> Task:
        local = replace(changed, settings=_with_published(changed.settings))
        who = {"first": first, "checked": has_budget}
        device = str(accelerator.device)
        return in_folder(
            lambda: _custom_data(local, output, **who, device=device, progress=progress)
        )

    def check() -> None:
        in_folder(lambda: _check(recipe, output, first=first, progress=progress))

    if has_budget:
        with hold_trials(output) if first else nullcontext():
            metrics = train_in_budget(recipe, output, check, make_task, accelerator, cpu=cpu)
    else:
        metrics = train(recipe, make_task(recipe), output, cpu=cpu)
    if first:
        _sum_up(metrics, output)
        _report(recipe, output, cpu=cpu, progress=progress)
    return metrics


def _report(recipe: Recipe, output: Path, *, cpu: bool, progress: Progress) -> None:
    """Report what a model of custom data learned, if that was not done."""
    settings = recipe.settings
    if not isinstance(settings, CustomDataSettings) or (output / REPORT).is_file():
        return
    training, validation = read_splits(settings.data, output, seed=recipe.seed)
    report_run(
        output,
        training,
        validation,
        Path(settings.data.images),
        is_grid=settings.data.extractor is None and has_grid(output),
        device="cpu" if cpu or not torch.cuda.is_available() else "cuda",
        progress=lambda done, total: progress("report", done, total),
    )


def _with_published(settings: Record) -> Record:
    """Return the settings with the folder of a published model instead of its name."""
    model = getattr(settings, "model", None)
    if not isinstance(model, ModelSettings) or model.init_from is None:
        return settings
    start = model.init_from
    if Path(start).exists() or find_name(start) is None:
        return settings
    return settings.replace(model=model.replace(init_from=str(find_model(start))))


def _sum_up(metrics: Mapping[str, float], output: Path) -> None:
    """Say once more what was trained on, and if nothing was learned."""
    for line in load_report(output).summary():
        _logger.info("%s", line)
    scores_by_baseline = {name: {OVERALL: metrics[name]} for name in BASELINES if name in metrics}
    if len(scores_by_baseline) == len(BASELINES):
        warning = judge(metrics, scores_by_baseline)
        if warning:
            _logger.warning("%s", warning)


def _check(recipe: Recipe, folder: Path, *, first: bool, progress: Progress) -> None:
    """Check custom data once for all trials; raise `ValueError` if they cannot be used."""
    settings = recipe.settings
    assert isinstance(settings, CustomDataSettings)
    longest = settings.model.max_text_length
    open_custom_files(
        settings.data, folder, seed=recipe.seed, longest=longest, first=first, progress=progress
    )


def _custom_data(
    recipe: Recipe,
    folder: Path,
    *,
    device: str,
    first: bool,
    checked: bool,
    progress: Progress,
) -> Task:
    """Prepare custom data and build the task, with an existing or a jointly trained extractor.

    Args:
        recipe: with the settings of custom data.
        folder: of the run.
        device: where an existing extractor computes.
        first: whether this process prepares the data, and the others wait for it.
        checked: whether the data were checked before, with the report in the folder.
        progress: called while data are prepared.
    """
    settings = recipe.settings
    assert isinstance(settings, CustomDataSettings)
    start = settings.model.init_from
    if settings.data.extractor is None and (start is None or has_grid(start)):
        torch.manual_seed(recipe.seed)
        return CustomDataTask.prepare(
            settings,
            seed=recipe.seed,
            folder=folder,
            first=first and not checked,
            progress=progress,
        )
    if first:
        prepare_regions(
            settings, folder, seed=recipe.seed, device=device, checked=checked, progress=progress
        )
    ready = region_settings(settings, folder)
    name = "answering" if isinstance(ready, AnsweringSettings) else "pairs"
    return build_task(name, ready, seed=recipe.seed)
