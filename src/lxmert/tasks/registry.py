"""The tasks, and the kinds of recipes that lead to them."""

import torch

from lxmert.tasks.answering import AnsweringTask
from lxmert.tasks.custom_data import CustomDataTask
from lxmert.tasks.detection import DetectionTask
from lxmert.tasks.pairs import PairsTask
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.retrieval import RetrievalTask
from lxmert.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "answering": AnsweringTask,
    "detection": DetectionTask,
    "pairs": PairsTask,
    "pretraining": PretrainingTask,
    "retrieval": RetrievalTask,
}
"""Task classes by name; each is built from its settings and a seed."""

RECIPES: dict[str, type[Task]] = {**TASKS, "custom": CustomDataTask}
"""Values of `task` in a recipe. `workflows.training` prepares the data of a recipe for custom data,
and builds a task from the result."""


def build_task(name: str, settings: object, *, seed: int) -> Task:
    """Build a task from its settings; the same seed gives the same initial weights.

    Args:
        name: key of `TASKS`.
        settings: instance of the task's `settings_type`.
        seed: seed of the initial weights and of all other random choices.
    """
    torch.manual_seed(seed)
    return TASKS[name](settings, seed=seed)
