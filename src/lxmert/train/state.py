"""Checkpoints: the complete state of a run after a step, written atomically.

A checkpoint is written to a temporary folder, its manifest last, and then renamed. The manifest
has the checksum of every file, so that a run never resumes from a damaged one. The learning rate
and the order of the examples are functions of the step and need no state.
"""

import logging
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn
from torch.amp.grad_scaler import GradScaler

from lxmert.files import read_json_object, sha256, write_json
from lxmert.names import reason
from lxmert.weight_files import DAMAGE

RandomState = dict[str, object]
"""State of the random generators of one process, by library; tensors and plain values only."""

_MANIFEST = "manifest.json"
_PART = ".part"
_KEPT = 2
"""Checkpoints to keep."""

_WEIGHTS = "model.safetensors"
_STATES = ("optimizer.pt", "scaler.pt", "random.pt", "progress.pt")

_logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: completed optimizer steps.
        best: highest value of the task's best metric so far; None before the first evaluation.
        best_metrics: all metrics of that evaluation.
        stale: evaluations since then.
        total_steps: steps of the run, if it ends earlier than planned; None otherwise.
        seconds: time of all steps and evaluations, over all interruptions.
        rows: steps that are not logged yet, as in `Meter.rows`.
    """

    step: int = 0
    best: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    total_steps: int | None = None
    seconds: float = 0.0
    rows: list[list[float]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    *,
    model: nn.Module,
    optimizer: Mapping[str, Any],
    scaler: GradScaler | None,
    random_states: Sequence[RandomState],
    record: Mapping[str, object],
) -> Path:
    """Write a checkpoint and remove the oldest ones; only one process may call this.

    Args:
        folder: folder of the run's checkpoints.
        progress: progress of the run.
        model: the whole model.
        optimizer: the state of its whole optimizer.
        scaler: loss scaler of fp16; None for the other precisions.
        random_states: `random_state()` of every rank, in order.
        record: recipe and versions, as information for readers of the manifest.

    Returns:
        The folder of the checkpoint, `folder/step-N`.

    Raises:
        OSError: if it cannot be written, such as on a full disk; older ones are kept.
    """
    path = folder / f"step-{progress.step}"
    part = path.with_name(path.name + _PART)
    _remove(part)
    part.mkdir(parents=True)
    states = (
        dict(optimizer),
        None if scaler is None else scaler.state_dict(),
        list(random_states),
        asdict(progress),
    )
    try:
        save_model(model, str(part / _WEIGHTS))
        for name, state in zip(_STATES, states, strict=True):
            torch.save(state, part / name)
        files = {name: _describe(part / name) for name in (_WEIGHTS, *_STATES)}
        manifest = {**record, "step": progress.step, "files": files}
        write_json(part / _MANIFEST, manifest, indent=2)
    except (OSError, SafetensorError, RuntimeError) as problem:  # torch.save raises the last
        _remove(part)  # frees its disk space
        told = reason(problem)
        raise OSError(f"{path} cannot be written, is the disk full? ({told})") from problem
    _remove(path)
    part.rename(path)
    for old in _complete(folder)[:-_KEPT]:
        _remove(old)
    return path


def load_weights(path: Path, model: nn.Module) -> None:
    """Restore the weights that `save_checkpoint` wrote, before the model is shared.

    Args:
        path: folder of the checkpoint, from `choose_checkpoint`.
        model: receives the weights.

    Raises:
        ValueError: if they do not fit.
    """
    with _explain(path):
        load_model(model, path / _WEIGHTS)


def load_state(
    path: Path,
    *,
    optimizer: torch.optim.Optimizer,
    own: Callable[[torch.optim.Optimizer, dict[str, Any]], dict[str, Any]],
    scaler: GradScaler | None,
) -> tuple[Progress, list[RandomState]]:
    """Restore the rest of what `save_checkpoint` wrote.

    Args:
        path: folder of the checkpoint, from `choose_checkpoint`.
        optimizer: receives its state.
        own: returns what this process keeps of the state of the whole optimizer.
        scaler: receives its state.

    Returns:
        The progress, and the random states by rank, which the caller restores just before the
        next step.

    Raises:
        ValueError: if the optimizer does not fit.
    """
    with _explain(path):
        optimizer.load_state_dict(own(optimizer, _load(path / "optimizer.pt")))
    if scaler is not None:
        scaler.load_state_dict(_load(path / "scaler.pt"))
    random_states: list[RandomState] = _load(path / "random.pt")
    return Progress(**_load(path / "progress.pt")), random_states


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn the errors of weights and states that do not fit into one sentence."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} has another model than this recipe ({reason}): undo the changes of the data "
            "or of this package, or choose another folder with -o"
        ) from error


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint in a folder; None without any, or without the folder."""
    complete = _complete(folder)
    return complete[-1] if complete else None


