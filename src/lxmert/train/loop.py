"""The training loop: one recipe, one task, one folder; any number of processes.

The loss of an optimizer step is, for each objective, the sum over its valid targets divided by
their count over all micro-batches and ranks, times the objective's weight. The same batch therefore
gives the same update for any number of micro-batches and processes.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    broadcast_object_list,
    gather_object,
    send_to_device,
    set_seed,
)
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from lxmert.files import atomic_path
from lxmert.tasks.baselines import BASELINES
from lxmert.tasks.task import Batch, Task
from lxmert.train.curve import draw_curve
from lxmert.train.folder import (
    CHECKPOINTS,
    check_folder,
    close_folder,
    find_versions,
    finished_metrics,
    hold_folder,
    open_folder,
)
from lxmert.train.log import RunLog
from lxmert.train.meter import Meter
from lxmert.train.optim import build_optimizer, learning_rate, num_steps
from lxmert.train.processes import (
    copy_from_first,
    start_processes,
    sum_over_ranks,
)
from lxmert.train.recipes import Recipe, recipe_table, recipe_text
from lxmert.train.run import TrainingRun, failure, interruption, is_time_to_decay, shorten
from lxmert.train.sampling import RankShare, StepBatches, load_batches, split
from lxmert.train.settings import batch_problems, objective_problems, warmup_problems
from lxmert.train.sharding import Sharing, share
from lxmert.train.state import (
    Progress,
    choose_checkpoint,
    latest_checkpoint,
    load_state,
    load_weights,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from lxmert.train.stopping import StopRequest

T = TypeVar("T")

_CHECKPOINT_SECONDS = 60
"""Most seconds between two checkpoints, however slow the steps are."""

_logger = logging.getLogger(__name__)


def train(recipe: Recipe, task: Task, output: Path, *, cpu: bool = False) -> dict[str, float]:
    """Train a task's model, or resume an interrupted run in the same folder.

    Args:
        recipe: the settings.
        task: what to learn; its model is trained in place, and stays on the device of the run.
        output: folder of the run; `folder.py` lists its files.
        cpu: whether to train on the CPU even if there is a GPU.

    Returns:
        The final metrics of the validation split; empty on ranks other than 0.

    Raises:
        ValueError: the settings do not fit the number of processes, the device, the task or the
            run that is already in the folder; or another process trains in the folder.
        FloatingPointError: a loss is NaN or infinite; the last good checkpoint is kept.
        OSError: a file is missing or the disk is full; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM. The first signal stops the run after the current step,
            which is saved; a second Ctrl-C stops it immediately.
    """
    metrics = check_finished(recipe, output)
    if metrics is not None:
        return metrics
    accelerator = start_processes(recipe.loop.precision, cpu=cpu)
    total_steps = _count_steps(recipe, task, accelerator)
    with closing(hold_folder(output)) if accelerator.is_main_process else nullcontext():
        run, random_states = _start(recipe, task, output, accelerator, total_steps)
        with run.report:
            try:
                with StopRequest(notice=run.is_main) as stop:
                    _run_steps(run, random_states, stop)
                metrics = _finish(run)
            except KeyboardInterrupt as problem:
                raise KeyboardInterrupt(interruption(run)) from problem
            except (OSError, SafetensorError) as problem:
                raise OSError(failure(run, problem)) from problem
    if run.is_main:
        _logger.info("%s is finished after %d steps", output, run.total_steps)
    return metrics


def check_finished(recipe: Recipe, output: Path) -> dict[str, float] | None:
    """Return the metrics of a finished run, and log that; None for an unfinished run.

    Raises:
        ValueError: the folder has a run of another recipe, or a model without a recipe.
    """
    check_folder(output, recipe)
    metrics = finished_metrics(output)
    if metrics is not None:
        _logger.info("%s is finished: nothing to do; other data need another folder", output)
    return metrics


def _count_steps(recipe: Recipe, task: Task, accelerator: Accelerator) -> int:
    """Return the number of steps; reject settings that do not fit the task or the processes."""
    if len(task) == 0:
        raise ValueError(
            f"{type(task).__name__} has 0 training examples; expected at least one: "
            "check the tables of the recipe that name its data"
        )
    optim, parts = recipe.optim, recipe.loop.micro_batches * accelerator.num_processes
    total_steps = num_steps(optim, len(task))
    problems = [
        *batch_problems(optim.batch_size, parts),
        *(f"optim.{problem}" for problem in warmup_problems(optim, total_steps)),
        *objective_problems(optim, task.loss_weights),
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return total_steps


def _start(
    recipe: Recipe, task: Task, output: Path, accelerator: Accelerator, total_steps: int
) -> tuple[TrainingRun, list[dict[str, object]]]:
    """Prepare a run up to its first step; return it with the random states to restore."""
    if recipe.loop.gradient_checkpointing:
        _recompute_layers(task.model)
    task.model.to(accelerator.device)
    copy_from_first(task.model, accelerator)
    versions = find_versions()
    checkpoint: Path | None = None
    if accelerator.is_main_process:
        checkpoint = choose_checkpoint(output / CHECKPOINTS)
        open_folder(output, recipe_text(recipe), versions)
    (checkpoint,) = broadcast_object_list([checkpoint])
    if checkpoint is not None:
        load_weights(checkpoint, task.model)
    sharing = share(task, accelerator, recipe.loop.parallel)
    optimizer = build_optimizer(task.model, recipe.optim)
    set_seed(recipe.seed, device_specific=True)
    progress, random_states = _resume(checkpoint, sharing, optimizer, accelerator)
    report = RunLog(
        output / "log.jsonl",
        total_steps=progress.total_steps or total_steps,
        active=accelerator.is_main_process,
    )
    report.rewind(progress.step)
    run = TrainingRun(
        recipe=recipe,
        task=task,
        output=output,
        accelerator=accelerator,
        sharing=sharing,
        optimizer=accelerator.prepare_optimizer(optimizer),
        parameters=[p for group in optimizer.param_groups for p in group["params"]],
        total_steps=progress.total_steps or total_steps,
        progress=progress,
        meter=Meter(list(task.loss_weights), accelerator, rows=progress.rows),
        report=report,
        versions=versions,
    )
    return run, random_states


def _recompute_layers(model: nn.Module) -> None:
    """Keep only the inputs of the layers, and recompute the rest in the backward pass."""
    models = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if not models:
        raise ValueError(
            f"loop.gradient_checkpointing is true, but {type(model).__name__} has no layers that "
            "can be recomputed: remove it, and raise loop.micro_batches to save memory"
        )
    for module in models:
        # Renamed between the supported versions of transformers; the old name warns.
        new_name = "activation_checkpointing_enable"
        enable = getattr(module, new_name, module.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def _resume(
    checkpoint: Path | None,
    sharing: Sharing,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> tuple[Progress, list[dict[str, object]]]:
    """Load all but the weights; return progress and random states, empty without a checkpoint."""
    if checkpoint is None:
        return Progress(), []
    progress, random_states = load_state(
        checkpoint, optimizer=optimizer, own=sharing.own_state, scaler=accelerator.scaler
    )
    if accelerator.is_main_process:
        _logger.info("resumed after step %d, from %s", progress.step, checkpoint)
        if len(random_states) != accelerator.num_processes:
            _logger.warning(
                "%s was started with %d processes and resumes with %d: the examples and their "
                "order are the same, but dropout differs from an uninterrupted run",
                checkpoint.parents[1],
                len(random_states),
                accelerator.num_processes,
            )
    return progress, random_states


def _run_steps(run: TrainingRun, random_states: list[dict[str, object]], stop: StopRequest) -> None:
    """Train from the current step to the last one, or until a request to stop."""
    loop, batch_size = run.recipe.loop, run.recipe.optim.batch_size
    stream = _batches(run)
    run.task.model.train()
    if run.accelerator.process_index < len(random_states):
        restore_random_state(random_states[run.accelerator.process_index])
    logged_step, logged_time = run.progress.step, time.perf_counter()
    saved_time = time.perf_counter()
    while (step := run.progress.step + 1) <= run.total_steps:
        step_time = time.perf_counter()
        is_due = step_time - saved_time > _CHECKPOINT_SECONDS
        stops, is_due = _train_step(run, split(stream, loop.micro_batches), stop, is_due)
        run.progress.step = step
        run.report.advance(step)
        last = step == run.total_steps
        if last or step % loop.log_every == 0:
            _read_losses(run)
            seconds = (time.perf_counter() - logged_time) / (step - logged_step)
            _report_losses(run, batch_size / seconds)
            logged_step, logged_time = step, time.perf_counter()
        paused = time.perf_counter()
        if not last and loop.evaluate_every and step % loop.evaluate_every == 0:
            _read_losses(run)
            _evaluate(run)
        run.progress.seconds += time.perf_counter() - step_time
        if not last and is_time_to_decay(run, step):
            is_due = shorten(run) or is_due
        if last or stops or is_due or step % loop.checkpoint_every == 0:
            _read_losses(run)
            _save(run)
            saved_time = time.perf_counter()
        if stops or (last and stop.asked):
            raise KeyboardInterrupt
        logged_time += time.perf_counter() - paused


def _batches(run: TrainingRun) -> Iterator[Batch]:
    """Return the remaining micro-batches of this process."""
    share = RankShare(
        num_examples=len(run.task),
        seed=run.recipe.seed,
        batch_size=run.recipe.optim.batch_size,
        micro_batches=run.recipe.loop.micro_batches,
        rank=run.accelerator.process_index,
        num_ranks=run.accelerator.num_processes,
        mixture=getattr(run.task, "mixture", None),
    )
    batches = StepBatches(share, first_step=run.progress.step, last_step=run.total_steps)
    return iter(
        load_batches(
            run.task,
            batches,
            workers=run.recipe.loop.workers,
            pin_memory=run.accelerator.device.type == "cuda",
        )
    )


def _train_step(
    run: TrainingRun, batches: list[Batch], stop: StopRequest, is_due: bool
) -> tuple[bool, bool]:
    """Compute one optimizer step over its micro-batches.

    Args:
        run: the run.
        batches: the micro-batches of this process.
        stop: whether this process was asked to stop.
        is_due: whether this process wants a checkpoint.

    Returns:
        Whether the run stops after this step and whether it is saved; the same in all processes.
    """
    weights = run.weights(run.progress.step)
    own_counts = [_in_order(weights, run.task.counts(batch), "counts") for batch in batches]
    own = torch.tensor(own_counts, dtype=torch.float32).sum(dim=0).tolist()
    asked = [float(stop.asked), float(is_due)]
    total = sum_over_ranks(torch.tensor([*own, *asked]), run.accelerator)
    *counts, stops, saves = total.tolist()
    scales = [
        weight / count if count else 0.0
        for weight, count in zip(weights.values(), counts, strict=True)
    ]
    sums = torch.zeros(len(counts), device=run.accelerator.device)
    for number, (batch, batch_counts) in enumerate(zip(batches, own_counts, strict=True), 1):
        is_last = number == len(batches)
        sums += _backward(run, batch, batch_counts, scales, is_last=is_last)
    run.sharing.sum_gradients(run.parameters)
    norm = _clip(run)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.progress.step, run.recipe.optim, run.total_steps)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.meter.add(sums, norm, counts)
    stops_now = bool(stops) or (stop.asked and run.accelerator.num_processes == 1)
    return stops_now, bool(saves)


def _backward(
    run: TrainingRun, batch: Batch, counts: list[float], scales: list[float], *, is_last: bool
) -> Tensor:
    """Add the gradients of one micro-batch and return its loss sums, `[objectives]`."""
    batch = send_to_device(batch, run.accelerator.device, non_blocking=True)
    with run.accelerator.autocast():
        losses = run.sharing.losses(batch, is_last=is_last)
    ordered = _in_order(run.task.loss_weights, losses, "losses")
    # Skip objectives without targets: 0 times the NaN of an empty mean would be NaN.
    parts = [
        loss * scale
        for loss, count, scale in zip(ordered, counts, scales, strict=True)
        if count and scale
    ]
    if parts:
        run.accelerator.backward(sum(parts))
    else:
        run.sharing.backward_nothing()
    sums = [
        loss.detach().float() if count else torch.zeros((), device=run.accelerator.device)
        for loss, count in zip(ordered, counts, strict=True)
    ]
    return torch.stack(sums)


def _in_order(weights: Mapping[str, float], values: Mapping[str, T], method: str) -> list[T]:
    """Return values by objective in the order of the weights."""
    assert set(values) == set(weights), (
        f"{method} returned {sorted(values)}, but the objectives are {sorted(weights)}"
    )
    return [values[name] for name in weights]


def _clip(run: TrainingRun) -> Tensor:
    """Clip the norm of all gradients together; return the norm before clipping, `[]`."""
    run.accelerator.unscale_gradients(run.optimizer)
    gradients = [p.grad for p in run.parameters if p.grad is not None]
    norm = run.sharing.norm(gradients)
    if run.recipe.optim.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(run.parameters, run.recipe.optim.clip_norm, norm)
    return norm.to(run.accelerator.device)


def _read_losses(run: TrainingRun) -> None:
    """Read the losses of the last steps from the device; stop the run if one is not finite."""
    try:
        run.meter.read(run.progress.step)
    except FloatingPointError as problem:
        good = latest_checkpoint(run.output / CHECKPOINTS)
        raise FloatingPointError(
            f"{problem} (the last good checkpoint is {good or 'none'})"
        ) from problem


def _report_losses(run: TrainingRun, examples_per_second: float) -> None:
    step, optim = run.progress.step, run.recipe.optim
    left = (run.total_steps - step) * optim.batch_size / examples_per_second
    if (limit := run.recipe.loop.seconds) is not None:
        left = min(left, max(0.0, limit - run.progress.seconds))
    run.report.training(
        {
            "step": step,
            "epoch": step * optim.batch_size / len(run.task),
            "lr": learning_rate(step - 1, optim, run.total_steps),
            **run.meter.summary(run.weights(step - 1)),
            "examples_per_second": examples_per_second,
            "seconds_left": left,
        }
    )


def _evaluate(run: TrainingRun) -> dict[str, float]:
    """Evaluate the validation split on rank 0, and save the weights if they are the best so far."""
    metrics: dict[str, float] = {}
    run.sharing.gather()
    if run.is_main:
        modes = {module: module.training for module in run.task.model.modules()}
        run.task.model.eval()
        metrics = run.task.evaluate(
            device=str(run.accelerator.device), limit=run.recipe.loop.evaluate_limit
        )
        for module, training in modes.items():
            # Not train(): the task may keep parts of the model in evaluation mode.
            module.training = training
        _check_metrics(run, metrics)
        score, best = metrics[run.task.best_metric], run.progress.best
        is_best = best is None or score > best
        run.progress.stale = 0 if is_best else run.progress.stale + 1
        if is_best:
            run.progress.best, run.progress.best_metrics = score, metrics
        if is_best and run.recipe.loop.evaluate_every:
            run.task.save(run.output / "best")
        run.report.evaluation({"step": run.progress.step, "metrics": metrics, "best": is_best})
    run.accelerator.wait_for_everyone()
    run.sharing.scatter()
    return metrics


def _check_metrics(run: TrainingRun, metrics: Mapping[str, float]) -> None:
    """Stop the run if a metric is NaN or infinite."""
    assert run.task.best_metric in metrics, f"{run.task.best_metric} is not in {metrics}"
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise FloatingPointError(
            f"after step {run.progress.step} {broken[0]} of the validation split is "
            f"{metrics[broken[0]]}; expected finite metrics: look for NaN in the validation data, "
            "or lower optim.lr and train into another folder"
        )


def _save(run: TrainingRun) -> None:
    """Save a checkpoint with the random states of all processes."""
    run.progress.rows = run.meter.rows
    random_states = gather_object([random_state()])
    state = run.sharing.whole_state(run.optimizer.optimizer)
    run.sharing.gather()
    if run.is_main:
        save_checkpoint(
            run.output / CHECKPOINTS,
            run.progress,
            model=run.task.model,
            optimizer=state,
            scaler=run.accelerator.scaler,
            random_states=random_states,
            record={"recipe": recipe_table(run.recipe), "versions": run.versions},
        )
    run.accelerator.wait_for_everyone()
    run.sharing.scatter()


def _finish(run: TrainingRun) -> dict[str, float]:
    """Save the best weights, without evaluations before the last ones; mark the run as finished."""
    metrics = _evaluate(run)
    run.sharing.gather()
    if run.is_main:
        if run.recipe.loop.evaluate_every:
            shutil.copytree(run.output / "best", run.output, dirs_exist_ok=True)
            metrics = run.progress.best_metrics
        else:
            run.task.save(run.output)
        _draw(run)
        close_folder(run.output, metrics, steps=run.total_steps)
    run.accelerator.wait_for_everyone()
    return metrics


def _draw(run: TrainingRun) -> None:
    """Save the image of the run."""
    curve = draw_curve(
        run.report.lines(),
        total_steps=run.total_steps,
        metric=run.task.best_metric,
        baselines=BASELINES,
    )
    with atomic_path(run.output / "curve.png") as partial:
        curve.savefig(partial, format="png", dpi=100)
