"""Checkpoints: everything that the next step depends on, complete or not there at all.

A checkpoint is written to a temporary folder, its manifest last, and then renamed. The learning
rate and the order of the examples are functions of the step and need no state.
"""

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn
from torch.amp.grad_scaler import GradScaler

RandomState = dict[str, object]
"""State of the random generators of one process by library; tensors and plain values only."""

_MANIFEST = "manifest.json"
_PART = ".part"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        best: highest value of the task's best metric so far; None before the first evaluation.
        rows: steps that were not logged yet, as `Meter.rows` has them.
    """

    step: int = 0
    best: float | None = None
    rows: list[list[float]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None,
    random_states: Sequence[RandomState],
    record: Mapping[str, object],
    keep: int = 2,
) -> Path:
    """Write a checkpoint and remove the oldest ones; only one process may do this.

    Args:
        folder: holds the checkpoints of the run.
        progress: how far the run has come.
        model: what is trained.
        optimizer: its optimiser.
        scaler: loss scaler of fp16; None for the other precisions.
        random_states: `random_state()` of every rank in order.
        record: recipe, versions and position, for people and for tools.
        keep: number of checkpoints that stay.

    Returns:
        The checkpoint's folder, `folder/step-N`.

    Raises:
        OSError: if it cannot be written, as the disk is full; the older ones are still there.
    """
    path = folder / f"step-{progress.step}"
    part = path.with_name(path.name + _PART)
    _remove(part)
    part.mkdir(parents=True)
    states = {
        "optimizer.pt": optimizer.state_dict(),
        "scaler.pt": None if scaler is None else scaler.state_dict(),
        "random.pt": list(random_states),
    }
    try:
        save_model(model, str(part / "model.safetensors"))
        for name, state in states.items():
            torch.save(state, part / name)
        sizes = {file.name: file.stat().st_size for file in sorted(part.iterdir())}
        manifest = {**record, "progress": asdict(progress), "files": sizes}
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError, RuntimeError) as problem:  # torch.save raises the last
        _remove(part)  # makes room
        reason = str(problem).strip().splitlines()[0]
        raise OSError(f"{path} cannot be written, is the disk full? ({reason})") from problem
    _remove(path)
    part.rename(path)
    for old in _complete(folder)[:-keep]:
        _remove(old)
    return path


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None,
) -> tuple[Progress, list[RandomState]]:
    """Restore what `save_checkpoint` wrote.

    Args:
        path: folder of the checkpoint.
        model: receives the weights.
        optimizer: receives its state.
        scaler: receives its state.

    Returns:
        How far the run had come, and the random states by rank, which the caller restores just
        before the next step.
    """
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    load_model(model, path / "model.safetensors")
    optimizer.load_state_dict(_load(path / "optimizer.pt"))
    if scaler is not None:
        scaler.load_state_dict(_load(path / "scaler.pt"))
    random_states: list[RandomState] = _load(path / "random.pt")
    return Progress(**manifest["progress"]), random_states


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint in a folder that need not exist; None without any."""
    complete = _complete(folder)
    return complete[-1] if complete else None


def remove_incomplete(folder: Path) -> list[Path]:
    """Remove what interrupted writing left in a folder of checkpoints, and return its paths."""
    complete = set(_complete(folder))
    left = [path for path in sorted(folder.glob("step-*")) if path not in complete]
    for path in left:
        _remove(path)
    return left


def random_state() -> RandomState:
    """Return the state of this process's random generators."""
    # numpy's global generator is nothing that we draw from, but a task's library may.
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _uses_cuda() else None,
    }


def restore_random_state(state: RandomState) -> None:
    """Put this process's random generators into a state that `random_state` returned."""
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
    # Not is_available(): asking for the state would start CUDA in a run that stays on the CPU.
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    complete = [path for path in folder.glob("step-*") if _is_complete(path)]
    return sorted(complete, key=lambda path: int(path.name.removeprefix("step-")))


def _is_complete(path: Path) -> bool:
    if path.suffix == _PART or not (path / _MANIFEST).is_file():
        return False
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    files = {name: path / name for name in manifest["files"]}
    return all(
        file.is_file() and file.stat().st_size == manifest["files"][name]
        for name, file in files.items()
    )


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _remove(path: Path) -> None:
    """Remove a folder if it is there; its manifest first, so that no half of it looks complete."""
    (path / _MANIFEST).unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)