def saved_seconds(folder: Path) -> float:
    """Return `Progress.seconds` of the last checkpoint in a folder; 0 without any intact one."""
    path = latest_checkpoint(folder)
    with suppress(*DAMAGE):  # which choose_checkpoint reports
        return 0.0 if path is None else float(_load(path / "progress.pt")["seconds"])
    return 0.0


def choose_checkpoint(folder: Path) -> Path | None:
    """Return the newest intact checkpoint, and remove incomplete and damaged ones.

    Incomplete checkpoints are removed silently, damaged ones newer than the returned one with a
    warning. Only one process may call this.

    Args:
        folder: folder of the run's checkpoints; need not exist.

    Returns:
        The folder of the checkpoint; None without any.

    Raises:
        ValueError: if all checkpoints are damaged.
    """
    for path in folder.glob("step-*"):
        if path.name.endswith(_PART) or not (path / _MANIFEST).exists():
            _remove(path)
    damaged: dict[Path, str] = {}
    for path in reversed(_numbered(folder)):
        problem = _problem(path, checksums=True)
        if problem is None:
            for other, reason in damaged.items():
                _logger.warning("%s is damaged and removed: %s", other, reason)
                _remove(other)
            return path
        damaged[path] = problem
    if damaged:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
        raise ValueError(
            f"{folder} has only damaged checkpoints ({reasons}): restore one from a copy, or "
            "delete this folder to start again"
        )
    return None


def random_state() -> RandomState:
    """Return the state of the random generators of this process."""
    # The library of a task may use numpy's global generator.
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _uses_cuda() else None,
    }


def restore_random_state(state: RandomState) -> None:
    """Restore a state that `random_state` returned."""
    python, numpy, cuda = state["python"], state["numpy"], state["cuda"]
    assert isinstance(python, list)
    assert isinstance(numpy, list)
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state(("MT19937", numpy[0].numpy().astype(np.uint32), *numpy[1:]))  # noqa: NPY002
    assert isinstance(state["torch"], torch.Tensor)
    torch.set_rng_state(state["torch"])
    if isinstance(cuda, torch.Tensor) and _uses_cuda():
        torch.cuda.set_rng_state(cuda)


def _uses_cuda() -> bool:
    # Not is_available(): reading the state would initialize CUDA in a run on the CPU.
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _numbered(folder: Path) -> list[Path]:
    """Return the folders named `step-N`, oldest first."""
    paths = [path for path in folder.glob("step-*") if _number(path).isdecimal()]
    return sorted(paths, key=lambda path: int(_number(path)))


def _number(path: Path) -> str:
    return path.name.removeprefix("step-")


def _complete(folder: Path) -> list[Path]:
    """Return the checkpoints whose files all have the right size, oldest first."""
    return [path for path in _numbered(folder) if _problem(path, checksums=False) is None]


def _describe(file: Path) -> dict[str, object]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def _problem(path: Path, *, checksums: bool) -> str | None:
    """Return what is wrong with a checkpoint; `checksums` reads all of its files."""
    try:
        files = read_json_object(path / _MANIFEST, remedy="it cannot be checked").get("files")
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    for name in (_WEIGHTS, *_STATES):
        listed = files.get(name) if isinstance(files, dict) else None
        if not isinstance(listed, dict) or set(listed) != {"bytes", "sha256"}:
            return f"{_MANIFEST} has no size and checksum of {name}"
        if not (path / name).is_file():
            return f"{name} is missing"
        size = (path / name).stat().st_size
        if size != listed["bytes"]:
            return f"{name} has {size} bytes, expected {listed['bytes']}"
        if checksums and sha256(path / name) != listed["sha256"]:
            return f"the checksum of {name} differs"
    return None


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _remove(path: Path) -> None:
    """Remove a folder if it exists; its manifest first, so that the rest never looks complete."""
    (path / _MANIFEST).unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)
