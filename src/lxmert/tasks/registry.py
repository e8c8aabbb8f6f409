"""The tasks that a recipe may name."""

import torch

from lxmert.tasks.answering import AnsweringTask
from lxmert.tasks.detection import DetectionTask
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "answering": AnsweringTask,
    "detection": DetectionTask,
    "pretraining": PretrainingTask,
}


def build_task(name: str, settings: object, *, seed: int) -> Task:
    """Make a task from its settings; the same seed gives the same first weights."""
    torch.manual_seed(seed)
    return TASKS[name](settings, seed=seed)  # type: ignore[call-arg]
